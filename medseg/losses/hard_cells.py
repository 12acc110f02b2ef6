"""Cross-entropy of the hardest cells alone: the top share of them, and those whose label is improbable (OHEM)."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.decisions import DecisionLoss, Decisions


def hardest(
    cost: Float[Tensor, "*n"], counted: Bool[Tensor, "*n"], *, share: float, sure: float = 0.0
) -> Bool[Tensor, "*n"]:
    """True for counted cells that cost most.

    They are those whose label has a probability below ``sure``, and at least the ``share`` that costs most (rounded
    up), with all that cost as much as the last of these; the order of the cells does not matter.

    Args:
        cost: Negative log-probability of the label.
        counted: True where a cell counts.
        share: Share of the counted cells, in [0, 1].
        sure: Probability, in [0, 1]; 0 selects by ``share`` alone.

    References:
        Wu et al., Bridging Category-level and Instance-level Semantic Image Segmentation, 2016; Shrivastava et al.,
        Training Region-based Object Detectors with Online Hard Example Mining, 2016 (which mines boxes; of cells the
        least number is a number there and a share here, which fits any patch).
    """
    cost = torch.where(counted, cost.detach(), -1.0)
    last = (counted.sum() * share).ceil().long() - 1
    least = cost.flatten().sort(descending=True).values[last.clamp(min=0)]
    selected = (cost >= least) & (last >= 0)
    if sure > 0:
        selected = selected | (cost > -math.log(sure))
    return selected & counted


class HardCellsLoss(DecisionLoss):
    """Mean cross-entropy of the hardest counted cells; see ``hardest``.

    Of regions, each of a cell's decisions is taken or not. In a training on several ranks each takes the hardest of its
    own cells; the mean is over those of all ranks. So this loss differs from that of one process.

    Attributes:
        share: Share of the counted cells that count at least.
        sure: Probability of the label below which a cell counts in any case.
    """

    def __init__(
        self, labels: LabelTable, *, share: float = 0.1, sure: float = 0.0,
        class_weights: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        if not (0 < share <= 1 and 0 <= sure <= 1):
            raise InputError(
                f"loss top_k: expected share in (0, 1] and sure in [0, 1], got share={share} and sure={sure}"
            )
        super().__init__(labels, "top_k", class_weights)
        self.share, self.sure = share, sure

    def cost(self, decisions: Decisions) -> Float[Tensor, "b n *s"]:
        """Cross-entropy of each cell."""
        return -decisions.labelled()

    def decisions(self, *batch: Tensor) -> Decisions:
        """Those of the hardest cells; others weigh nothing."""
        decisions = super().decisions(*batch)
        counted = decisions.counted[:, None].expand_as(decisions.weight)
        selected = hardest(self.cost(decisions), counted, share=self.share, sure=self.sure)
        return replace(decisions, weight=decisions.weight * selected)
