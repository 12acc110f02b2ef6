"""Figures: an image with its label and its prediction laid over it."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Float, Int, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from medseg.geometry.grid import Grid, reorient
from medseg.labels import IGNORE, LabelTable
from medseg.report.planes import Plane, fullest, planes_of

_IGNORED = (0.9, 0.9, 0.9, 0.6)
_ALPHA = 0.5
_PANEL_INCHES = 3.0


def overlay_figure(
    image: Num[np.ndarray, " *s"] | None,
    label: Int[np.ndarray, " *s"],
    pred: Int[np.ndarray, " *s"],
    table: LabelTable,
    grid: Grid,
    *,
    title: str = "",
) -> Figure:
    """Image, label and prediction side by side, in 2D once and in 3D for three orthogonal planes.

    Each plane is cut where the label has most foreground (the prediction, if the label has none). The
    white outline on the prediction is the labelled foreground. See ``planes_of`` for which way up.

    Args:
        image: One channel, shown between its 0.5th and 99.5th percentile; None for a black ground.
        label: Training index of each cell, or ``IGNORE`` (striped).
        pred: Training index of each cell.
        table: Names and colours of the classes.
        grid: Geometry of the three arrays.
        title: Above the figure.
    """
    axes_flips = grid.canonical()
    seen = grid.reorient(*axes_flips)
    shown = np.zeros(grid.shape, dtype=np.float32) if image is None else _window(image)
    image, label, pred = (reorient(cells, *axes_flips) for cells in (shown, label, pred))
    planes = planes_of(seen)
    ratios = [
        np.clip(seen.shape[p.rows] * seen.spacing[p.rows] / (seen.shape[p.columns] * seen.spacing[p.columns]), 0.3, 2.5)
        for p in planes
    ]
    figure = Figure(figsize=(3 * _PANEL_INCHES, _PANEL_INCHES * sum(ratios) + 0.8), layout="constrained")
    panels = figure.subplots(len(planes), 3, squeeze=False, height_ratios=ratios)
    foreground = label > 0 if (label > 0).any() else pred > 0
    for plane, row in zip(planes, panels, strict=True):
        index = fullest(foreground, plane)
        ground, truth, guess = (plane.cut(cells, index) for cells in (image, label, pred))
        where = f"{plane.name} {index}" if plane.through is not None else plane.name
        for panel, name, cells in zip(
            row, (f"image {where}", "label", "prediction (outline: label)"), (None, truth, guess), strict=True
        ):
            panel.imshow(ground, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            if cells is not None:
                panel.imshow(_colours(cells, table), interpolation="nearest")
            panel.set_title(name.strip(), fontsize=9)
            _dress(panel, plane, seen)
        if (truth > 0).any():
            row[2].contour(truth > 0, levels=[0.5], colors="white", linewidths=0.8)
    patches = [Patch(color=_rgb(c.colour), label=c.name) for c in table.classes[1:]]
    ignored = (
        [Patch(facecolor=_IGNORED, edgecolor="black", hatch="////", label="ignored")] if (label == IGNORE).any() else []
    )
    figure.legend(handles=patches + ignored, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def to_png(figure: Figure, *, dpi: int = 100) -> bytes:
    """The figure as the bytes of a PNG file."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=dpi)
    return target.getvalue()


def _window(image: Num[np.ndarray, " *s"]) -> Float[np.ndarray, " *s"]:
    """Image scaled to [0, 1] between its 0.5th and 99.5th percentile; 0 where it is not finite."""
    finite = np.isfinite(image)
    low, high = np.percentile(image[finite], [0.5, 99.5]) if finite.any() else (0.0, 1.0)
    return np.clip((np.where(finite, image, low) - low) / max(high - low, 1e-12), 0, 1)


def _rgb(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def _colours(cells: Int[np.ndarray, "h w"], table: LabelTable) -> Float[np.ndarray, "h w 4"]:
    """RGBA of each cell: its class's colour, clear on the background, striped where ignored."""
    palette = np.array([(*_rgb(c.colour), _ALPHA) for c in table.classes] + [_IGNORED])
    palette[0, 3] = 0
    rgba = palette[cells]  # IGNORE = -1 takes the last
    rgba[(cells == IGNORE) & (np.indices(cells.shape).sum(axis=0) % 4 < 2)] = (0, 0, 0, _ALPHA)
    return rgba


def _dress(panel: Axes, plane: Plane, seen: Grid) -> None:
    """Right proportions, no ticks, and letters at the edges."""
    panel.set_aspect(seen.spacing[plane.rows] / seen.spacing[plane.columns])
    panel.set_xticks([])
    panel.set_yticks([])
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"),
              (0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"))  # fmt: skip
    for letter, (across, up, horizontal, vertical) in zip(plane.edges, places, strict=True):
        panel.text(
            across, up, letter, ha=horizontal, va=vertical, transform=panel.transAxes, color="white", fontsize=9,
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )  # fmt: skip
