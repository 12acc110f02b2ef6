"""Learned pixel hardness: a branch on features learns which cells are hard, and these weigh more in the loss."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.decisions import DecisionLoss, Decisions
from medseg.losses.features import as_maps, to_shape
from medseg.losses.term import FeatureShape


class HardnessLoss(DecisionLoss):
    r"""Cross-entropy in which cells weigh by a learned hardness; the network lowers it, the branch raises it.

    .. math:: L = \sum_s h_s l_s / \sum_s h_s, \quad h_s = \phi + \operatorname{sigmoid}(f(x)_s)

    over the counted cells s, with l the cross-entropy and f a branch on the features of the encoder: convolutions of
    one cell to ``width`` channels, their sum, and one to a map. What the network learns from is L with h as constants,
    and what the branch learns from is -L with l as constants. Features reach the branch without a gradient, so it
    changes nothing but the weights. They are a mean's: raising all of them changes nothing, and the branch raises
    those of cells that cost more than the weighted mean. As it sees the image and not the loss of the moment, what it
    finds is where cells tend to be hard, and changes less than losses do. The floor phi bounds how much more one cell
    may weigh than another, (1 + phi) / phi times.

    The branch belongs to the training: its weights are in the checkpoint for a resume, and no prediction has them.

    Attributes:
        floor: The floor phi; positive.
        width: Channels of the branch.

    References:
        Xiao et al., Not All Pixels Are Equal: Learning Pixel Hardness for Semantic Segmentation, 2023 (whose branch is
        a segmentation head of its own; the floor and the normalisation by the weighted mean are ours).
    """

    needs: ClassVar[tuple[str, ...]] = ("annotated", "features")
    finest: ClassVar[bool] = True

    def __init__(
        self, labels: LabelTable, *, floor: float = 0.1, width: int = 32,
        class_weights: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        if not (floor > 0 and width >= 1):
            raise InputError(f"loss hardness: expected floor > 0 and width >= 1, got floor={floor} and width={width}")
        super().__init__(labels, "hardness", class_weights)
        self.floor, self.width = floor, width
        self.declared: tuple[FeatureShape, ...] = ()
        self.sides = nn.ModuleList()
        self.joined: nn.Module = nn.Identity()

    def attach(self, features: Sequence[FeatureShape], encoder: nn.Module) -> None:
        """Build the branch for features as an encoder declares them, fine to coarse; all cells are alike at first."""
        self.declared = tuple(features)
        convolution = nn.Conv2d if len(features[0].stride) == 2 else nn.Conv3d
        self.sides = nn.ModuleList(convolution(feature.channels, self.width, 1) for feature in features)
        self.joined = convolution(self.width, 1, 1)
        for parameter in self.joined.parameters():
            nn.init.zeros_(parameter)

    def hardness(self, features: Sequence[Tensor], shape: Sequence[int]) -> Float[Tensor, "b 1 *s"]:
        """Hardness h of each cell, in (floor, 1 + floor)."""
        maps = as_maps([feature.detach() for feature in features], self.declared, shape)
        sides = [to_shape(side(one), shape) for side, one in zip(self.sides, maps, strict=True)]
        hardness: Tensor = self.floor + self.joined(torch.stack(sides).sum(dim=0).relu()).float().sigmoid()
        return hardness

    def cost(self, decisions: Decisions) -> Float[Tensor, "b n *s"]:
        """Cross-entropy of each decision."""
        return -decisions.labelled()

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
        features: Sequence[Tensor] = (),
    ) -> Float[Tensor, ""]:
        """Loss in nats: the weighted mean in value; its gradient reaches the branch with the other sign."""
        decisions = self.annotated_decisions(logits, label, valid, annotated)
        cost, hard = self.cost(decisions), self.hardness(features, label.shape[1:])
        fixed = replace(decisions, weight=decisions.weight * hard.detach()).mean(cost, gather=self.training)
        raised = replace(decisions, weight=decisions.weight * hard).mean(cost.detach(), gather=self.training)
        return fixed + raised.detach() - raised
