"""Previews: a few validation cases with label and prediction, as pictures and as W&B overlays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from medseg.labels import IGNORE
from medseg.sample import Batch


def busiest_slice(label: npt.NDArray[Any]) -> int:
    """Position along the last axis of a volume that shows most foreground; the middle if there is none.

    Example:
        >>> busiest_slice(np.array([[[0, 1, 0], [0, 1, 2]]]))
        1
    """
    counts = (label > 0).sum(axis=tuple(range(label.ndim - 1)))
    return int(counts.argmax()) if counts.any() else label.shape[-1] // 2


def to_plane(array: npt.NDArray[Any], position: int | None) -> npt.NDArray[Any]:
    """The plane of ``[*s]`` to show: axial for volumes, anterior up and the patient's right on the left.

    Args:
        array: A volume with axes towards right, anterior, superior; or an image with rows and columns.
        position: Slice of a volume; None for an image.
    """
    if position is None:
        return array
    return np.flip(array[..., position], (0, 1)).T


class Previews(Callback):
    """Logs overlays with class names to W&B after each validation.

    Args:
        cases: How many validation cases, the first ones.
    """

    def __init__(self, cases: int = 3) -> None:
        self.cases = cases
        self._panels: list[tuple[str, Any]] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the overlay of one of the first cases."""
        logger = self._logger(trainer)
        if logger is None or batch_idx >= self.cases:
            return
        import wandb

        label = batch.label[0].cpu().numpy()
        pred = pl_module.infer(batch.image[0], pl_module.network).cpu().numpy()  # type: ignore[operator]
        position = busiest_slice(label) if label.ndim == 3 else None
        image = to_plane(batch.image[0, 0].cpu().numpy(), position)
        low, high = np.percentile(image, [1, 99])
        grey = (np.clip((image - low) / max(high - low, 1e-8), 0, 1) * 255).astype(np.uint8)
        names = dict(enumerate(pl_module.labels.names))  # type: ignore[union-attr, arg-type]
        known = np.where(label == IGNORE, len(names), label)
        masks = {
            "label": {"mask_data": to_plane(known, position), "class_labels": {**names, len(names): "ignored"}},
            "prediction": {"mask_data": to_plane(pred, position), "class_labels": names},
        }
        self._panels.append((batch.cases[0], wandb.Image(grey, masks=masks, caption=batch.cases[0])))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the overlays."""
        logger = self._logger(trainer)
        if logger is not None and self._panels:
            shown = {f"val/previews/{case}": panel for case, panel in self._panels}
            logger.experiment.log(shown | {"trainer/global_step": trainer.global_step})
        self._panels = []

    def _logger(self, trainer: Trainer) -> WandbLogger | None:
        return next((x for x in trainer.loggers if isinstance(x, WandbLogger)), None)
