"""Predictor: an image on any grid -> a label image on the very same grid; arrays only, no files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import nn

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.inference.dates import at_dates
from medseg.inference.decide import decide, prob_of
from medseg.inference.tiling import Tiling
from medseg.sample import DataSpec, Sample, evenly_spaced, in_slots

Restore = Callable[[np.ndarray], np.ndarray]
"""Values of prepared cells -> values on the file's own grid."""


@runtime_checkable
class Preparation(Protocol):
    """Preprocessing that can be undone; ``medseg.data.preprocessing.preprocess.Preprocess`` is one."""

    def __call__(self, sample: Sample) -> tuple[Sample, Any]:
        """The network's view of a sample, and a trace."""
        ...

    def restore_logits(self, logits: Float[np.ndarray, "k *t"], trace: Any) -> Float[np.ndarray, "k *u"]:
        """Logits at the file's own spacing."""
        ...

    def restore_index(self, index: np.ndarray, trace: Any) -> np.ndarray:
        """Training indices (or other values of cells) on the file's own grid; 0 in what was cropped away."""
        ...


Prepare = TypeVar("Prepare", bound=Preparation)


class Predictor(Generic[Prepare]):
    """Everything between an image and its labels: preprocessing, windows, network, decision, and the way back.

    Files are for ``medseg.prediction.file_predictor.FilePredictor``, which holds one of these.

    Args:
        network: Trained network.
        prepare: Preprocessing of the training.
        tiling: Windows, flips and precision.
        spec: Channels and labels of the training.
        device: Where the network runs.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        prepare: Prepare,
        tiling: Tiling,
        spec: DataSpec,
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = network.to(device).eval()
        self.prepare = prepare
        self.tiling = tiling
        self.spec = spec
        self.device = torch.device(device)

    def index(self, sample: Sample) -> Int[np.ndarray, " *s"]:
        """Training index of each cell of the sample's own grid; 0 where it is not valid."""
        return self._decided(sample, *self._logits(sample))

    def index_and_prob(self, sample: Sample) -> tuple[Int[np.ndarray, " *s"], Float[np.ndarray, "k *s"]]:
        """What ``index`` gives, and the probability of each class, or of each region, from the same pass.

        Cells that preprocessing crops away are of the first class for certain, and of no region. Takes 4 k
        bytes a cell.
        """
        logits, restore = self._logits(sample)
        prob = prob_of(logits, self.spec.labels).numpy()
        rest = 0 if self.spec.labels.regions else 1
        whole = [1 - restore(1 - p) for p in prob[:rest]] + [restore(p) for p in prob[rest:]]
        return self._decided(sample, logits, restore), np.stack(whole)

    def _logits(self, sample: Sample) -> tuple[Float[torch.Tensor, "k *u"], Restore]:
        """Logits at the sample's own spacing, still cropped and reoriented, and the function that undoes that."""
        prepared, trace = self.prepare(sample)
        image = torch.from_numpy(np.ascontiguousarray(prepared.planes)).to(self.device)
        given = self.tiling.logits(image, at_dates(self.network, prepared))
        if not torch.isfinite(given).all():
            raise InputError(
                f"case {sample.case}: the network gives values that are not finite, whatever the image holds; its "
                "training diverged, or the checkpoint is damaged: take another one, such as the run's best.ckpt"
            )
        logits = given.cpu().numpy()
        restored = torch.from_numpy(self.prepare.restore_logits(logits, trace))
        return restored, partial(self.prepare.restore_index, trace=trace)

    def _decided(self, sample: Sample, logits: Float[torch.Tensor, "k *u"], restore: Restore) -> Int[np.ndarray, " *s"]:
        whole = restore(decide(logits, self.spec.labels).numpy())
        return np.where(sample.valid, whole, 0)

    def __call__(
        self, image: Shaped[np.ndarray, "..."], grid: Grid, days: Sequence[int] | None = None
    ) -> Shaped[np.ndarray, " *s"]:
        """Label array ``[*s]`` of saved values for an image ``[c, *s]`` (or ``[*s]``) of raw values.

        Cells that are not finite count as invalid and become background; in a time series ``[n, c, *s]`` those
        that no date knows.

        Args:
            image: Of a time series, any number of dates in their order; of more than the network has slots,
                evenly spaced ones are taken.
            grid: Of its cells.
            days: Of a time series, its dates in days since 1970-01-01; None numbers them, as training did where
                it knew no days.

        Raises:
            InputError: The image does not fit its grid, or has other channels than the training had.
        """
        series = self.spec.dates > 0
        image = image[None] if image.ndim == grid.ndim + series else image
        if image.shape[1 + series :] != grid.shape:
            expected = "[dates, channels, *s]" if series else "[c, *s]"
            raise InputError(
                f"got an image of shape {image.shape} with a grid of shape {grid.shape}, expected {expected}"
            )
        if image.shape[series] != len(self.spec.channels):
            names = [c.name for c in self.spec.channels]
            raise InputError(
                f"got an image with {image.shape[series]} channels, the network takes {len(names)}: {names}"
            )
        finite = np.isfinite(image).all(axis=int(series))
        if series:
            sample = self._series(image, finite, grid, range(len(image)) if days is None else days)
        else:
            sample = Sample(np.where(finite, image, 0).astype(np.float32), None, finite, grid, "array", "array")
        return self.spec.labels.to_saved(self.index(sample))

    def _series(
        self, image: Shaped[np.ndarray, "n c *s"], known: Bool[np.ndarray, "n *s"], grid: Grid, days: Sequence[int]
    ) -> Sample:
        if len(days) != len(image):
            raise InputError(f"got {len(days)} days with a time series of {len(image)} dates; give each date its day")
        kept = evenly_spaced(len(image), self.spec.dates)
        cells = np.where(known[:, None], image, np.nan).astype(np.float32)[kept]
        slots, slot_days, present = in_slots(cells, [days[i] for i in kept], self.spec.dates)
        valid: Bool[np.ndarray, " *s"] = np.logical_or.reduce(known[kept])
        return Sample(slots, None, valid, grid, "array", "array", slot_days, present)
