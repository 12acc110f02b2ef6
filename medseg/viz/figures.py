"""Figures: images with their labels and predictions laid over them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Num
from matplotlib.figure import Figure

from medseg.geometry.grid import Grid
from medseg.labels import LabelTable
from medseg.viz.false_colour import Band
from medseg.viz.overlay import Panels, ratio

_DPI = 125
_PANEL_INCHES = 2.4
_LARGEST_PANEL_INCHES = 4.8
_CELLS_PER_INCH = 125
_LETTERS = "R, L: the patient's right, left   A, P: front, back   S, I: head, feet"


def overlay_figure(
    image: Num[np.ndarray, "..."] | None,
    label: Int[np.ndarray, " *s"],
    pred: Int[np.ndarray, " *s"] | None,
    table: LabelTable,
    grid: Grid,
    *,
    channels: Sequence[Band] = (),
    valid: Bool[np.ndarray, " *s"] | None = None,
    title: str = "",
) -> Figure:
    """Image, label and prediction side by side, in 2D once and in 3D for three orthogonal planes.

    Each plane is cut where the label has most foreground (the prediction, if the label has none). The
    white outline on the prediction is the labelled foreground. See ``planes_of`` for the orientation; the letters at
    the edges are explained above the legend.
    Scenes and 2D images are shown as a ``composite``, and reduced if large; without a background in
    the table, classes hide the image.

    Args:
        image: Cells ``[c, *s]``, or ``[*s]`` if there is one channel; None for a black ground. In 3D the
            first channel is shown, between its 0.5th and 99.5th percentile.
        label: Training index of each cell, or ``IGNORE`` (striped).
        pred: Training index of each cell; None shows image and label alone.
        table: Names and colours of the classes.
        grid: Geometry of the arrays.
        channels: What the channels are.
        valid: False where there is no data, which is shown in grey.
        title: Above the figure.
    """
    return panels_figure(Panels.of(image, label, pred, table, grid, channels=channels, valid=valid), title)


def panels_figure(panels: Panels, title: str = "") -> Figure:
    """The figure of ``overlay_figure`` for panels that were made already."""
    planes, seen = panels.planes, panels.grid
    inches = _PANEL_INCHES
    if seen.ndim == 2:
        inches = float(np.clip(max(seen.shape) / _CELLS_PER_INCH, _PANEL_INCHES, _LARGEST_PANEL_INCHES))
    ratios = [ratio(plane, seen) for plane in planes]
    across = 2 if panels.pred is None else 3
    figure = Figure(figsize=(across * inches, inches * sum(ratios) + 0.8), layout="constrained")
    rows = figure.subplots(len(planes), across, squeeze=False, height_ratios=ratios)
    for plane, row in zip(planes, rows, strict=True):
        panels.draw(list(row), plane, outline=True)
    figure.legend(
        handles=panels.legend(), loc="outside lower center", ncols=4, fontsize=9, frameon=False,
        title=_LETTERS if any(planes[0].edges) else None, title_fontsize=9,
    )  # fmt: skip
    figure.suptitle(title, fontsize=11)
    return figure


def rows_figure(cases: Sequence[tuple[str, Panels]]) -> Figure:
    """Cases below one another: image, label, prediction, and the legend of each.

    Of a volume the first of its planes is drawn.

    Args:
        cases: Title, at the left of the row, and panels of each case, with a prediction; at least one case.
    """
    ratios = [ratio(panels.planes[0], panels.grid) for _, panels in cases]
    figure = Figure(figsize=(3.4 * _PANEL_INCHES, _PANEL_INCHES * sum(ratios) + 0.4), layout="constrained")
    rows = figure.subplots(len(cases), 4, squeeze=False, height_ratios=ratios, width_ratios=(1, 1, 1, 0.4))
    for number, ((title, panels), row) in enumerate(zip(cases, rows, strict=True)):
        *axes, legend = row
        panels.draw(axes, panels.planes[0], outline=False)
        for panel in axes if number and panels.grid.ndim == 2 else ():
            panel.set_title("")  # the first row says it
        axes[0].set_ylabel(title, fontsize=10)
        legend.axis("off")
        legend.legend(handles=panels.legend(), loc="center left", fontsize=9, frameon=False, borderaxespad=0)
    return figure


def to_png(figure: Figure, *, dpi: int = _DPI) -> bytes:
    """The figure as the bytes of a PNG file."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=dpi)
    return target.getvalue()
