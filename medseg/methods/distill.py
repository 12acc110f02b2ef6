"""Distillation: the network learns the probabilities of a trained one, in addition to the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.losses.cross_entropy import ratio
from medseg.methods.outputs import Logits, check_whole, finest
from medseg.methods.pseudo_labels import divergence, summed
from medseg.methods.streams import labelled, unlabelled
from medseg.methods.supervised import Supervised
from medseg.methods.teacher import TrainedTeacher
from medseg.sample import Batch


class Distill(Supervised):
    """Supervised on the labelled patches, and as the teacher on the patches of all streams.

    The loss is the supervised one, plus ``weight`` times the divergence of the network's probabilities from the
    teacher's (Kullback-Leibler, mean over the cells with data; of regions its mean over them), both at ``temperature``,
    times its square, which keeps the size of gradients.

    Args:
        network: What is trained.
        teacher: The trained network; ``method.teacher`` names its checkpoint.
        weight: Of the divergence.
        temperature: What the logits of both are divided by.
        shared: What ``Supervised`` takes.

    Raises:
        InputError: No teacher, a number outside its range, or a network with a margin.

    References:
        Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015.
    """

    unlabelled: ClassVar[Literal["refused", "used", "needed"]] = "used"

    def __init__(
        self,
        network: nn.Module,
        *,
        teacher: TrainedTeacher | None,
        weight: float = 1.0,
        temperature: float = 2.0,
        **shared: Any,
    ) -> None:
        super().__init__(network, **shared)
        if not isinstance(teacher, TrainedTeacher):
            raise InputError(
                "method.teacher=null: expected a checkpoint of a run, such as runs/NAME/checkpoints/best.ckpt"
            )
        if weight < 0:
            raise InputError(f"method.weight={weight}: expected a weight of 0 or more")
        if not temperature > 0:
            raise InputError(f"method.temperature={temperature}: expected a number above 0, such as 2")
        check_whole(network, "method=distill")
        self.teacher, self.weight, self.temperature = teacher, weight, temperature

    def training_step(self, batch: Batch | Mapping[str, Batch], batch_idx: int) -> Tensor:
        """Loss of the labelled patches, and the divergence on those of all streams."""
        own = labelled(batch)
        logits, further = self.outputs_of(own)
        loss, parts = self.loss_of(own, logits, further)
        pairs = [(own, logits), *((one, self.outputs_of(one)[0]) for one in unlabelled(batch))]
        sums = [self._divergence(one, its) for one, its in pairs]
        divergence = ratio(*(torch.stack(values).sum() for values in zip(*sums, strict=True)), gather=True)
        combined = loss + self.weight * divergence
        self.log_losses({"loss": combined, **parts, "distill": divergence}, len(own.image))
        return combined

    def _divergence(self, batch: Batch, logits: Logits) -> tuple[Tensor, Tensor]:
        """Sum of the divergence over the cells that count, and their number."""
        target = self.teacher.probabilities(batch, self.temperature)
        scaled = finest(logits).float() / self.temperature
        each = divergence(scaled, target, regions=bool(self.labels.regions))
        return self.temperature**2 * summed(each, batch.valid[:, None]), batch.valid.sum().to(each)
