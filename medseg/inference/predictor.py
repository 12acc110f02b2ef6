"""Predictor: an image on any grid -> a label image on the very same grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medseg.errors import BadInput
from medseg.geometry.grid import Grid
from medseg.inference.decide import decide
from medseg.inference.flips import flipped
from medseg.inference.sliding_window import sliding_window
from medseg.sample import DataSpec, Sample


@runtime_checkable
class Preparation(Protocol):
    """Preprocessing that can be undone; ``medseg.data.preprocess.Preprocess`` is one."""

    def __call__(self, sample: Sample) -> tuple[Sample, Any]:
        """The network's view of a sample, and a trace."""
        ...

    def restore_logits(self, logits: Float[np.ndarray, "k *t"], trace: Any) -> Float[np.ndarray, "k *u"]:
        """Logits at the file's own spacing."""
        ...

    def restore_index(self, index: np.ndarray, trace: Any) -> np.ndarray:
        """Training indices on the file's own grid."""
        ...


@dataclass(frozen=True)
class Tiling:
    """How whole images pass through a network.

    Attributes:
        window: Cells of a window on each axis.
        overlap: Least share of a window that its neighbour covers too.
        batch_size: Windows per call.
        flip_axes: Axes mirrored at test time.
        lateral_axis: The axis across the body, if any.
        swap: Output that stands for each output in a laterally mirrored image.
        precision: ``bf16`` runs the network under bfloat16 autocast, ``fp16`` likewise, ``fp32`` does not.
    """

    window: tuple[int, ...]
    overlap: float = 0.5
    batch_size: int = 1
    flip_axes: tuple[int, ...] = ()
    lateral_axis: int | None = None
    swap: tuple[int, ...] | None = None
    precision: str = "fp32"

    def logits(self, image: Float[Tensor, "c *s"], network: nn.Module) -> Float[Tensor, "k *s"]:
        """Logits of a whole preprocessed image, without gradients, the network in evaluation mode."""
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        run = flipped(network, self.flip_axes, lateral_axis=self.lateral_axis, swap=self.swap)
        training = network.training
        network.eval()
        try:
            with torch.no_grad(), torch.autocast(image.device.type, dtype=half, enabled=half is not None):
                return sliding_window(image, run, window=self.window, overlap=self.overlap, batch_size=self.batch_size)
        finally:
            network.train(training)


class Predictor:
    """Everything between an image file and its label file.

    Args:
        network: Trained network.
        prepare: Preprocessing of the training.
        tiling: Windows, flips and precision.
        spec: Channels and labels of the training.
        read: Reads the files of one case (one a channel) into a Sample without a label.
        write: Writes an array ``[*s]`` on a grid into a file, like the file it was read from.
        device: Where the network runs.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        prepare: Preparation,
        tiling: Tiling,
        spec: DataSpec,
        read: Callable[[Sequence[Path]], Sample],
        write: Callable[[Path, npt.NDArray[Any], Grid, Path], None],
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = network.to(device).eval()
        self.prepare = prepare
        self.tiling = tiling
        self.spec = spec
        self.device = torch.device(device)
        self._read = read
        self._write = write

    def index(self, sample: Sample) -> Int[np.ndarray, " *s"]:
        """Training index of each cell of the sample's own grid; 0 where it is not valid."""
        prepared, trace = self.prepare(sample)
        image = torch.from_numpy(np.ascontiguousarray(prepared.image)).to(self.device)
        logits = self.tiling.logits(image, self.network).cpu().numpy()
        restored = torch.from_numpy(self.prepare.restore_logits(logits, trace))
        index = decide(restored, self.spec.labels).numpy()
        whole = self.prepare.restore_index(index, trace)
        return np.where(sample.valid, whole, 0)

    def __call__(self, image: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
        """Label array ``[*s]`` of saved values for an image ``[c, *s]`` (or ``[*s]``) of raw values.

        Cells that are not finite count as invalid and become background.

        Raises:
            BadInput: The image does not fit its grid, or has other channels than the training had.
        """
        image = image[None] if image.ndim == grid.ndim else image
        if image.shape[1:] != grid.shape:
            raise BadInput(f"image of shape {image.shape} came with a grid of shape {grid.shape}; expected [c, *s]")
        if len(image) != len(self.spec.channels):
            names = [c.name for c in self.spec.channels]
            raise BadInput(f"image with {len(image)} channels came, the network takes {len(names)}: {names}")
        finite = np.isfinite(image).all(axis=0)
        cells = np.where(finite, image, 0).astype(np.float32)
        return self.spec.labels.to_saved(self.index(Sample(cells, None, finite, grid, "array", "array")))

    def file(self, source: Path | str | Sequence[Path | str], target: Path | str) -> Path:
        """Predict one case from its file (or files, one a channel) into ``target``, on the very same grid."""
        several = [source] if isinstance(source, (str, Path)) else list(source)
        files = [Path(s) for s in several]
        sample = self._read(files)
        if len(sample.image) != len(self.spec.channels):
            names = [c.name for c in self.spec.channels]
            raise BadInput(
                f"{files[0]}: {len(sample.image)} channels came, the network takes {len(names)}: {names}; "
                "give one file a channel, named case_0000, case_0001 and so on"
            )
        index = self.index(replace(sample, label=None))
        self._write(Path(target), self.spec.labels.to_saved(index), sample.grid, files[0])
        return Path(target)
