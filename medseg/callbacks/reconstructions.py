"""Reconstructions: masked and reconstructed patches of a pretraining, as a picture after each validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from medseg.loggers.image_logger import picture_loggers
from medseg.methods.pretraining import Pretraining
from medseg.sample import Channel
from medseg.viz.false_colour import composite
from medseg.viz.logged_images import Picture

_GAP = 4
_HEIGHT = 256  # that small patches are enlarged to, or somewhat less


class Reconstructions(Callback):
    """Writes ``reconstructions/step_<n>.png`` into the run's folder: image, masked image, reconstruction.

    Loggers that show pictures get it too, as ``val/reconstruction``.
    A patch of the first validation case, the same every time. Volumes are shown in their middle plane across the
    last axis. Methods that do not pretrain have nothing to show.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        if not isinstance(pl_module, Pretraining) or trainer.sanity_checking or not trainer.is_global_zero:
            return
        shown = pl_module.reconstruction
        if shown is None:
            return
        channels = pl_module.metadata.spec.channels
        panels = [p for p in (shown.image, shown.masked, shown.pred) if p is not None]
        picture = enlarged(strip([p.float().cpu() for p in panels], channels))
        folder = Path(trainer.default_root_dir) / "reconstructions"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"step_{trainer.global_step:06d}.png")
        caption = "image, masked, reconstruction" if shown.pred is not None else "image, turned"
        for logger in picture_loggers(trainer):
            logger.log_pictures({"val/reconstruction": [Picture(picture, caption)]}, trainer.global_step)


def strip(panels: list[torch.Tensor], channels: tuple[Channel, ...]) -> np.ndarray:
    """Panels ``[c, *s]`` side by side, in one scale of grey or colours: ``[h, w, 3]`` uint8.

    Values outside the range of the first panel are clipped.
    """
    planes = [p if p.ndim == 3 else p[..., p.shape[-1] // 2] for p in panels]
    low, high = planes[0].amin(dim=(1, 2), keepdim=True), planes[0].amax(dim=(1, 2), keepdim=True)
    height = max(p.shape[1] for p in planes)
    joined = torch.cat([torch.minimum(torch.maximum(p, low), high) for p in planes if p.shape[1] == height], dim=2)
    coloured = composite(joined.numpy(), channels, np.ones(joined.shape[1:], dtype=bool))
    parts = np.split(coloured, np.cumsum([p.shape[2] for p in planes])[:-1], axis=1)
    gap = np.full((height, _GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([piece for part in parts for piece in (part, gap)][:-1], axis=1)


def enlarged(picture: np.ndarray) -> np.ndarray:
    """``[h, w, 3]`` with every cell repeated as often as ``_HEIGHT`` allows: patches of 64 cells are small on a screen.

    Example:
        >>> enlarged(np.zeros((100, 300, 3), np.uint8)).shape
        (200, 600, 3)
    """
    times = max(1, _HEIGHT // len(picture))
    return picture.repeat(times, axis=0).repeat(times, axis=1)
