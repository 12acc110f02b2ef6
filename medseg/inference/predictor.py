"""Predictor: an image on any grid -> a label image on the very same grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import nn

from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.inference.dates import at_dates
from medseg.inference.decide import decide, prob_of
from medseg.inference.tiling import Tiling
from medseg.sample import DataSpec, Sample, evenly_spaced, in_slots


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


@runtime_checkable
class Opened(Protocol):
    """An image whose header has been read; ``medseg.data.reading.open_case.OpenCase`` is one."""

    grid: Grid

    def read(self, box: Box | None = None) -> Sample:
        """All of it, or a window, raw."""
        ...


class Predictor:
    """Everything between an image file and its label file.

    Args:
        network: Trained network.
        prepare: Preprocessing of the training.
        tiling: Windows, flips and precision.
        spec: Channels and labels of the training.
        open: Opens the files of one case (one a channel, or one that holds all).
        write: Writes saved values ``[*s]``, valid where the second array says so, on a grid into a file,
            like the file that was read.
        stream: Predicts (predictor, opened, target, like) window by window into a file of any size, or
            gives False where it has to be done in memory. ``on_rows=``, if it is given, is called with the rows that
            are done.
        device: Where the network runs.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        prepare: Preparation,
        tiling: Tiling,
        spec: DataSpec,
        open: Callable[[Sequence[Path]], Opened],
        write: Callable[[Path, npt.NDArray[Any], npt.NDArray[np.bool_], Grid, Path], None],
        stream: Callable[..., bool],
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = network.to(device).eval()
        self.prepare = prepare
        self.tiling = tiling
        self.spec = spec
        self.device = torch.device(device)
        self._open = open
        self._write = write
        self._stream = stream

    def index(self, sample: Sample) -> Int[np.ndarray, " *s"]:
        """Training index of each cell of the sample's own grid; 0 where it is not valid."""
        return self._decided(sample, *self._logits(sample))

    def index_and_prob(self, sample: Sample) -> tuple[Int[np.ndarray, " *s"], Float[np.ndarray, "k *s"]]:
        """What ``index`` gives, and the probability of each class, or of each region, from the same pass.

        Cells that preprocessing crops away are of the first class for certain, and of no region. Takes 4 k
        bytes a cell.
        """
        logits, trace = self._logits(sample)
        restore, prob = self.prepare.restore_index, prob_of(logits, self.spec.labels).numpy()
        rest = 0 if self.spec.labels.regions else 1
        whole = [1 - restore(1 - p, trace) for p in prob[:rest]] + [restore(p, trace) for p in prob[rest:]]
        return self._decided(sample, logits, trace), np.stack(whole)

    def _logits(self, sample: Sample) -> tuple[Float[torch.Tensor, "k *u"], Any]:
        """Logits at the sample's own spacing, still cropped and reoriented, and the trace of that."""
        prepared, trace = self.prepare(sample)
        image = torch.from_numpy(np.ascontiguousarray(prepared.planes)).to(self.device)
        given = self.tiling.logits(image, at_dates(self.network, prepared))
        if not torch.isfinite(given).all():
            raise InputError(
                f"case {sample.case}: the network gives values that are not finite, whatever the image holds; its "
                "training diverged, or the checkpoint is damaged: take another one, such as the run's best.ckpt"
            )
        logits = given.cpu().numpy()
        return torch.from_numpy(self.prepare.restore_logits(logits, trace)), trace

    def _decided(self, sample: Sample, logits: Float[torch.Tensor, "k *u"], trace: Any) -> Int[np.ndarray, " *s"]:
        whole = self.prepare.restore_index(decide(logits, self.spec.labels).numpy(), trace)
        return np.where(sample.valid, whole, 0)

    def __call__(self, image: npt.NDArray[Any], grid: Grid, days: Sequence[int] | None = None) -> npt.NDArray[Any]:
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

    def _series(self, image: npt.NDArray[Any], known: npt.NDArray[np.bool_], grid: Grid, days: Sequence[int]) -> Sample:
        if len(days) != len(image):
            raise InputError(f"got {len(days)} days with a time series of {len(image)} dates; give each date its day")
        kept = evenly_spaced(len(image), self.spec.dates)
        cells = np.where(known[:, None], image, np.nan).astype(np.float32)[kept]
        slots, told, present = in_slots(cells, [days[i] for i in kept], self.spec.dates)
        valid: npt.NDArray[np.bool_] = np.logical_or.reduce(known[kept])
        return Sample(slots, None, valid, grid, "array", "array", told, present)

    def file(
        self,
        source: Path | str | Sequence[Path | str],
        target: Path | str,
        *,
        on_rows: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Predict one case from its file (or files, one a channel or a date) into ``target``, on the very same grid.

        Args:
            source: The file or files.
            target: Label file to write.
            on_rows: Called with the rows that are done and all rows of a scene, each time some are done.
        """
        several = [source] if isinstance(source, (str, Path)) else list(source)
        files, target = [Path(s) for s in several], Path(target)
        opened = self._open(files)
        rows = opened.grid.shape[0]
        watch = {} if on_rows is None else {"on_rows": lambda done: on_rows(done, rows)}
        if not self._stream(self, opened, target, files[0], **watch):
            sample = replace(opened.read(), label=None)
            saved = self.spec.labels.to_saved(self.index(sample))
            self._write(target, saved, sample.valid, sample.grid, files[0])
        return target
