"""Masks that show each class as a colour, read as the values of the label table."""

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
"""(class name, its colours as RGB of 0 to 255), ...; the name ``ignore`` stands for the ignored value."""


def colours_by_name(given: Mapping[str, Sequence[Any]]) -> Colours:
    """Colours of a configuration: a class has one (``[255, 0, 0]``) or several (``[[255, 0, 0], [250, 5, 5]]``).

    Raises:
        InputError: Something else than three numbers from 0 to 255, or a colour of two classes.

    Example:
        >>> colours_by_name({"car": [255, 255, 0]})
        (('car', ((255, 255, 0),)),)
    """
    listed = {name: [one] if one and isinstance(one[0], int) else list(one) for name, one in given.items()}
    every = [tuple(colour) for colours in listed.values() for colour in colours]
    for colour in every:
        if len(colour) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in colour):
            raise InputError(f"data.mask_colours: {list(colour)} is no colour, expected [red, green, blue] of 0 to 255")
    twice = sorted({colour for colour in every if every.count(colour) > 1})
    if twice:
        raise InputError(f"data.mask_colours: got {list(twice[0])} more than once; a colour stands for one class")
    return tuple((name, tuple(tuple(colour) for colour in colours)) for name, colours in listed.items())


class ColourMask(Source):
    """A picture of classes (RGB of 8 bits), read as one channel of raw label values.

    Colours have to agree exactly: those of a JPEG do not.

    Args:
        source: The picture.
        colours: Of each class.
        labels: Gives a class its raw value, the first if it has several.

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

    def _read(self, box: Box, channels: tuple[int, ...]) -> npt.NDArray[Any]:
        codes = _code(self._source.read(box))
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        strange = self._codes[place] != codes
        if strange.any():
            found, counts = np.unique(codes[strange], return_counts=True)
            most = np.argsort(-counts)[:5]
            told = {(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255): int(n) for c, n in zip(found[most], counts[most])}
            raise InputError(
                f"{self.path}: {len(found)} colour(s) of no class, such as {told} (RGB: cells); add them to "
                "data.mask_colours, where a class may have several, or under the name ignore"
            )
        return self._values[place][None]

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "c *s"]
    ) -> npt.NDArray[np.bool_] | None:
        return self._source.read_valid(box)[1]


def _code(rgb: Shaped[np.ndarray, "3 *s"]) -> Shaped[np.ndarray, " *s"]:
    """One number for each colour."""
    red, green, blue = rgb.astype(np.int32)
    return np.asarray(red << 16 | green << 8 | blue)
