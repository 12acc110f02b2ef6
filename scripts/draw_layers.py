"""Draw the rooms of the package in layers, from their import statements: docs/explanation/layers.svg and layers.txt.

python scripts/draw_layers.py [--check]

The layer of a room is one above the highest one that it imports, so every arrow points down. An arrow is drawn where
no other path of arrows leads from one room to the other; layers.txt has all imports. --check writes nothing and ends
with 1 if layers.txt is not current.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent))
from measure_code import Code, reached

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/explanation"


def layers(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Rooms of each layer by name, from those that import nothing; without a circle among them."""
    level: dict[str, int] = {}
    while left := [room for room in edges if room not in level]:
        free = [room for room in left if edges[room] <= level.keys()]
        if not free:
            raise ValueError(f"{left} import each other in a circle")
        level |= {room: 1 + max((level[other] for other in edges[room]), default=-1) for room in free}
    rows = range(1 + max(level.values()))
    return [sorted(room for room in edges if level[room] == row) for row in rows]


def reduced(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Imports without those that a path over another room implies."""
    return {
        room: {other for other in others if not any(other in reached(via, edges) for via in others - {other})}
        for room, others in edges.items()
    }


def table(edges: Mapping[str, set[str]]) -> str:
    """A line for each room, from the highest layer: its layer, its name and what it imports."""
    rows = [(level, room) for level, rooms in enumerate(layers(edges)) for room in rooms]
    lines = [f"{level:2}  {room:12}  {' '.join(sorted(edges[room]))}".rstrip() for level, room in reversed(rows)]
    return "\n".join(textwrap.fill(line, 76, subsequent_indent=" " * 18) for line in lines) + "\n"


def draw(edges: Mapping[str, set[str]]) -> Figure:
    """The layers, the highest at the top."""
    rows = layers(edges)
    most = max(map(len, rows))
    figure = Figure(figsize=(2.0 + 1.75 * most, 0.78 * len(rows)), layout="constrained")
    axes = figure.subplots()
    arrows = reduced(edges)
    place = _places(rows, arrows)
    for room, others in sorted(arrows.items()):
        for other in sorted(others):
            _draw_arrow(axes, place[room], place[other])
    for room, (across, up) in place.items():
        colour = "#dbe9f6" if up % 2 else "#eef3e2"
        axes.text(
            across, up, room, ha="center", va="center", fontsize=11, zorder=3,
            bbox={"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "#44546a"},
        )  # fmt: skip
    for level in range(len(rows)):
        axes.text(-1.6, level, f"{level}", ha="right", va="center", color="#666666", fontsize=10)
    axes.set_xlim(-1.9, 2.2 * (most - 1) + 2.0)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_axis_off()
    return figure


def _places(rows: list[list[str]], arrows: Mapping[str, set[str]]) -> dict[str, tuple[float, float]]:
    """Place of each room: near the mean of those that import it, each second layer half a step to the right."""
    most = max(map(len, rows))
    place: dict[str, tuple[float, float]] = {}
    for level in reversed(range(len(rows))):
        centre = {}
        for room in rows[level]:
            above = [place[other][0] for other, others in arrows.items() if room in others]
            centre[room] = sum(above) / len(above) if above else most * 1.1
        left = (most - len(rows[level])) * 1.1 + 0.8 * (level % 2)
        for column, room in enumerate(sorted(rows[level], key=lambda room: (centre[room], room))):
            place[room] = (left + 2.2 * column, level)
    return place


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", xy=(end[0], end[1] + 0.24), xytext=(start[0], start[1] - 0.24), zorder=1,
        arrowprops={"arrowstyle": "-|>", "color": "#9aa5b1", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare the table with the one that is stored")
    given = parser.parse_args()
    edges = Code(ROOT).edges
    stored = FOLDER / "layers.txt"
    if given.check:
        if stored.read_text(encoding="utf-8") != table(edges):
            sys.exit(f"{stored}: not current; run python scripts/draw_layers.py")
        return
    stored.write_text(table(edges), encoding="utf-8")
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "layers", "font.family": "sans-serif"}):
        draw(edges).savefig(FOLDER / "layers.svg", metadata={"Date": None, "Description": table(edges)})


if __name__ == "__main__":
    main()
