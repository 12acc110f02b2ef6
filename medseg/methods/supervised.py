"""Supervised training: a network, a loss, patches in, whole cases judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from medseg.labels import LabelTable
from medseg.methods.method import Method, gathered
from medseg.sample import Batch

Loss = Callable[[Any, Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]
"""(logits or list of logits fine to coarse, label, valid) -> (loss, its parts by name)."""
Judge = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(pred, label, valid) of a whole case -> counts, such as a confusion matrix."""
Summarise = Callable[[Sequence[np.ndarray]], dict[str, float]]
"""Counts of all cases -> scores by the end of their key; ``dice`` is one of them."""


class Supervised(Method):
    """Trains on labelled patches; validates on whole cases.

    Args:
        network: Maps ``[b, c, *s]`` to logits ``[b, k, *s]``, or in training to a list of them; of time series
            also told ``Batch.context``.
        loss: Called with logits, label and valid.
        infer: Maps (image ``[c, *s]``, network) to training indices ``[*s]``, for whole cases; likewise.
        judge: Counts of a whole case.
        summarise: Scores of all cases, from their counts.
        labels: The label table.
        shared: What every ``Method`` takes.
    """

    monitor = ("val/dice", "max")

    def __init__(
        self,
        network: nn.Module,
        *,
        loss: Loss,
        infer: Callable[..., Tensor],
        judge: Judge,
        summarise: Summarise,
        labels: LabelTable,
        **shared: Any,
    ) -> None:
        super().__init__(network, **shared)
        self.loss = loss
        self.infer = infer
        self.judge = judge
        self.summarise = summarise
        self.labels = labels
        self._counts: dict[str, np.ndarray] = {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch of augmented patches."""
        loss, parts = self.loss(self.network(batch.image, **batch.context), batch.label, batch.valid)
        n = len(batch.image)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=n)
        self.log_dict({f"train/{name}": part.detach() for name, part in parts.items()}, batch_size=n)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=n)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the counts of the last round."""
        super().on_validation_epoch_start()
        self._counts = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one whole case (or a tile of a large one), from overlapping windows."""
        pred = self.infer(batch.image[0], self.network, **{name: fact[0] for name, fact in batch.context.items()})
        label, valid = batch.label[0].cpu().numpy(), batch.valid[0].cpu().numpy()
        counts = self.judge(pred.cpu().numpy(), label, valid)
        case = batch.cases[0]
        self._counts[case] = self._counts[case] + counts if case in self._counts else counts

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all cases: ``val/dice``, ``val/dice/<class>`` and what ``summarise`` gives besides."""
        super().on_validation_epoch_end()
        for name, score in self.summarise(list(gathered(self._counts).values())).items():
            self.log(f"val/{name}", score, prog_bar=name == "dice")
