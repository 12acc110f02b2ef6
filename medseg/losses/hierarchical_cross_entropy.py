"""Hierarchical cross-entropy: of the class, of its group, of the group of that."""

from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import ratio, region_cross_entropy
from medseg.losses.hierarchy import Groups, Hierarchy
from medseg.losses.targets import blank_uncounted, counted_cells, memberships, target_of


def hierarchical_cross_entropy(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    *,
    members: Bool[Tensor, "n k"],
    weight: Float[Tensor, "k n"],
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Weighted mean over the nodes above a cell's class of the negative logarithm of their probability, in nats.

    .. math:: - \sum_s \sum_v w_{g_s v} \log \sum_{c \in v} p_{sc} / \sum_s 1

    over counted cells s and nodes v of the hierarchy, of which each is a set of classes c, with p the softmax of
    ``logits`` and g the ``label``. Zero, with zero gradient, where no cell counts.

    Args:
        logits: Unnormalised class scores.
        label: Class of each cell, in [0, k), or ``IGNORE``.
        valid: False where a cell does not count.
        members: The classes of each node.
        weight: Weight w of each node (column) for the cells of each class (row).
        gather: Take the batch of all ranks, see ``sum_over_ranks``.

    References:
        Bertinetto et al., Making Better Mistakes: Leveraging Class Hierarchies with Deep Networks, CVPR 2020, whose
        terms are the probabilities of a node given its parent.
    """
    counted = counted_cells(label, valid)
    log_prob = blank_uncounted(logits, counted).log_softmax(dim=1)
    target = label.clamp(min=0).long()
    total = logits.new_zeros((), dtype=log_prob.dtype)
    for node, own in zip(members, weight.T, strict=True):
        of_node = log_prob[:, node].logsumexp(dim=1)
        total = total - (own.to(log_prob.dtype)[target] * of_node * counted).sum()
    return ratio(total, counted.sum().to(log_prob.dtype), gather=gather)


class HierarchicalCrossEntropyLoss(nn.Module):
    """Hierarchical cross-entropy of counted cells; of sigmoid regions, their binary cross-entropy.

    A mistake within a group costs less than one across groups. Regions are nodes of a hierarchy already.

    Attributes:
        labels: Meaning of the outputs.
    """

    weight: Tensor
    nodes: Tensor
    members: Tensor

    def __init__(self, labels: LabelTable, *, hierarchy: Groups = MappingProxyType({}), decay: float = 0.5) -> None:
        """Set up.

        Args:
            labels: Meaning of the outputs.
            hierarchy: Names of groups, each with the classes and groups that it holds; without any, the loss is
                cross-entropy.
            decay: Weight of a group for one of its children; those of a class and all above it are divided by their
                sum.

        Raises:
            InputError: The hierarchy is no tree over the classes, or ``decay`` is negative.
        """
        super().__init__()
        if not decay >= 0:
            raise InputError(f"loss hierarchical_ce: decay must not be negative, got {decay}")
        self.labels = labels
        tree = Hierarchy.of(labels, hierarchy, loss="hierarchical_ce")
        self.register_buffer("weight", _weights(tree, labels.n_classes, decay), persistent=False)
        self.register_buffer("nodes", tree.members, persistent=False)
        self.register_buffer("members", memberships(labels), persistent=False)

    def forward(
        self, logits: Float[Tensor, "b k *s"], label: Int[Tensor, "b *s"], valid: Bool[Tensor, "b *s"]
    ) -> Float[Tensor, ""]:
        """Loss in nats; ``label`` holds training indices or ``IGNORE``, also for regions."""
        if self.labels.regions:
            target, counted = target_of(label, self.members), counted_cells(label, valid)
            return region_cross_entropy(logits, target, counted, gather=self.training)
        return hierarchical_cross_entropy(
            logits, label, valid, members=self.nodes, weight=self.weight, gather=self.training
        )


def _weights(tree: Hierarchy, n_classes: int, decay: float) -> Float[Tensor, "k n"]:
    """Weight of each node for the cells of each class; they add up to 1."""
    weight = torch.zeros(n_classes, len(tree.names))
    for leaf in range(min(n_classes, len(tree.names))):
        chain = tree.chain(leaf)
        raw = torch.tensor([decay**height for height in range(len(chain))])
        weight[leaf, list(chain)] = raw / raw.sum()
    return weight
