"""Losses for probabilities that say how often they are right: label smoothing, also by neighbours, and NACL."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.decisions import DecisionLoss, Decisions


def smoothed(
    target: Float[Tensor, "b n m *s"], possible: Float[Tensor, "b n m *s"], *, smoothing: float = 0.1
) -> Float[Tensor, "b n m *s"]:
    r"""Target that leaves a share of the probability to all possible outcomes alike.

    .. math:: (1 - \epsilon) g(k) + \epsilon / m

    Args:
        target: One-hot target.
        possible: One for the m outcomes that are possible, else zero.
        smoothing: The share epsilon, in [0, 1].

    References:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016.
    """
    return (1 - smoothing) * target + smoothing * possible / possible.sum(dim=2, keepdim=True)


def spatially_smoothed(
    target: Float[Tensor, "b n m *s"], counted: Bool[Tensor, "b *s"], *, sigma: float = 1.0
) -> Float[Tensor, "b n m *s"]:
    r"""Target that is uncertain where classes meet: half the cell's own, half of the cells around it.

    .. math:: t_s = (g_s + \sum_{j \in N(s)} w_{js} g_j / \sum_{j \in N(s)} w_{js}) / 2, \quad
        w_{js} = \exp(-|j - s|^2 / 2 \sigma^2)

    with N(s) the counted cells that touch s, by a corner too (8 in a plane, 26 in a volume). Without any, t = g.

    Args:
        target: One-hot target, zero in cells that do not count.
        counted: True where a cell counts.
        sigma: Width of the Gaussian, in cells; positive.

    References:
        Islam and Glocker, Spatially Varying Label Smoothing: Capturing Uncertainty from Expert Annotations, 2021 (their
        weight of the centre is the sum of the others, which is the half here; beyond the border they repeat cells,
        this leaves them out, as it does cells that do not count).
    """
    side, axes = math.exp(-0.5 / sigma**2), counted.ndim - 1
    weight = around(counted[:, None, None].to(target.dtype), side, axes=axes)
    mean = around(target, side, axes=axes) / torch.where(weight > 0, weight, 1.0)
    return (target + torch.where(weight > 0, mean, target)) / 2


def around(cells: Float[Tensor, "*n"], side: float = 1.0, *, axes: int) -> Float[Tensor, "*n"]:
    """Sum of the cells that touch each cell, by a corner too, along the last ``axes`` axes.

    Args:
        cells: Values; beyond the border they are 0.
        side: Weight of the two neighbours along an axis; diagonal ones have products of it.
        axes: Number of spatial axes.

    Example:
        >>> around(torch.tensor([1.0, 2.0, 4.0]), axes=1)
        tensor([2., 5., 2.])
    """
    total = torch.zeros_like(cells)
    for axis in range(cells.ndim - axes, cells.ndim):
        size = cells.shape[axis]
        line = functional.pad(cells + total, [0, 0] * (cells.ndim - 1 - axis) + [1, 1])
        total = total + side * (line.narrow(axis, 0, size) + line.narrow(axis, 2, size))
    return total


def proportions(target: Float[Tensor, "b n m *s"], counted: Bool[Tensor, "b *s"]) -> Float[Tensor, "b n m *s"]:
    """Share of each outcome among the labels of a cell and the counted cells that touch it; 0 in cells without any."""
    axes, cells = counted.ndim - 1, counted[:, None, None].to(target.dtype)
    return (target + around(target, axes=axes)) / (cells + around(cells, axes=axes)).clamp(min=1.0)


class LabelSmoothingLoss(DecisionLoss):
    """Mean cross-entropy of counted cells with a smoothed target; see ``smoothed``.

    A term of its own, as the label then is a distribution, which the cross-entropy of indices does not need to hold.
    The class weight of a cell is that of its label.
    """

    def __init__(
        self, labels: LabelTable, *, smoothing: float = 0.1, class_weights: Mapping[str, float] | None = None
    ) -> None:
        if not 0 <= smoothing <= 1:
            raise InputError(f"loss label_smoothing: expected smoothing in [0, 1], got {smoothing}")
        super().__init__(labels, "label_smoothing", class_weights)
        self.smoothing = smoothing

    def cost(self, decisions: Decisions) -> Float[Tensor, "b n *s"]:
        """Cross-entropy with the smoothed target."""
        target = smoothed(decisions.target(), decisions.possible(), smoothing=self.smoothing)
        return -(target * decisions.log_prob).sum(dim=2)


class SpatialSmoothingLoss(DecisionLoss):
    """Mean cross-entropy of counted cells with a target smoothed over neighbours; see ``spatially_smoothed``.

    The class weight of a cell is that of its own label.
    """

    def __init__(
        self, labels: LabelTable, *, sigma: float = 1.0, class_weights: Mapping[str, float] | None = None
    ) -> None:
        if not sigma > 0:
            raise InputError(f"loss svls: sigma must be positive, got {sigma}")
        super().__init__(labels, "svls", class_weights)
        self.sigma = sigma

    def cost(self, decisions: Decisions) -> Float[Tensor, "b n *s"]:
        """Cross-entropy with the smoothed target."""
        target = spatially_smoothed(decisions.target(), decisions.counted, sigma=self.sigma)
        return -(target * decisions.log_prob).sum(dim=2)


class NeighbourAwareLoss(DecisionLoss):
    r"""Mean cross-entropy of counted cells, and a penalty that holds logits to what the labels around them are.

    .. math:: - \log p(g) + \lambda / m \sum_k |\tau(k) - l(k)|

    with l the logits and tau the share of each class among the labels of a cell and the counted cells that touch it
    (3 x 3 in a plane, 3 x 3 x 3 in a volume). Logits then are not larger than they need to be, least where classes
    meet. A region has one logit, the difference of those of inside and outside, so it is held to 2 tau - 1 (and
    m = 1). Cross-entropy for lambda = 0.

    Attributes:
        penalty: Weight lambda of the penalty.

    References:
        Murugesan et al., Trust Your Neighbours: Penalty-Based Constraints for Model Calibration, MICCAI 2023 (regions
        and cells that do not count are ours).
    """

    def __init__(
        self, labels: LabelTable, *, penalty: float = 0.1, class_weights: Mapping[str, float] | None = None
    ) -> None:
        if not penalty >= 0:
            raise InputError(f"loss nacl: penalty must not be negative, got {penalty}")
        super().__init__(labels, "nacl", class_weights)
        self.penalty = penalty

    def cost(self, decisions: Decisions) -> Float[Tensor, "b n *s"]:
        """Cross-entropy and the penalty."""
        share = proportions(decisions.target(), decisions.counted)
        if self.labels.regions:
            distance = (2 * share[:, :, 1] - 1 - decisions.logits).abs()
        else:
            possible = decisions.possible()
            distance = ((share - decisions.logits[:, None]).abs() * possible).sum(dim=2) / possible.sum(dim=2)
        return self.penalty * distance - decisions.labelled()
