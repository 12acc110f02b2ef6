"""Masks that show classes as colours, read as the values of the label table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.formats.source import Source
from medseg.geometry.box import Box
from medseg.labels import LabelTable

Colours = tuple[tuple[str, tuple[tuple[int, ...], ...]], ...]
"""(class name, its colours as RGB of 0 to 255), ...; the name ``ignore`` means the ignored value."""


def colours_by_name(colours: Mapping[str, Sequence[object]]) -> Colours:
    """Colours of a configuration: a class has one (``[255, 0, 0]``) or several (``[[255, 0, 0], [250, 5, 5]]``).

    Raises:
        InputError: Something else than three numbers from 0 to 255, or a colour of two classes.

    Example:
        >>> colours_by_name({"car": [255, 255, 0]})
        (('car', ((255, 255, 0),)),)
    """
    by_name = tuple((name, _listed(value)) for name, value in colours.items())
    every = [colour for _, of_class in by_name for colour in of_class]
    for colour in every:
        _check_colour(colour)
    repeated = sorted({colour for colour in every if every.count(colour) > 1})
    if repeated:
        raise InputError(f"data.mask_colours: got {list(repeated[0])} more than once; a colour stands for one class")
    return by_name


def _listed(value: Sequence[Any]) -> tuple[tuple[Any, ...], ...]:
    """The colours of a class, of which one may stand without a list around it."""
    single = bool(value) and isinstance(value[0], int)
    return tuple(tuple(colour) for colour in ([value] if single else value))


def _check_colour(colour: tuple[object, ...]) -> None:
    """Raise unless a colour is three numbers from 0 to 255."""
    if len(colour) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in colour):
        raise InputError(f"data.mask_colours: {list(colour)} is no colour, expected [red, green, blue] of 0 to 255")


class ColourMask(Source):
    """A picture of classes (RGB of 8 bits), read as one channel of raw label values.

    Colours have to agree exactly: those of a JPEG do not.

    Args:
        source: The picture.
        colours: Colours of each class.
        labels: Table with the raw value of each class, the first if it has several.

    Raises:
        InputError: The file has no three channels of 8 bits, or a colour is of no class; ``read`` raises it
            for colours in the file that are of no class.
    """

    def __init__(self, source: Source, colours: Colours, labels: LabelTable) -> None:
        if source.n_channels != 3 or source.dtype != np.uint8:
            raise InputError(
                f"{source.path}: got {source.n_channels} channel(s) of {source.dtype}, but data.mask_colours expects "
                "3 of uint8 that show classes as colours; drop that setting if the mask holds class values"
            )
        value_of = {c.name: c.values[0] for c in labels.classes}
        value_of |= dict(zip(["ignore"], labels.ignore_values))
        unknown = [name for name, _ in colours if name not in value_of]
        if unknown:
            raise InputError(f"data.mask_colours names {unknown}, classes are {list(value_of)}; fix the names")
        self.path, self.grid, self.dtype = source.path, source.grid, np.dtype(np.int32)
        self.n_channels = 1
        self._source = source
        values = {_code(np.array(rgb)).item(): value_of[name] for name, listed in colours for rgb in listed}
        self._codes = np.array(sorted(values), dtype=np.int32)
        self._values = np.array([values[code] for code in sorted(values)], dtype=np.int32)

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        codes = _code(self._source.read(box))
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        unknown = self._codes[place] != codes
        if unknown.any():
            colours, counts = np.unique(codes[unknown], return_counts=True)
            most = np.argsort(-counts)[:5]
            examples = {_rgb(int(c)): int(n) for c, n in zip(colours[most], counts[most])}
            raise InputError(
                f"{self.path}: {len(colours)} colour(s) of no class, such as {examples} (RGB: cells); add them to "
                "data.mask_colours, where a class may have several, or under the name ignore"
            )
        return self._values[place][None]

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "c *s"]
    ) -> npt.NDArray[np.bool_] | None:
        return self._source.read_valid(box)[1]


def _rgb(code: int) -> tuple[int, int, int]:
    """The colour of a number; the inverse of ``_code``."""
    return code >> 16, code >> 8 & 255, code & 255


def _code(rgb: Shaped[np.ndarray, "3 *s"]) -> Shaped[np.ndarray, " *s"]:
    """One number for each colour."""
    red, green, blue = rgb.astype(np.int32)
    return np.asarray(red << 16 | green << 8 | blue)
