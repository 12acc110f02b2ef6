"""What travels: Channel, DataSpec, Sample and Batch. Downstream of reading, nothing knows the domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.geometry.grid import Grid
from medseg.labels import LabelTable


@dataclass(frozen=True)
class Channel:
    """One image channel.

    Attributes:
        name: Unique in its DataSpec, such as ``T1``, ``CT`` or ``B08``. Decides the normalisation.
        unit: Physical unit of the raw values, such as ``HU``; empty if arbitrary.
        wavelength_nm: Centre wavelength in nanometres where there is one.
        formula: How the channel is computed from bands of the file, such as ``(B8 - B12) / (B8 + B12)``;
            empty if it is a band itself.
    """

    name: str
    unit: str = ""
    wavelength_nm: float | None = None
    formula: str = ""


@dataclass(frozen=True)
class DataSpec:
    """What every case of a dataset agrees on.

    Attributes:
        channels: In array order.
        labels: Meaning of the label values.
        ndim: Number of spatial axes, 2 or 3.
    """

    channels: tuple[Channel, ...]
    labels: LabelTable
    ndim: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` is its inverse."""
        return {"channels": [vars(c) for c in self.channels], "labels": self.labels.to_dict(), "ndim": self.ndim}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> DataSpec:
        """Rebuild what ``to_dict`` gave."""
        return cls(
            channels=tuple(Channel(**c) for c in stored["channels"]),
            labels=LabelTable.from_dict(stored["labels"]),
            ndim=stored["ndim"],
        )


@dataclass
class Sample:
    """One case, or a window of one, on its grid.

    Attributes:
        image: Channels; float32.
        label: Training index of each cell or ``IGNORE``; None where there is none (prediction).
        valid: False on nodata, outside the field of view or the scan.
        grid: Geometry of the three arrays.
        case: Case identifier.
        group: What splits may not tear apart (patient, site, scene).
    """

    image: Float[np.ndarray, "c *s"]
    label: Int[np.ndarray, " *s"] | None
    valid: Bool[np.ndarray, " *s"]
    grid: Grid
    case: str
    group: str


@dataclass
class Batch:
    """Patches stacked for a training or validation step.

    Attributes:
        image: Float patches.
        label: Training index or ``IGNORE``.
        valid: False where a cell does not count.
        present: False for channels that the case lacks (their image is zero).
        key: ``[b, 3]`` int64 on the CPU: (seed, step, sample) of each patch. Everything random about
            the patch is a function of its key.
        cases: Case identifier of each patch.
    """

    image: Float[Tensor, "b c *s"]
    label: Int[Tensor, "b *s"]
    valid: Bool[Tensor, "b *s"]
    present: Bool[Tensor, "b c"]
    key: Int[Tensor, "b 3"]
    cases: tuple[str, ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy with image, label, valid and present on ``device``; the key stays on the CPU."""
        moved = {
            f.name: getattr(self, f.name).to(device, non_blocking=non_blocking)
            for f in fields(self)
            if f.name not in ("key", "cases")
        }
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """Copy in page-locked memory, for faster transfers to a GPU."""
        pinned = {f.name: getattr(self, f.name).pin_memory() for f in fields(self) if f.name != "cases"}
        return replace(self, **pinned)
