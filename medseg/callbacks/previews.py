"""Previews: a few validation cases with label and prediction, as pictures with masks."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.loggers.image_logger import picture_loggers
from medseg.methods.method import PredictsCases
from medseg.sample import Batch, fullest_date
from medseg.viz.logged_images import Picture, case_title, pictures
from medseg.viz.overlay import Panels


class Previews(Callback):
    """Shows cases after each validation in every logger that takes pictures, as ``val/previews/<case>``.

    Volumes are shown in three orthogonal planes through most foreground, 2D images as a composite.

    Args:
        cases: How many validation cases, the first ones.
    """

    def __init__(self, cases: int = 3) -> None:
        self.cases = cases
        self._shown: dict[str, list[Picture]] = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the pictures of one of the first cases."""
        if batch_idx >= self.cases or not picture_loggers(trainer) or not isinstance(pl_module, PredictsCases):
            return
        image, label, valid = (array[0].cpu().numpy() for array in (batch.image, batch.label, batch.valid))
        image = fullest_date(image) if batch.dates else image
        context = {name: fact[0] for name, fact in batch.context_for(pl_module.network).items()}
        pred = pl_module.infer(batch.image[0], pl_module.network, **context).cpu().numpy()
        spec = pl_module.metadata.spec
        spacing = pl_module.metadata.plan.spacing if spec.ndim == 3 else (1.0, 1.0)
        # preprocessed volumes run to the right, anterior and superior; scenes are shown as they are stored
        grid = Grid.regular(label.shape, spacing, RAS_MM if spec.ndim == 3 else PIXEL)
        panels = Panels.of(image, label, pred, spec.labels, grid, channels=spec.channels, valid=valid)
        annotated = None if batch.annotated is None else batch.annotated[0].cpu().numpy()
        title = case_title(batch.cases[0], spec.labels, annotated)
        self._shown[f"val/previews/{batch.cases[0]}"] = pictures(panels, title)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the pictures."""
        if self._shown:
            for logger in picture_loggers(trainer):
                logger.log_pictures(self._shown, trainer.global_step)
        self._shown = {}
