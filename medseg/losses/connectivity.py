"""Connectivity: whether two neighbouring cells both belong to a structure."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import ratio
from medseg.losses.structures import StructureLoss, Structures, counted_in_structures

_LEAST = 1e-30
"""Smallest probability of which a logarithm is taken in float32."""


def connectivity(
    prob: Float[Tensor, "b n *s"],
    rest: Float[Tensor, "b n *s"],
    target: Bool[Tensor, "b n *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    corners: bool = True,
    edges: float = 0.5,
    annotated: Bool[Tensor, "b n"] | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Binary cross-entropy of being connected, over pairs of neighbouring cells and structures, in nats.

    .. math:: \lambda \, \mathrm{mean}_{g_s \ne g_t} l_{st} + (1 - \lambda) \, \mathrm{mean}_{g_s = g_t} l_{st}, \quad
        l_{st} = - g_s g_t \log (p_s p_t) - (1 - g_s g_t) \log (1 - p_s p_t)

    with p the probability of a structure and g its label in the cells s and t of a pair, and lambda = ``edges``: both
    means go over pairs of counted cells, and one without pairs is 0.

    Args:
        prob: Probability p of each structure.
        rest: One minus it, which float32 can't tell from 0 if p is near 1.
        target: True where a cell belongs to a structure.
        counted: False where a cell does not count.
        corners: Pairs across corners and edges too, not across faces alone.
        edges: Weight of the pairs across a labelled boundary, in [0, 1].
        annotated: Which structures each image annotates; others do not count. None for all.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.
    """
    cells = counted_in_structures(counted, annotated, prob.shape[1])
    sums = prob.new_zeros(2, 2)
    for here, there in _pairs(prob.ndim - 2, corners=corners):
        both = cells[here] & cells[there]
        p, q, p_there, q_there = (cells[place] for place in (here, there) for cells in (prob, rest))
        joint = target[here] & target[there]
        log_of = torch.where(joint, p * p_there, q + p * q_there).clamp(min=_LEAST).log()
        across = both & (target[here] ^ target[there])
        parts = [(-(log_of * some).sum(), some.sum().to(prob.dtype)) for some in (across, both & ~across)]
        sums = sums + torch.stack([torch.stack(part) for part in parts])
    across, alike = (ratio(*of_pairs, gather=gather) for of_pairs in sums)
    return edges * across + (1 - edges) * alike


def _pairs(ndim: int, *, corners: bool) -> Iterator[tuple[Any, Any]]:
    """For each direction, half of all, the indices of cells that have a neighbour there, and of the neighbours."""
    for offset in product((-1, 0, 1), repeat=ndim):
        if offset > (0,) * ndim and (corners or sum(map(abs, offset)) == 1):
            here = tuple(slice(max(0, -step), min(0, -step) or None) for step in offset)
            there = tuple(slice(max(0, step), min(0, step) or None) for step in offset)
            yield (..., *here), (..., *there)


def one_minus(prob: Float[Tensor, "b k *s"]) -> Float[Tensor, "b k *s"]:
    """Sum of the probabilities of the other classes, without cancellation.

    Example:
        >>> one_minus(torch.tensor([[[1.0], [1e-12], [2e-12]]])).flatten().tolist()[0] > 2e-12
        True
    """
    before = prob.cumsum(dim=1)
    after = prob.flip(1).cumsum(dim=1).flip(1)
    none = torch.zeros_like(prob[:, :1])
    return torch.cat((none, before[:, :-1]), dim=1) + torch.cat((after[:, 1:], none), dim=1)


class ConnectivityLoss(StructureLoss):
    """Connectivity of the structures: softmax classes without the background, or sigmoid regions if there are any.

    A cell is connected with a neighbour if both belong to the structure. ConnNet predicts this with outputs of its
    own, one for each neighbour, from which it decodes the mask. Here the probability that two cells are
    connected is the product of theirs, so any network serves, prediction stays as it is, and the term has no
    parameters. Half of the weight goes to pairs across a boundary, as BiconNet gives cells there a term of their own.

    Attributes:
        corners: All 8 (in 3D 26) neighbours, else the 4 (6) across faces.
        edges: Share of the weight that goes to pairs across a labelled boundary.

    References:
        Kampffmeyer et al., ConnNet: A Long-Range Relation-Aware Pixel-Connectivity Network for Salient Segmentation,
        2018; Yang et al., BiconNet: An Edge-preserved Connectivity-based Approach for Salient Object Detection, 2022.
    """

    def __init__(self, labels: LabelTable, *, corners: bool = True, edges: float = 0.5) -> None:
        super().__init__(labels)
        if not 0 <= edges <= 1:
            raise InputError(f"loss connectivity: edges must lie in [0, 1], got {edges}")
        self.corners, self.edges = corners, edges

    def cost(self, structures: Structures) -> Float[Tensor, ""]:
        """Loss in nats."""
        prob, target, counted, scores, annotated = structures
        rest = (-scores).sigmoid() if self.labels.regions else one_minus(scores.softmax(dim=1))
        return connectivity(
            prob, rest[:, -prob.shape[1] :], target, counted, corners=self.corners, edges=self.edges,
            annotated=annotated, gather=self.training,
        )  # fmt: skip
