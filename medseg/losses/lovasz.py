"""Lovász loss, of softmax classes and of sigmoid regions: a convex stand-in for one minus the IoU."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.labels import LabelTable
from medseg.losses.targets import blank_uncounted, counted_cells, memberships, target_of


def lovasz(prob: Float[Tensor, "k n"], target: Bool[Tensor, "k n"], counted: Bool[Tensor, " n"]) -> Float[Tensor, " k"]:
    r"""Lovász extension of the Jaccard loss of each class, at the errors of its probabilities.

    .. math:: \sum_i m_{(i)} (\Delta_i - \Delta_{i-1}), \quad
        \Delta_i = 1 - \frac{P - \sum_{j \le i} g_{(j)}}{P + \sum_{j \le i} (1 - g_{(j)})}

    with errors m = 1 - p in the P cells of the class (g = 1) and m = p elsewhere, (i) in descending order
    of m, and Delta_i one minus the IoU if the first i cells are wrong. One minus the IoU itself where
    every p is 0 or 1; the largest p for a class without cells.

    Args:
        prob: Probability of each class in each cell.
        target: True where a cell is of a class.
        counted: False where a cell does not count.

    Returns:
        Loss in [0, 1]. Differentiable in ``prob``.

    References:
        Berman et al., The Lovász-Softmax Loss, CVPR 2018.
    """
    target = target & counted
    error = torch.where(target, 1 - prob, prob) * counted  # cells that do not count come last, with weight times 0
    error, order = error.sort(dim=1, descending=True)
    hit = target.gather(1, order).long()
    positives = hit.sum(dim=1, keepdim=True)
    either = positives + (1 - hit).cumsum(dim=1)
    jaccard = 1 - (positives - hit.cumsum(dim=1)).double() / either
    step = torch.cat((jaccard[:, :1], jaccard.diff(dim=1)), dim=1)
    return (error * step.to(error.dtype)).sum(dim=1)


class LovaszLoss(nn.Module):
    """Mean Lovász loss of the classes that the batch has: softmax classes, or sigmoid regions if there are any.

    All images of a batch are evaluated as one. A class without counted cells is left out, since its IoU is
    undefined; with no class left the loss is 0 and so is its gradient. A region is a class and so is what
    lies outside of it, its background.

    In a training on several ranks each takes the loss of its own patches, and gradients are averaged: the sorting
    of errors over the cells of all ranks is not done, so this loss differs from that of one process.

    Attributes:
        labels: Meaning of the outputs.
        background: Let the background count as well. Else a batch without foreground teaches nothing.
    """

    members: Tensor

    def __init__(self, labels: LabelTable, *, background: bool = True) -> None:
        super().__init__()
        self.labels, self.background = labels, background
        self.register_buffer("members", memberships(labels), persistent=False)

    def forward(
        self, logits: Float[Tensor, "b k *s"], label: Int[Tensor, "b *s"], valid: Bool[Tensor, "b *s"]
    ) -> Float[Tensor, ""]:
        """Loss in [0, 1]; ``label`` holds training indices or ``IGNORE``, also for regions."""
        counted = counted_cells(label, valid)
        blanked = blank_uncounted(logits, counted)
        target = target_of(label, self.members)
        if self.labels.regions:
            prob = blanked.sigmoid()
            if self.background:
                prob, target = torch.cat((prob, 1 - prob), dim=1), torch.cat((target, ~target), dim=1)
        else:
            prob = blanked.softmax(dim=1)
            if self.labels.background and not self.background:
                prob, target = prob[:, 1:], target[:, 1:]
        prob, target = prob.transpose(0, 1).flatten(1), target.transpose(0, 1).flatten(1)
        present = (target & counted.flatten()).any(dim=1)
        return (lovasz(prob, target, counted.flatten()) * present).sum() / present.sum().clamp(min=1)
