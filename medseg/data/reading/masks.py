"""DateMask: a band that says where an image, or a date of a time series, shows clouds instead of the ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from medseg.errors import InputError


@dataclass(frozen=True)
class DateMask:
    """Which values of a band mark cells without data.

    Attributes:
        band: Name of the band, with its image group in front if it has one.
        drop: Values of such cells.
        bits: Numbers of bits, from 0 for the lowest, any of which such cells have set.
        above: Cells with a larger value are such cells; None for none.
    """

    band: str
    drop: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()
    above: float | None = None

    @classmethod
    def from_config(cls, settings: Mapping[str, Any]) -> DateMask:
        """The mask of ``data.date_masks``: a kind of ``KINDS``, of which single keys may differ, or a band and values.

        Raises:
            InputError: Unknown keys or kinds, no band, or nothing that is dropped.
        """
        names = ["kind", *(f.name for f in fields(cls))]
        if unknown := sorted(set(settings) - set(names)):
            raise InputError(f"data.date_masks: got {unknown}, expected some of {names}, as in {{kind: scl}}")
        own = {key: value for key, value in settings.items() if key != "kind" and value is not None}
        own |= {key: tuple(own[key]) for key in ("drop", "bits") if key in own}
        mask = replace(_usual(settings.get("kind")), **own)
        if not mask.band or mask == cls(mask.band):
            raise InputError(
                f"data.date_masks={dict(settings)}: expected a band and what is dropped, as in {{kind: scl}} or "
                "{band: SCL, drop: [3, 8, 9, 10]}"
            )
        return mask

    def hides(self, cells: Shaped[np.ndarray, " *s"]) -> Bool[np.ndarray, " *s"]:
        """Which cells have no data, by their values in the band.

        Example:
            >>> DateMask("SCL", drop=(3, 8)).hides(np.array([4, 8, 3])).tolist()
            [False, True, True]
            >>> DateMask("Fmask", bits=(1, 3)).hides(np.array([0, 2, 5, 8])).tolist()
            [False, True, False, True]
        """
        hidden = np.isin(cells, self.drop)
        if self.bits:
            flags = sum(1 << bit for bit in self.bits)
            hidden |= (np.nan_to_num(cells).astype(np.int64) & flags) != 0
        if self.above is not None:
            hidden |= cells > self.above
        return hidden


def _usual(kind: str | None) -> DateMask:
    """The mask of a kind; without one that of no band."""
    if kind is None:
        return DateMask("")
    if kind not in KINDS:
        raise InputError(f"data.date_masks.kind={kind}: choose {', '.join(KINDS)}")
    return KINDS[kind]


KINDS: Mapping[str, DateMask] = {
    "scl": DateMask("SCL", drop=(0, 1, 3, 8, 9, 10)),
    "fmask": DateMask("Fmask", drop=(2, 4, 255)),
    "hls_fmask": DateMask("Fmask", bits=(1, 2, 3)),
    "cloud_probability": DateMask("CLP", above=0.4),
}
"""Known masks. ``scl``: no data, defective cells, cloud shadows, clouds of medium and high probability and cirrus of
Sentinel-2's scene classification (Sentinel-2 Level-2A product specification, ESA). ``fmask``: cloud shadow, cloud and
fill (Zhu and Woodcock, Remote Sensing of Environment, 2012). ``hls_fmask``: the bits of cloud, of cells adjacent to
cloud or shadow and of cloud shadow (Harmonized Landsat Sentinel-2 user guide, version 2, NASA). ``cloud_probability``:
above 0.4, the usual threshold of s2cloudless, of values from 0 to 1."""
