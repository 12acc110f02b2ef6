"""Skeleton recall: share of the probability along the labelled centrelines, for thin structures."""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.structures import mean_of_batch, structures_of
from medseg.losses.targets import memberships
from medseg.losses.thinning import centrelines


@torch.no_grad()
def tubes(target: Bool[Tensor, "b n *s"], radius: int) -> Bool[Tensor, "b n *s"]:
    """The centreline of each mask and what lies within ``radius`` cells of it along every axis, inside the mask.

    Args:
        target: Masks in 2D or 3D.
        radius: 0 for the centreline alone.
    """
    lines = centrelines(target.flatten(0, 1)).unflatten(0, target.shape[:2]).float()
    pool = functional.max_pool2d if target.ndim == 4 else functional.max_pool3d
    return (pool(lines, 2 * radius + 1, stride=1, padding=radius) > 0) & target


def skeleton_recall(
    prob: Float[Tensor, "b n *s"], tube: Bool[Tensor, "b n *s"], *, smooth: float = 1.0, gather: bool = False
) -> Float[Tensor, " n"]:
    r"""Share of the cells of each structure's tube that is predicted, over the cells of the batch.

    .. math:: (\sum_s p_s t_s + \epsilon) / (\sum_s t_s + \epsilon)

    with p the probability, t the tube and epsilon = ``smooth``; 1 for a structure without labelled cells.

    Args:
        prob: Probability of each structure; 0 where a cell does not count.
        tube: Cells around the labelled centreline; false where a cell does not count.
        smooth: Pseudo-count, in cells.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.

    Returns:
        Scores in [0, 1], 1 is perfect.

    References:
        Kirchhoff et al., Skeleton Recall Loss for Connectivity Conserving and Resource Efficient Segmentation of Thin
        Tubular Structures, ECCV 2024. They take the centrelines of all foreground together and prepare them with
        the data; here they are those of each structure, computed from the label in every step.
    """
    cells = [axis for axis in range(prob.ndim) if axis != 1]
    hit, length = sum_over_ranks(torch.stack([(prob * tube).sum(cells), tube.float().sum(cells)]), gather=gather)
    return (hit + smooth) / (length + smooth)


class SkeletonRecallLoss(nn.Module):
    """One minus the mean skeleton recall: softmax classes without the background, or sigmoid regions if there are any.

    No loss on its own, as it says nothing of false cells; it goes with Dice and cross-entropy. The cells of all images
    are evaluated together; in training those of all ranks.

    Attributes:
        finest: Computed at full resolution only, as thinning is expensive.
        labels: Meaning of the outputs.
        radius: Width of the tube to each side of the centreline, in cells.
        smooth: Pseudo-count, in cells; positive.
    """

    needs: ClassVar[tuple[str, ...]] = ("annotated",)
    finest: ClassVar[bool] = True
    members: Tensor

    def __init__(self, labels: LabelTable, *, radius: float = 2, smooth: float = 1.0) -> None:
        super().__init__()
        if not (smooth > 0 and radius >= 0 and radius == int(radius)):
            raise InputError(
                f"loss skeleton_recall: expected smooth > 0 and a radius of 0 or more whole cells, got {smooth} and "
                f"{radius}"
            )
        self.labels, self.radius, self.smooth = labels, int(radius), smooth
        self.register_buffer("members", memberships(labels), persistent=False)

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss in [0, 1); ``label`` holds training indices or ``IGNORE``, also for regions."""
        prob, target, counted = structures_of(logits, label, valid, labels=self.labels, members=self.members)
        recall = skeleton_recall(prob, tubes(target, self.radius), smooth=self.smooth, gather=self.training)
        return mean_of_batch(1 - recall, annotated, counted, gather=self.training)
