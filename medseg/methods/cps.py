"""Cross pseudo supervision: two networks that began differently label the patches of each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.losses.cross_entropy import ratio
from medseg.methods.consistency import cutmix_of
from medseg.methods.mean_teacher import probabilities
from medseg.methods.outputs import check_whole, finest
from medseg.methods.pseudo_labels import divergence, hard, summed
from medseg.methods.streams import labelled, unlabelled
from medseg.methods.supervised import Supervised
from medseg.sample import Batch
from medseg.transforms.view_mix import mixed


class Cps(Supervised):
    """Two networks of one kind, each supervised, and on patches of all streams taught the other's hard labels.

    The loss is the sum of both supervised losses, plus ``weight`` times the cross-entropy of each network with the
    other's hard labels, summed over both and averaged over the cells with data of all streams and ranks (the paper
    averages labelled and unlabelled patches apart). All labels count, however sure; gradients reach the pupil alone.
    Of a stream with two views, both networks see the strong one. Logged are the supervised loss of the second network
    (``train/second``), the cross loss (``train/cross``) and the share of cells on which both disagree.

    What is validated, predicted with and exported is the first network. The second one lies in the checkpoint for
    resuming, under ``second``; it learns by the same optimiser, with groups of its own.

    Args:
        network: The first network.
        second: The other one, with other random weights.
        weight: Of the cross-entropy with the other's labels.
        cutmix: Probability that a patch without labels gets a box of another one of the batch; both networks label
            the patches before that, and the labels are mixed alike.
        shared: What ``Supervised`` takes.

    Raises:
        InputError: A number outside its range, or a network with a margin.

    References:
        Chen et al., Semi-supervised semantic segmentation with cross pseudo supervision, 2021.
    """

    unlabelled: ClassVar[Literal["refused", "used", "needed"]] = "needed"
    has_second: ClassVar[bool] = True

    def __init__(
        self, network: nn.Module, *, second: nn.Module, weight: float = 1.5, cutmix: float = 0.0, **shared: Any
    ) -> None:
        super().__init__(network, **shared)
        if weight < 0:
            raise InputError(f"method.weight={weight}: expected a weight of 0 or more")
        check_whole(network, "method=cps")
        self.second, self.weight, self.cutmix = second, weight, cutmix_of(cutmix)

    def training_step(self, batch: Batch | Mapping[str, Batch], batch_idx: int) -> Tensor:
        """Both supervised losses, and the cross loss on patches of all streams."""
        own = labelled(batch)
        outputs = [self.outputs_of(own, network) for network in self.networks()]
        (loss, parts), (other, _) = (self.loss_of(own, *one) for one in outputs)
        logits = [finest(one).float() for one, _ in outputs]
        sums = [self._crossed(logits, [self._labels(one) for one in logits], own.valid)]
        sums += [self._without_labels(one) for one in unlabelled(batch)]
        total, apart, cells = (torch.stack(values).sum() for values in zip(*sums, strict=True))
        cross = ratio(total, cells, gather=True)
        combined = loss + other + self.weight * cross
        logged = {"second": other, "cross": cross, "disagreement": ratio(apart, cells, gather=True)}
        self.log_losses({"loss": combined, **parts, **logged}, len(own.image))
        return combined

    def _without_labels(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """As ``_crossed``, of patches without labels."""
        view = batch if batch.strong is None else batch.strong.batch
        if not self.cutmix.p:
            logits = self._both(view)
            return self._crossed(logits, [self._labels(one) for one in logits], view.valid)
        with torch.no_grad():
            labels = [self._labels(one) for one in self._both(view)]
        view, labels = mixed(view, labels, self.cutmix)
        return self._crossed(self._both(view), labels, view.valid)

    def _both(self, batch: Batch) -> list[Float[Tensor, "b k *s"]]:
        """Logits of both networks."""
        return [finest(self.outputs_of(batch, one)[0]).float() for one in self.networks()]

    def _labels(self, logits: Float[Tensor, "b k *s"]) -> Float[Tensor, "b k *s"]:
        """Hard labels, without a gradient."""
        return hard(probabilities(logits.detach(), self.labels), regions=bool(self.labels.regions))

    def _crossed(
        self, logits: list[Float[Tensor, "b k *s"]], labels: list[Float[Tensor, "b k *s"]], valid: Bool[Tensor, "b *s"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy of each network with the other's labels, cells of which these differ, and the number of cells.

        All over the cells with data.
        """
        regions, counted = bool(self.labels.regions), valid[:, None]
        pairs = zip(logits, reversed(labels), strict=True)
        each = torch.stack([summed(divergence(one, target, regions=regions), counted) for one, target in pairs])
        apart = (labels[0] != labels[1]).any(1) & valid
        return each.sum(), apart.sum().to(each), valid.sum().to(each)

    def networks(self) -> tuple[nn.Module, ...]:
        """Both."""
        return (self.network, self.second)
