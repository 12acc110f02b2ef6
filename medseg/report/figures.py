"""Figures: an image with its label and its prediction laid over it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from medseg.geometry.grid import Grid, reorient
from medseg.labels import IGNORE, LabelTable
from medseg.report.composite import LARGEST, NO_DATA, Band, composite, reduced, stretched
from medseg.report.planes import Plane, fullest, planes_of

_IGNORED = (0.9, 0.9, 0.9, 0.6)
_ALPHA = 0.5
_PANEL_INCHES = 3.0
_LARGEST_PANEL_INCHES = 6.0
_CELLS_PER_INCH = 100


def overlay_figure(
    image: Num[np.ndarray, "..."] | None,
    label: Int[np.ndarray, " *s"],
    pred: Int[np.ndarray, " *s"],
    table: LabelTable,
    grid: Grid,
    *,
    channels: Sequence[Band] = (),
    valid: Bool[np.ndarray, " *s"] | None = None,
    title: str = "",
) -> Figure:
    """Image, label and prediction side by side, in 2D once and in 3D for three orthogonal planes.

    Each plane is cut where the label has most foreground (the prediction, if the label has none). The
    white outline on the prediction is the labelled foreground. See ``planes_of`` for which way up.
    Scenes and 2D images are shown as a ``composite``, and reduced if large; without a background in
    the table, classes hide the image.

    Args:
        image: Cells ``[c, *s]``, or ``[*s]`` if there is one channel; None for a black ground. In 3D the
            first channel is shown, between its 0.5th and 99.5th percentile.
        label: Training index of each cell, or ``IGNORE`` (striped).
        pred: Training index of each cell.
        table: Names and colours of the classes.
        grid: Geometry of the arrays.
        channels: What the channels are.
        valid: False where there is no data, which is shown in grey.
        title: Above the figure.
    """
    if image is not None and image.ndim == grid.ndim:
        image = image[None]
    known = np.ones(label.shape, dtype=bool) if valid is None else valid
    if grid.ndim == 2:
        image = None if image is None else reduced(image)
        label, pred, known = reduced(label), reduced(pred), reduced(known)
    axes_flips, seen = grid.canonical(), grid.reorient(*grid.canonical())
    ground = _ground(image, label.shape, channels, known)
    ground, label, pred, known = (reorient(cells, *axes_flips) for cells in (ground, label, pred, known))
    foreground = label > 0 if (label > 0).any() else pred > 0
    planes = planes_of(seen)
    figure, panels = _sheet(planes, seen)
    for plane, row in zip(planes, panels, strict=True):
        index = fullest(foreground, plane)
        below = np.stack([plane.cut(band, index) for band in ground], axis=-1)
        truth, guess, there = (plane.cut(cells, index) for cells in (label, pred, known))
        where = f"image {plane.name} {index}" if plane.through is not None else "image"
        outlined = " (outline: label)" if table.background else ""
        for panel, name, cells in zip(
            row, (where, "label", f"prediction{outlined}"), (None, truth, guess), strict=True
        ):
            panel.imshow(below if cells is None or grid.ndim == 3 else _greyed(below), interpolation="nearest")
            if cells is not None:
                panel.imshow(_colours(cells, there, table), interpolation="nearest")
            panel.set_title(name, fontsize=9)
            _dress(panel, plane, seen)
        if table.background and (truth > 0).any():
            row[2].contour(truth > 0, levels=[0.5], colors="white", linewidths=0.6)
    handles = _legend(table, ignored=bool((label == IGNORE).any()), no_data=not known.all())
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def to_png(figure: Figure, *, dpi: int = 100) -> bytes:
    """The figure as the bytes of a PNG file."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=dpi)
    return target.getvalue()


def _ground(
    image: Num[np.ndarray, "c *s"] | None,
    shape: tuple[int, ...],
    channels: Sequence[Band],
    valid: Bool[np.ndarray, " *s"],
) -> Float[np.ndarray, "3 *s"]:
    """What is seen below labels: RGB in [0, 1]."""
    if image is None:
        return np.zeros((3, *shape), dtype=np.float32)
    if len(shape) == 2:
        return np.moveaxis(composite(image, channels, valid), -1, 0).astype(np.float32) / 255
    grey = stretched(image[0], np.isfinite(image[0]), 0.5, 99.5)
    return np.broadcast_to(grey, (3, *shape))


def _sheet(planes: Sequence[Plane], seen: Grid) -> tuple[Figure, np.ndarray]:
    """An empty figure with a row of three panels for each plane."""
    ratios = [
        np.clip(seen.shape[p.rows] * seen.spacing[p.rows] / (seen.shape[p.columns] * seen.spacing[p.columns]), 0.3, 2.5)
        for p in planes
    ]
    inches = _PANEL_INCHES
    if seen.ndim == 2:
        cells = min(max(seen.shape), LARGEST)
        inches = float(np.clip(cells / _CELLS_PER_INCH, _PANEL_INCHES, _LARGEST_PANEL_INCHES))
    figure = Figure(figsize=(3 * inches, inches * sum(ratios) + 0.8), layout="constrained")
    return figure, figure.subplots(len(planes), 3, squeeze=False, height_ratios=ratios)


def _greyed(ground: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """In light grey: its colours could be taken for those of classes, and dark places hide them."""
    return np.repeat(0.3 + 0.7 * ground.mean(axis=-1, keepdims=True), 3, axis=-1)


def _rgb(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def _colours(
    cells: Int[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], table: LabelTable
) -> Float[np.ndarray, "h w 4"]:
    """RGBA of each cell: its class's colour, clear on the background, striped where ignored, grey without data."""
    alpha = _ALPHA if table.background else 1.0
    palette = np.array([(*_rgb(c.colour), alpha) for c in table.classes] + [_IGNORED])
    if table.background:
        palette[0, 3] = 0
    rgba = palette[cells]  # IGNORE = -1 takes the last
    stripe = max(2, max(cells.shape) // 100)
    rgba[(cells == IGNORE) & (np.indices(cells.shape).sum(axis=0) // stripe % 2 == 0)] = (0, 0, 0, alpha)
    rgba[~known] = (NO_DATA / 255,) * 3 + (1.0,)
    return rgba


def _legend(table: LabelTable, *, ignored: bool, no_data: bool) -> list[Patch]:
    shown = table.classes[1:] if table.background else table.classes
    handles = [Patch(color=_rgb(c.colour), label=c.name) for c in shown]
    if ignored:
        handles.append(Patch(facecolor=_IGNORED, edgecolor="black", hatch="////", label="ignored"))
    if no_data:
        handles.append(Patch(color=_rgb((NO_DATA,) * 3), label="no data"))
    return handles


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
