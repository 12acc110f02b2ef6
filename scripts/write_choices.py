"""Writes the tables of what can be chosen into the pages of docs/reference, between two markers in each.

docs/reference/options.md is read from conf/, docs/reference/metrics.md from the metrics themselves.

Usage: python scripts/write_choices.py [--check]; with --check nothing is written, and 1 means that a page is outdated.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from medseg.hydra_app import options
from medseg.hydra_app.conf import conf_dir
from medseg.labels import LabelTable
from medseg.metrics.metric import Metric, Pooled, Unit
from medseg.metrics.registry import builtin
from medseg.runtime.atomic import write_whole

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
PAGE, METRICS = REFERENCE / "options.md", REFERENCE / "metrics.md"
BEGIN = "<!-- choices: written by scripts/write_choices.py -->"
END = "<!-- end of choices -->"
_BETTER = {True: "larger", False: "smaller", None: "nearer to 0"}
_UNITS = {Unit.NONE: "–", Unit.LENGTH: "mm, m or px", Unit.VOLUME: "mm³, m² …"}


def choices() -> str:
    """The tables of the options of training."""
    return options.markdown(options.groups("train", [conf_dir()]))


def metrics_table() -> str:
    """A row for each metric of the package."""
    header = ("name", "title", "what it is", "unit", "range", "better", "missed structure", "false structure", "pooled")
    rows = [_row(name, cls()) for name, cls in builtin().items()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ["---"] * len(header), *rows))


def _row(name: str, metric: Metric) -> list[str]:
    stated = metric.stated(LabelTable.declare({"background": 0, "structure": 1}))
    costs = [str(stated[kind]) for kind in ("missed", "false")] if isinstance(stated, Mapping) else ["–", "–"]
    low, high = (f"{bound:g}".replace("inf", "∞") for bound in metric.range)
    return [
        f"`{name}`",
        metric.title,
        metric.description,
        _UNITS[metric.unit],
        f"{low} to {high}",
        _BETTER[metric.larger_is_better],
        *costs,
        "yes" if isinstance(metric, Pooled) else "no",
    ]


PAGES: Mapping[Path, Callable[[], str]] = {PAGE: choices, METRICS: metrics_table}
"""Page -> what stands between its markers."""


def filled(text: str, content: str) -> str:
    """The text of a page with ``content`` between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"expected the markers {BEGIN} and {END} in the page")
    return f"{before}{BEGIN}\n\n{content}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is outdated")
    check = parser.parse_args().check
    outdated = []
    for page, content in PAGES.items():
        text = page.read_text(encoding="utf-8")
        current = filled(text, content())
        if current != text:
            outdated.append(page)
        if current != text and not check:
            write_whole(page, current)
    if check and outdated:
        listed = ", ".join(str(page.relative_to(ROOT)) for page in outdated)
        print(f"{listed}: outdated; run python scripts/write_choices.py")
    return 1 if check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
