"""Previews: a few validation cases with label and prediction, as pictures and as W&B overlays."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from medseg.geometry.grid import RAS_MM, Grid
from medseg.labels import IGNORE
from medseg.report.composite import composite, reduced, stretched
from medseg.report.planes import fullest, planes_of
from medseg.sample import Batch, DataSpec, fullest_date


class Previews(Callback):
    """Logs overlays with class names to W&B after each validation.

    Volumes are shown in the axial plane with most foreground, 2D images as a composite.

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
        if logger is None or batch_idx >= self.cases or not hasattr(pl_module, "infer"):
            return
        import wandb

        image, label, valid = (array[0].cpu().numpy() for array in (batch.image, batch.label, batch.valid))
        image = fullest_date(image) if batch.dates else image
        context = {name: fact[0] for name, fact in batch.context.items()}
        pred = pl_module.infer(batch.image[0], pl_module.network, **context).cpu().numpy()  # type: ignore[operator]
        stored: Any = pl_module.stored
        spec = DataSpec.from_dict(stored["spec"])
        names = dict(enumerate(spec.labels.names))
        known = np.where(label == IGNORE, len(names), label)
        if label.ndim == 2:
            picture = composite(reduced(image), spec.channels, reduced(valid))
            known, pred = reduced(known), reduced(pred)
        else:  # axes of preprocessed volumes run to the right, anterior and superior
            axial = planes_of(Grid.regular(label.shape, (1.0,) * 3, RAS_MM))[0]
            index = fullest(label > 0, axial)
            slice_, known, pred = (axial.cut(cells, index) for cells in (image[0], known, pred))
            picture = (stretched(slice_, np.isfinite(slice_), 1, 99) * 255).astype(np.uint8)
        masks = {
            "label": {"mask_data": known, "class_labels": {**names, len(names): "ignored"}},
            "prediction": {"mask_data": pred, "class_labels": names},
        }
        self._panels.append((batch.cases[0], wandb.Image(picture, masks=masks, caption=batch.cases[0])))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the overlays."""
        logger = self._logger(trainer)
        if logger is not None and self._panels:
            shown = {f"val/previews/{case}": panel for case, panel in self._panels}
            logger.experiment.log(shown | {"trainer/global_step": trainer.global_step})
        self._panels = []

    def _logger(self, trainer: Trainer) -> WandbLogger | None:
        return next((x for x in trainer.loggers if isinstance(x, WandbLogger)), None)
