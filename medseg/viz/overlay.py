"""Panels: a case as image, label and prediction, turned the way people look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from medseg.geometry.grid import Grid, reorient
from medseg.labels import IGNORE, LabelTable
from medseg.viz.false_colour import NO_DATA, Band, composite, reduced, stretched
from medseg.viz.planes import Plane, fullest, planes_of

_IGNORED = (0.9, 0.9, 0.9, 0.6)
_ALPHA = 0.5


@dataclass(frozen=True)
class Panels:
    """The arrays of a drawing of a case; ``of`` builds it from stored arrays.

    Attributes:
        ground: The image below the labels, RGB in [0, 1].
        label: Training index of each cell, or ``IGNORE``.
        pred: Training index of each cell; None without a prediction.
        valid: False where there is no data.
        table: Names and colours of the classes.
        grid: Geometry of all of them, in ``grid.canonical()`` order.
    """

    ground: Float[np.ndarray, "3 *s"]
    label: Int[np.ndarray, " *s"]
    pred: Int[np.ndarray, " *s"] | None
    valid: Bool[np.ndarray, " *s"]
    table: LabelTable
    grid: Grid

    @classmethod
    def of(
        cls,
        image: Num[np.ndarray, "..."] | None,
        label: Int[np.ndarray, " *s"],
        pred: Int[np.ndarray, " *s"] | None,
        table: LabelTable,
        grid: Grid,
        *,
        channels: Sequence[Band] = (),
        valid: Bool[np.ndarray, " *s"] | None = None,
    ) -> Panels:
        """Turned, and reduced if it is large; see ``overlay_figure`` for the arguments."""
        if image is not None and image.ndim == grid.ndim:
            image = image[None]
        valid = np.ones(label.shape, dtype=bool) if valid is None else valid
        if grid.ndim == 2:
            image = None if image is None else reduced(image)
            label, valid = reduced(label), reduced(valid)
            pred = None if pred is None else reduced(pred)
        turn = grid.canonical()
        ground = reorient(_ground(image, label.shape, channels, valid), *turn)
        label, valid = reorient(label, *turn), reorient(valid, *turn)
        pred = None if pred is None else reorient(pred, *turn)
        return cls(ground, label, pred, valid, table, grid.reorient(*turn))

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The views that there are, see ``planes_of``."""
        return planes_of(self.grid)

    def index(self, plane: Plane) -> int:
        """Where a view is cut: at most labelled foreground, or predicted foreground if there is none."""
        return fullest(self.label > 0 if self.pred is None or (self.label > 0).any() else self.pred > 0, plane)

    def _draw_panel(
        self,
        panel: Axes,
        below: Float[np.ndarray, "h w 3"],
        cells: Int[np.ndarray, "h w"] | None,
        valid: Bool[np.ndarray, "h w"],
    ) -> None:
        """The image, with the colours of classes on it if there are some; a scene is then grey."""
        plain = cells is None or self.grid.ndim == 3
        panel.imshow(below if plain else _greyed(below), interpolation="nearest")
        if cells is not None:
            panel.imshow(coloured(cells, self.table, valid), interpolation="nearest")

    def draw(self, row: Sequence[Axes], plane: Plane, *, outline: bool) -> None:
        """Image, label and prediction, if there is one, into axes, cut where the label has most foreground.

        Args:
            row: The axes, three or two.
            plane: The view.
            outline: Draw the contour of the labelled foreground on the prediction, if there is a background.
        """
        index = self.index(plane)
        below = np.stack([plane.cut(band, index) for band in self.ground], axis=-1)
        truth, there = plane.cut(self.label, index), plane.cut(self.valid, index)
        guess = [] if self.pred is None else [plane.cut(self.pred, index)]
        where = f"image {plane.name} {index}" if plane.through is not None else "image"
        outlined = outline and self.table.background and bool(guess)
        names = [where, "label", "prediction (outline: label)" if outlined else "prediction"][: 2 + len(guess)]
        for panel, name, cells in zip(row, names, (None, truth, *guess), strict=True):
            self._draw_panel(panel, below, cells, there)
            panel.set_title(name, fontsize=10)
            dress(panel, plane, self.grid)
        if outlined and (truth > 0).any():
            row[2].contour(truth > 0, levels=[0.5], colors="white", linewidths=0.6)

    def legend(self) -> list[Patch]:
        """A patch of colour for each class that can be seen, for ignored cells and for those without data."""
        shown = list(zip(self.table.classes, self.table.titles, strict=True))[int(self.table.background) :]
        handles = [Patch(color=_rgb(one.colour), label=title) for one, title in shown]
        if (self.label == IGNORE).any():
            handles.append(Patch(facecolor=_IGNORED, edgecolor="black", hatch="////", label="ignored"))
        if not self.valid.all():
            handles.append(Patch(color=_rgb((NO_DATA,) * 3), label="no data"))
        return handles


def coloured(
    cells: Int[np.ndarray, "h w"], table: LabelTable, valid: Bool[np.ndarray, "h w"] | None = None
) -> Float[np.ndarray, "h w 4"]:
    """RGBA of each cell: its class's colour, clear on the background, striped where ignored, grey without data.

    Args:
        cells: Training index of each cell, or ``IGNORE``.
        table: Colours of the classes; they are half transparent if it has a background.
        valid: False where there is no data; None if there are data everywhere.
    """
    alpha = _ALPHA if table.background else 1.0
    palette = np.array([(*_rgb(c.colour), alpha) for c in table.classes] + [_IGNORED])
    if table.background:
        palette[0, 3] = 0
    rgba = palette[cells]  # IGNORE = -1 takes the last
    stripe = max(2, max(cells.shape) // 100)
    rgba[(cells == IGNORE) & (np.indices(cells.shape).sum(axis=0) // stripe % 2 == 0)] = (0, 0, 0, alpha)
    if valid is not None:
        rgba[~valid] = (NO_DATA / 255,) * 3 + (1.0,)
    return rgba


def ratio(plane: Plane, grid: Grid) -> float:
    """Height of a view over its width, kept between 0.3 and 2.5."""
    height, width = (grid.shape[axis] * grid.spacing[axis] for axis in (plane.rows, plane.columns))
    return float(np.clip(height / width, 0.3, 2.5))


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


def _greyed(ground: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """In light grey: its colours could be taken for those of classes, and dark places hide them."""
    return np.repeat(0.3 + 0.7 * ground.mean(axis=-1, keepdims=True), 3, axis=-1)


def _rgb(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def dress(panel: Axes, plane: Plane, seen: Grid) -> None:
    """Right proportions, no ticks, and letters at the edges that can be read on any ground.

    Args:
        panel: Axes that show a cut of the plane.
        plane: Of ``planes_of(seen)``.
        seen: Geometry of the whole array, in canonical order.
    """
    panel.set_aspect(seen.spacing[plane.rows] / seen.spacing[plane.columns])
    panel.set_xticks([])
    panel.set_yticks([])
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"),
              (0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"))  # fmt: skip
    for letter, (across, up, horizontal, vertical) in zip(plane.edges, places, strict=True):
        panel.text(
            across, up, letter, ha=horizontal, va=vertical, transform=panel.transAxes, color="white", fontsize=11,
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )  # fmt: skip
