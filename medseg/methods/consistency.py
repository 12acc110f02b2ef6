"""Consistency of two views: the network's own targets on the weak view are what it learns on the strong one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.losses.cross_entropy import ratio
from medseg.methods.mean_teacher import probabilities
from medseg.methods.outputs import check_whole, finest, split_outputs
from medseg.methods.pseudo_labels import confidence, divergence, summed
from medseg.methods.streams import labelled, strong_view, unlabelled
from medseg.methods.supervised import Supervised
from medseg.sample import Batch
from medseg.transforms.mix import CutMix
from medseg.transforms.view_mix import mixed


class Consistency(Supervised, ABC):
    """Supervised on the labelled streams, and on the others taught by its own confident predictions of the weak view.

    The network predicts the weak view as it is, in training mode, without gradients. Its probabilities are carried onto
    the cells of the strong view; where the likeliest class has ``threshold`` or more (of regions, each by itself), the
    divergence of the strong view's probabilities from ``target`` counts. The loss is the supervised one, plus
    ``weight`` times that divergence, summed over the confident cells and divided by the number of all cells that both
    views show, of all ranks: it rises with the share of confident cells, logged as ``train/confident``.

    Args:
        network: What is trained.
        weight: Of the divergence.
        threshold: Least probability of a target that counts, in [0, 1].
        cutmix: Probability that a strong view gets a box of another one of the batch, with its targets.
        shared: What ``Supervised`` takes.

    Raises:
        InputError: A number outside its range, or a network with a margin.
    """

    unlabelled: ClassVar[Literal["refused", "used", "needed"]] = "needed"
    views: ClassVar[bool] = True

    def __init__(
        self, network: nn.Module, *, weight: float = 1.0, threshold: float = 0.95, cutmix: float = 0.0, **shared: Any
    ) -> None:
        super().__init__(network, **shared)
        if weight < 0:
            raise InputError(f"method.weight={weight}: expected a weight of 0 or more")
        if not 0 <= threshold <= 1:
            raise InputError(f"method.threshold={threshold}: expected a probability from 0 to 1, such as 0.95")
        check_whole(network, f"method={type(self).__module__.rpartition('.')[2]}")
        self.weight, self.threshold, self.cutmix = weight, threshold, cutmix_of(cutmix)

    @abstractmethod
    def target(self, prob: Float[Tensor, "b k *s"]) -> Float[Tensor, "b k *s"]:
        """What the strong view's probabilities are compared with, from those of the weak view."""

    def training_step(self, batch: Batch | Mapping[str, Batch], batch_idx: int) -> Tensor:
        """Loss of the labelled patches, and the divergence on the others."""
        own = labelled(batch)
        loss, parts = self.supervised_loss(own)
        sums = [self._compared(one) for one in unlabelled(batch)]
        total, confident, cells = (torch.stack(values).sum() for values in zip(*sums, strict=True))
        consistency = ratio(total, cells, gather=True)
        combined = loss + self.weight * consistency
        logged = {"consistency": consistency, "confident": ratio(confident, cells, gather=True)}
        self.log_losses({"loss": combined, **parts, **logged}, len(own.image))
        return combined

    def _compared(self, weak: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The divergence over the confident cells, their number, and that of the cells that both views show."""
        regions, view = bool(self.labels.regions), strong_view(weak)
        with torch.no_grad():
            prob, shown = view.carry(self._probabilities(weak))
        strong, (prob, shown) = mixed(view.batch, [prob, shown], self.cutmix)
        logits, _ = split_outputs(self.network(strong.image, **strong.context_for(self.network)))
        counted = (confidence(prob, regions=regions) >= self.threshold) & shown[:, None]
        each = divergence(finest(logits).float(), self.target(prob), regions=regions)
        return summed(each, counted), summed(torch.ones_like(each), counted), shown.sum().to(each)

    def _probabilities(self, weak: Batch) -> Float[Tensor, "b k *s"]:
        """What the network takes the weak view for."""
        logits, _ = split_outputs(self.network(weak.image, **weak.context_for(self.network)))
        return probabilities(finest(logits), self.labels)


def cutmix_of(p: float) -> CutMix:
    """CutMix of views with this probability; boxes of a tenth to half of a patch, as in ``transform.cutmix``.

    Raises:
        InputError: No probability.
    """
    if not 0 <= p <= 1:
        raise InputError(f"method.cutmix={p}: expected a probability from 0 to 1; 0 switches it off")
    return CutMix(p=p)
