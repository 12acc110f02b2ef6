"""Centreline Dice (clDice): overlap of soft skeletons with masks, for tubes and networks."""

from functools import reduce

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.structures import StructureLoss, Structures


def soft_skeleton(
    prob: Float[Tensor, "b n *s"], counted: Bool[Tensor, "b *s"], iterations: int
) -> Float[Tensor, "b n *s"]:
    r"""Skeleton by repeated erosion: what an opening removes, of the mask and of each of its erosions.

    .. math:: S_0 = [E_0 - O(E_0)]_+, \quad S_i = S_{i-1} + [d_i - S_{i-1} d_i]_+, \quad d_i = [E_i - O(E_i)]_+

    with E_i the mask after i erosions by a cross and O an opening: erosion by a cross, then dilation by a square or
    cube. Cells that do not count, and those beyond the edge of the array, take no part: a tube that runs out of the
    image keeps its skeleton there. Of a mask of zeros and ones the skeleton has zeros and ones, and may be broken.

    Args:
        prob: Values in [0, 1], in 1D to 3D.
        counted: False where a cell does not count; the skeleton is 0 there.
        iterations: Erosions; at least the largest radius of a tube, in cells.
    """
    counts = counted[:, None]
    image, skeleton = prob, torch.zeros_like(prob)
    for _ in range(iterations + 1):
        image, ridge = checkpoint(_opened, image, counts, use_reentrant=False, preserve_rng_state=False)
        skeleton = skeleton + functional.relu(ridge - skeleton * ridge)
    return skeleton


def _opened(
    image: Float[Tensor, "b n *s"], counts: Bool[Tensor, "b 1 *s"]
) -> tuple[Float[Tensor, "b n *s"], Float[Tensor, "b n *s"]]:
    """The image eroded by a cross, and what an opening removes of it."""
    ndim = image.ndim - 2
    lines = (tuple(3 if other == axis else 1 for other in range(ndim)) for axis in range(ndim))
    inverse = torch.where(counts, -image, -1.0)
    eroded = -reduce(torch.maximum, (_largest(inverse, line) for line in lines))
    opened = _largest(torch.where(counts, eroded, 0.0), (3,) * ndim)
    return eroded, functional.relu(image - opened) * counts


def _largest(image: Float[Tensor, "b n *s"], window: tuple[int, ...]) -> Float[Tensor, "b n *s"]:
    """Largest value in a window around each cell."""
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[len(window) - 1]
    result: Tensor = pool(image, window, stride=1, padding=tuple(size // 2 for size in window))
    return result


def cldice(
    prob: Float[Tensor, "b n *s"],
    target: Bool[Tensor, "b n *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    iterations: int = 3,
    smooth: float = 1.0,
    gather: bool = False,
) -> Float[Tensor, " n"]:
    r"""Centreline Dice of each structure, over the cells of the batch.

    .. math:: 2 T_p T_s / (T_p + T_s), \quad
        T_p = \frac{\sum S_p g + \epsilon}{\sum S_p + \epsilon}, \quad
        T_s = \frac{\sum S_g p + \epsilon}{\sum S_g + \epsilon}

    with S_p and S_g the soft skeletons of the probability p and of the label g, and epsilon = ``smooth``. Cells that
    do not count must be 0 in both. A structure without labelled cells scores by how small the skeleton of its
    probability is, and 1 where it has none.

    Args:
        prob: Probability of each structure; 0 where a cell does not count.
        target: True where a cell belongs to a structure; false where a cell does not count.
        counted: False where a cell does not count.
        iterations: See ``soft_skeleton``.
        smooth: Pseudo-count, in cells.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.

    Returns:
        Scores in [0, 1], 1 is perfect.

    References:
        Shit et al., clDice: a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation, CVPR 2021.
    """
    mask = target.to(prob.dtype)
    of_prob, of_mask = (soft_skeleton(cells, counted, iterations) for cells in (prob, mask))
    cells = [axis for axis in range(prob.ndim) if axis != 1]
    parts = torch.stack(
        [(of_prob * mask).sum(cells), of_prob.sum(cells), (of_mask * prob).sum(cells), of_mask.sum(cells)]
    )
    hit, length, covered, labelled = sum_over_ranks(parts, gather=gather) + smooth
    precision, recall = hit / length, covered / labelled
    return 2 * precision * recall / (precision + recall)


class ClDiceLoss(StructureLoss):
    """One minus the mean centreline Dice: softmax classes without the background, or sigmoid regions if there are any.

    No loss on its own, as skeletons say nothing of widths: the authors give it half of the weight next to Dice. The
    cells of all images are evaluated together; in training those of all ranks.

    Attributes:
        iterations: Erosions; at least the largest radius of a tube, in cells.
        smooth: Pseudo-count, in cells; positive.
    """

    def __init__(self, labels: LabelTable, *, iterations: float = 3, smooth: float = 1.0) -> None:
        super().__init__(labels)
        if not (smooth > 0 and iterations >= 1 and iterations == int(iterations)):
            raise InputError(
                f"loss cldice: expected smooth > 0 and a whole number of iterations, at least 1, got {smooth} and "
                f"{iterations}"
            )
        self.iterations, self.smooth = int(iterations), smooth

    def cost(self, structures: Structures) -> Float[Tensor, ""]:
        """Loss in [0, 1]."""
        prob, target, counted, *_ = structures
        score = cldice(prob, target, counted, iterations=self.iterations, smooth=self.smooth, gather=self.training)
        return structures.mean(1 - score, gather=self.training)
