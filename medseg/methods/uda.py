"""Unsupervised data augmentation: sharpened targets of the weak view, and labels that count while they are news."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import IGNORE
from medseg.losses.targets import memberships
from medseg.methods.consistency import Consistency
from medseg.methods.mean_teacher import probabilities
from medseg.methods.outputs import Logits, finest
from medseg.methods.pseudo_labels import sharpened
from medseg.sample import Batch

SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "log": lambda progress: 1 - math.exp(-5 * progress),
    "linear": lambda progress: progress,
    "exp": lambda progress: math.exp(5 * (progress - 1)),
}
"""Share of the way from the probability of chance to 1, at a share of the budget."""


class Uda(Consistency):
    """``Consistency`` with targets at a temperature, and with annealed labels.

    A labelled cell whose class the network gives more than ``annealed(progress)`` is left out of the supervised loss in
    that step (of regions, where that holds for each of them), so that few labels are not learned by heart early: it
    is ignored by every term, as a cell without label. The paper leaves out whole images. ``threshold`` (0.8) and
    ``temperature`` (0.4) are those of the paper.

    Args:
        network: What is trained.
        temperature: Of the targets, above 0; 1 leaves them as they are.
        annealing: ``log``, ``linear`` or ``exp``: how fast all labels come to count; None: all of them always do.
        shared: What ``Consistency`` takes.

    Raises:
        InputError: A temperature or a schedule that is none.

    References:
        Xie et al., Unsupervised data augmentation for consistency training, 2020.
    """

    def __init__(
        self, network: nn.Module, *, temperature: float = 0.4, annealing: str | None = "linear", **shared: Any
    ) -> None:
        super().__init__(network, **shared)
        if not temperature > 0:
            raise InputError(f"method.temperature={temperature}: expected a number above 0, such as 0.4")
        if annealing is not None and annealing not in SCHEDULES:
            raise InputError(f"method.annealing={annealing}: expected {', '.join(SCHEDULES)} or null")
        self.temperature, self.annealing = temperature, annealing

    def target(self, prob: Float[Tensor, "b k *s"]) -> Float[Tensor, "b k *s"]:
        """The probabilities at the temperature."""
        return sharpened(prob, self.temperature, regions=bool(self.labels.regions))

    def loss_of(self, batch: Batch, logits: Logits, further: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the labels that count at this share of the budget, and its parts by name."""
        if self.annealing is not None:
            prob, regions = probabilities(finest(logits).detach(), self.labels), bool(self.labels.regions)
            most = annealed(self.progress, self.annealing, 2 if regions else prob.shape[1])
            members = memberships(self.labels).to(prob.device)
            known = known_cells(prob, batch.label, members, most, regions=regions)
            batch = replace(batch, label=batch.label.masked_fill(known, IGNORE))
        return super().loss_of(batch, logits, further)


def annealed(progress: float, schedule: str, outcomes: int) -> float:
    """Largest probability of a label that still counts: from about ``1 / outcomes``, that of chance, to 1.

    Example:
        >>> [round(annealed(0.5, name, 2), 3) for name in ("log", "linear", "exp")]
        [0.959, 0.75, 0.541]
    """
    chance = 1 / outcomes
    return SCHEDULES[schedule](progress) * (1 - chance) + chance


def known_cells(
    prob: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    members: Bool[Tensor, "k n"],
    most: float,
    *,
    regions: bool,
) -> Bool[Tensor, "b *s"]:
    """Labelled cells whose class has more than ``most`` (of regions: the labelled state of each); never ignored ones.

    Args:
        prob: Probabilities of the outputs.
        label: Class of each cell, or ``IGNORE``.
        members: Which classes (n) each output stands for, see ``memberships``.
        most: The probability.
        regions: Whether outputs are regions.
    """
    inside = members[:, label.clamp(min=0).long()].movedim(0, 1)
    right = torch.where(inside, prob, 1 - prob).amin(1) if regions else (prob * inside).sum(1)
    return (right > most) & (label != IGNORE)
