"""Rules of a hierarchy as losses: a class implies its group, a group one of its children, and one sibling alone."""

from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import region_cross_entropy
from medseg.losses.hierarchy import Groups, Hierarchy
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.targets import blank_uncounted, counted_cells, memberships, or_one, target_of


def rule_errors(score: Float[Tensor, "b n *s"], tree: Hierarchy) -> tuple[Float[Tensor, "b _ *s"], ...]:
    r"""How far each cell is from each rule, in [0, 1], in product logic.

    Composition, that each child implies its parent: s_v (1 - s_p). Decomposition, that each node that its children
    make up implies one of them: s_p (1 - max s_c). Exclusion, that no node and its siblings hold together: the mean
    of s_v s_a over siblings a.

    Args:
        score: Score s of each node, in [0, 1].
        tree: The hierarchy.

    Returns:
        Errors of the rules of composition, of decomposition and of exclusion: each for the nodes that have one.
    """
    below = [(node, parent) for node, parent in enumerate(tree.parents) if parent is not None]
    composition = [score[:, node] * (1 - score[:, parent]) for node, parent in below]
    decomposition = [
        score[:, node] * (1 - score[:, children].amax(dim=1))
        for node, (children, divided) in enumerate(zip(tree.children, tree.divided, strict=True))
        if divided
    ]
    exclusion = [
        score[:, node] * score[:, rivals].mean(dim=1) for node, rivals in enumerate(tree.rivals) if rivals.any()
    ]
    empty = score[:, :0]
    return tuple(torch.stack(errors, dim=1) if errors else empty for errors in (composition, decomposition, exclusion))


def power_mean(
    errors: Float[Tensor, "b m *s"], counted: Bool[Tensor, "b *s"], power: float, *, gather: bool = False
) -> Float[Tensor, ""]:
    """Generalised mean of each error over counted cells, averaged over the errors; 0 without cells or errors.

    Args:
        errors: Not negative.
        counted: False where a cell does not count.
        power: 1 is the mean, and more lets large errors prevail.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.
    """
    if not errors.shape[1]:
        return errors.sum()
    cells = [axis for axis in range(errors.ndim) if axis != 1]
    sums = torch.cat([((errors * counted[:, None]) ** power).sum(cells), counted.sum().to(errors.dtype)[None]])
    *_, number = sums = sum_over_ranks(sums, gather=gather)
    mean = sums[:-1] / or_one(number)
    return torch.where(mean > 0, torch.where(mean > 0, mean, 1.0) ** (1 / power), 0.0).mean()


def tree_min(
    logits: Float[Tensor, "b n *s"], target: Bool[Tensor, "b n *s"], lineage: Bool[Tensor, "n n"]
) -> Float[Tensor, "b n *s"]:
    """Logits that respect the hierarchy: where a node holds the least of it and all above, else the most of all below.

    Args:
        logits: Of each node.
        target: Whether each cell belongs to each node.
        lineage: See ``Hierarchy.lineage``.

    References:
        Li et al., Deep Hierarchical Semantic Segmentation, CVPR 2022.
    """
    least = [logits[:, above].amin(dim=1) for above in lineage]
    most = [logits[:, below].amax(dim=1) for below in lineage.T]
    return torch.where(target, torch.stack(least, dim=1), torch.stack(most, dim=1))


class LogicLoss(nn.Module):
    """Binary cross-entropy of each node of a hierarchy, plus what breaks its rules (LOGICSEG).

    The logits of classes are read as sigmoid scores, of which prediction takes the largest, as ever. Scores of
    groups are made from them by a linear head that learns with the network and is dropped after training; LOGICSEG's
    network returns them itself and predicts the best path through the tree. Regions are their own nodes, without a
    head: a region implies the smallest one around it, and the rules of children and siblings hold where children
    make up their parent and where siblings share no class. A hierarchy without groups has only the rule of
    siblings.

    Attributes:
        labels: Meaning of the outputs.
        tree: The hierarchy.
        rules: Weight of the rules.
        power: Of the mean over cells of what breaks a rule.
        tree_min: Cross-entropy of scores that respect the hierarchy, see ``tree_min``.
        groups: Head that makes the logits of groups; None without groups.

    References:
        Li et al., LOGICSEG: Parsing Visual Semantics with Neural Logic Learning and Reasoning, ICCV 2023.
    """

    nodes: Tensor

    def __init__(
        self,
        labels: LabelTable,
        *,
        hierarchy: Groups = MappingProxyType({}),
        rules: float = 0.2,
        power: float = 5.0,
        tree_min: bool = False,
    ) -> None:
        """Set up.

        Args:
            labels: Meaning of the outputs.
            hierarchy: Names of groups, each with the classes and groups that it holds.
            rules: Weight of the rules.
            power: Of the mean over cells of what breaks a rule, 1 or more.
            tree_min: Cross-entropy of scores that respect the hierarchy.

        Raises:
            InputError: The hierarchy is no tree over the classes, or a number is out of range.
        """
        super().__init__()
        if not (rules >= 0 and power >= 1):
            raise InputError(f"loss logic: expected rules >= 0 and power >= 1, got {rules} and {power}")
        self.labels, self.rules, self.power, self.tree_min = labels, rules, power, tree_min
        self.tree = Hierarchy.of(labels, hierarchy, loss="logic")
        nodes = memberships(labels) if labels.regions else self.tree.members
        self.register_buffer("nodes", nodes, persistent=False)
        self.groups = _head(self.tree, labels.n_outputs)

    def forward(
        self, logits: Float[Tensor, "b k *s"], label: Int[Tensor, "b *s"], valid: Bool[Tensor, "b *s"]
    ) -> Float[Tensor, ""]:
        """Loss in nats; ``label`` holds training indices or ``IGNORE``, also for regions."""
        counted, target = counted_cells(label, valid), target_of(label, self.nodes)
        scores = blank_uncounted(logits, counted)
        if self.groups is not None:
            with torch.autocast(label.device.type, enabled=False):
                scores = torch.cat([scores, self.groups(scores.movedim(1, -1)).movedim(-1, 1)], dim=1)
        consistent = tree_min(scores, target, self.tree.lineage) if self.tree_min else scores
        loss = region_cross_entropy(consistent, target, counted, gather=self.training)
        broken = [
            power_mean(errors, counted, self.power, gather=self.training)
            for errors in rule_errors(scores.sigmoid(), self.tree)
        ]
        return loss + self.rules * torch.stack(broken).sum()


def _head(tree: Hierarchy, outputs: int) -> nn.Linear | None:
    """Logits of groups from those of classes; at first the sum over the classes of a group."""
    n_groups = len(tree.names) - outputs
    if not n_groups:
        return None
    head = nn.Linear(outputs, n_groups)
    with torch.no_grad():
        head.weight.copy_(tree.members[outputs:].float())
        head.bias.zero_()
    return head
