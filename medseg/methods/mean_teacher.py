"""Mean teacher: the network follows its own average on patches without labels, seen in another view."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Optimizer

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import ratio
from medseg.methods.outputs import check_whole, finest, split_outputs
from medseg.methods.streams import labelled, strong_view, unlabelled
from medseg.methods.supervised import Supervised
from medseg.methods.teacher import EmaTeacher
from medseg.sample import Batch


class MeanTeacher(Supervised):
    """Supervised on the labelled streams, consistent with an averaged teacher on those without labels.

    The teacher sees the weak view of a patch, the network the strong one. The loss on unlabelled patches is the mean
    squared difference of their probabilities over the cells that both views show, of all ranks. Its weight rises over
    the first part of the budget, as the teacher is of no use in the beginning. What is predicted and scored is the
    network.

    Args:
        network: What is trained.
        consistency: Weight of the difference after its rise.
        rise: Share of the budget over which the weight rises, in [0, 1].
        decay: Largest part that the average keeps in a step, in [0, 1).
        shared: What ``Supervised`` takes.

    Raises:
        InputError: A number outside its range, or a network with a margin.

    References:
        Tarvainen and Valpola, Mean teachers are better role models, 2017. The course of the weight is that of Laine and
        Aila, Temporal ensembling for semi-supervised learning, 2017.
    """

    unlabelled: ClassVar[Literal["refused", "used", "needed"]] = "needed"
    views: ClassVar[bool] = True

    def __init__(
        self, network: nn.Module, *, consistency: float = 1.0, rise: float = 0.4, decay: float = 0.99, **shared: Any
    ) -> None:
        super().__init__(network, **shared)
        if consistency < 0:
            raise InputError(f"method.consistency={consistency}: expected a weight of 0 or more")
        if not 0 <= rise <= 1:
            raise InputError(f"method.rise={rise}: expected a share of the budget from 0 to 1")
        if not 0 <= decay < 1:
            raise InputError(f"method.decay={decay}: expected 0 <= decay < 1, such as 0.99")
        check_whole(network, "method=mean_teacher")
        self.consistency, self.rise = consistency, rise
        self.teacher = EmaTeacher(network, decay)

    def training_step(self, batch: Batch | Mapping[str, Batch], batch_idx: int) -> Tensor:
        """Loss of the labelled patches, and the difference on the others."""
        own = labelled(batch)
        loss, parts = self.supervised_loss(own)
        sums = [self._difference(one) for one in unlabelled(batch)]
        difference = ratio(*(torch.stack(values).sum() for values in zip(*sums, strict=True)), gather=True)
        total = loss + self.consistency * risen(self.progress, self.rise) * difference
        self.log_losses({"loss": total, **parts, "consistency": difference}, len(own.image))
        return total

    def _difference(self, weak: Batch) -> tuple[Tensor, Tensor]:
        """Squared difference of teacher and network, summed over the cells of both views, and their number."""
        view = strong_view(weak)
        targets = probabilities(self.teacher(weak.image, **weak.context_for(self.teacher.network)), self.labels)
        targets, shown = view.carry(targets)
        strong = view.batch
        logits, _ = split_outputs(self.network(strong.image, **strong.context_for(self.network)))
        return squared_difference(probabilities(finest(logits), self.labels), targets, shown)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """One step of the network, and then of the teacher, before anything is stored."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.teacher.update(self.network)


def risen(progress: float, rise: float) -> float:
    """Share of a weight at this share of the budget: ``exp(-5 (1 - progress / rise)^2)``, and 1 after the rise.

    Example:
        >>> round(risen(0.0, 0.4), 4), risen(0.4, 0.4), risen(0.0, 0.0)
        (0.0067, 1.0, 1.0)
    """
    return 1.0 if progress >= rise else math.exp(-5 * (1 - progress / rise) ** 2)


def probabilities(logits: Float[Tensor, "b k *s"], labels: LabelTable) -> Float[Tensor, "b k *s"]:
    """Of each class, or of each region, in float32."""
    return logits.float().sigmoid() if labels.regions else logits.float().softmax(1)


def squared_difference(
    prob: Float[Tensor, "b k *s"], target: Float[Tensor, "b k *s"], counted: Bool[Tensor, "b *s"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean over outputs, summed over the cells that count; and the number of these."""
    return ((prob - target).square().mean(1) * counted).sum(), counted.sum().to(prob)
