"""Structural similarity (SSIM) of probability and label: means, variances and covariance in windows agree."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import ratio
from medseg.losses.structures import StructureLoss, Structures, counted_in_structures

_STABLE = (0.01**2, 0.03**2)
"""The constants C1 and C2 of values from 0 to 1."""


def ssim(
    prob: Float[Tensor, "b n *s"],
    target: Bool[Tensor, "b n *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    radius: int = 5,
    sigma: float = 1.5,
) -> Float[Tensor, "b n *s"]:
    r"""Structural similarity in the window around each cell.

    .. math:: \frac{(2 \mu_p \mu_g + C_1) (2 \sigma_{pg} + C_2)}
        {(\mu_p^2 + \mu_g^2 + C_1) (\sigma_p^2 + \sigma_g^2 + C_2)}

    with Gaussian means, variances and the covariance of p and g over the *counted* cells of a window: its weights are
    divided by their sum over these, so that cells that do not count, and those beyond the border, are left out and do
    not look like background. Without meaning in cells that do not count.

    Args:
        prob: Probability p of each structure; finite.
        target: True where a cell belongs to a structure.
        counted: True where a cell counts.
        radius: The window has 2 radius + 1 cells on each axis.
        sigma: Width of the Gaussian, in cells.

    Returns:
        Similarity in [-1, 1], 1 where both are equal.

    References:
        Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.
    """
    cells = counted[:, None].to(prob.dtype)
    p, g = prob * cells, target.to(prob.dtype) * cells
    weight = _smoothed(cells, radius, sigma).clamp(min=torch.finfo(prob.dtype).tiny)
    means = [_smoothed(part, radius, sigma) / weight for part in (p, g, p * p, p * g)]
    mean_p, mean_g, square_p, product = means
    of_both = 2 * (product - mean_p * mean_g)
    of_each = (square_p - mean_p**2) + (mean_g - mean_g**2)  # g is its own square
    first, second = _STABLE
    return (2 * mean_p * mean_g + first) * (of_both + second) / ((mean_p**2 + mean_g**2 + first) * (of_each + second))


def _smoothed(cells: Float[Tensor, "b n *s"], radius: int, sigma: float) -> Float[Tensor, "b n *s"]:
    """Sums over windows with Gaussian weights, one axis after the other; nothing is beyond the border."""
    places = range(-radius, radius + 1)
    weights = cells.new_tensor([math.exp(-0.5 * (place / sigma) ** 2) for place in places])
    weights = (weights / weights.sum())[None, None]
    for axis in range(2, cells.ndim):
        lines = cells.movedim(axis, -1)
        summed = functional.conv1d(lines.reshape(-1, 1, lines.shape[-1]), weights, padding=radius)
        cells = summed.view(lines.shape).movedim(-1, axis)
    return cells


class SSIMLoss(StructureLoss):
    """One minus the mean structural similarity: softmax classes without the background, or sigmoid regions.

    Part of BASNet's loss, the sum of cross-entropy of cells, SSIM of windows and IoU of maps (``loss=basnet``). The
    mean goes over counted cells and annotated structures; with no such cell the loss is 0 and so is its gradient. In
    training the mean is over the cells of all ranks.

    Attributes:
        radius: Of the window, in cells.
        sigma: Width of its Gaussian, in cells.

    References:
        Qin et al., BASNet: Boundary-Aware Salient Object Detection, CVPR 2019 (one structure, in windows that are not
        masked and see zeros beyond the border).
    """

    def __init__(self, labels: LabelTable, *, radius: int = 5, sigma: float = 1.5) -> None:
        super().__init__(labels)
        if not (radius >= 1 and sigma > 0):
            raise InputError(f"loss ssim: expected a radius of at least 1 cell and sigma > 0, got {radius} and {sigma}")
        self.radius, self.sigma = radius, sigma

    def cost(self, structures: Structures) -> Float[Tensor, ""]:
        """Loss in [0, 2]."""
        prob, target, counted, _, annotated = structures
        with torch.autocast(prob.device.type, enabled=False):
            unlike = 1 - ssim(prob, target, counted, radius=self.radius, sigma=self.sigma)
        cells = counted_in_structures(counted, annotated, prob.shape[1])
        return ratio((unlike * cells).sum(), cells.sum().to(unlike.dtype), gather=self.training)
