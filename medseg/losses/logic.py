"""Rules of a hierarchy as losses: a class implies its group, a group one of its children, and one sibling alone."""

from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import mean_of_regions, region_cell_cross_entropy
from medseg.losses.hierarchy import Groups, Hierarchy
from medseg.losses.partial import annotated_mean
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.structures import counted_in_structures
from medseg.losses.targets import blank_uncounted, counted_cells, memberships, target_of


class RuleErrors(NamedTuple):
    """How far each cell is from the rules of one kind.

    Attributes:
        values: For each rule, in [0, 1].
        annotated: The rules of which each image annotates every node; None for all.
    """

    values: Float[Tensor, "b m *s"]
    annotated: Bool[Tensor, "b m"] | None = None


def rule_errors(
    score: Float[Tensor, "b n *s"], tree: Hierarchy, annotated: Bool[Tensor, "b n"] | None = None
) -> tuple[RuleErrors, ...]:
    r"""How far each cell is from each rule, in [0, 1], in product logic.

    Composition, that each child implies its parent: s_v (1 - s_p). Decomposition, that each node that its children
    make up implies one of them: s_p (1 - max s_c). Exclusion, that no node and its siblings hold together: the mean
    of s_v s_a over siblings a that an image annotates.

    Args:
        score: Score s of each node, in [0, 1].
        tree: The hierarchy.
        annotated: Which nodes each image annotates; None for all.

    Returns:
        Errors of the rules of composition, of decomposition and of exclusion: each for the nodes that have one.
    """
    below, divided, rivals = _rules(tree)
    composition = [score[:, node] * (1 - score[:, parent]) for node, parent in below]
    decomposition = [score[:, node] * (1 - score[:, children].amax(dim=1)) for node, children in divided]
    exclusion = [score[:, node] * _mean_of_nodes(score, others, annotated) for node, others in rivals]
    errors = [torch.stack(rules, dim=1) if rules else score[:, :0] for rules in (composition, decomposition, exclusion)]
    masks = _annotated_rules(tree, annotated)
    return tuple(RuleErrors(values, mask) for values, mask in zip(errors, masks, strict=True))


def _annotated_rules(tree: Hierarchy, annotated: Bool[Tensor, "b n"] | None) -> list[Bool[Tensor, "b _"] | None]:
    """The rules of each kind of which each image annotates every node; None for all."""
    if annotated is None:
        return [None] * 3
    below, divided, rivals = _rules(tree)
    nodes = (
        [annotated[:, [node, parent]].all(dim=1) for node, parent in below],
        [annotated[:, node] & annotated[:, children].all(dim=1) for node, children in divided],
        [annotated[:, node] & annotated[:, others].any(dim=1) for node, others in rivals],
    )
    return [torch.stack(rules, dim=1) if rules else annotated[:, :0] for rules in nodes]


def _rules(tree: Hierarchy) -> tuple[list[tuple[int, int]], list[tuple[int, Tensor]], list[tuple[int, Tensor]]]:
    """Nodes with their parent, nodes that their children make up with these, and nodes with their siblings."""
    below = [(node, parent) for node, parent in enumerate(tree.parents) if parent is not None]
    families = zip(tree.children, tree.divided, strict=True)
    divided = [(node, children) for node, (children, whole) in enumerate(families) if whole]
    return below, divided, [(node, others) for node, others in enumerate(tree.rivals) if others.any()]


def _mean_of_nodes(
    score: Float[Tensor, "b n *s"], nodes: Bool[Tensor, " n"], annotated: Bool[Tensor, "b n"] | None
) -> Float[Tensor, "b *s"]:
    """Mean of the scores of some nodes over those that each image annotates; 0 where it annotates none."""
    if annotated is None:
        return score[:, nodes].mean(dim=1)
    share = annotated[:, nodes].to(score.dtype)
    share = share / share.sum(dim=1, keepdim=True).clamp(min=1)
    return (score[:, nodes] * share.view(*share.shape, *[1] * (score.ndim - 2))).sum(dim=1)


def power_mean(
    errors: RuleErrors, counted: Bool[Tensor, "b *s"], power: float, *, gather: bool = False
) -> Float[Tensor, ""]:
    """Generalised mean of each error over counted cells, averaged over the errors; 0 without cells or errors.

    Args:
        errors: Of cells of images that do not annotate all nodes of a rule, its error does not count.
        counted: False where a cell does not count.
        power: 1 is the mean, and more lets large errors prevail.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.
    """
    values, annotated = errors
    n = values.shape[1]
    if not n:
        return values.sum()
    axes = [axis for axis in range(values.ndim) if axis != 1]
    cells = counted_in_structures(counted, annotated, n)
    sums = torch.cat([((values * cells) ** power).sum(axes), cells.sum(axes).to(values.dtype)])
    sums = sum_over_ranks(sums, gather=gather)
    mean = sums[:n] / sums[n:].clamp(min=1)
    roots = torch.where(mean > 0, torch.where(mean > 0, mean, 1.0) ** (1 / power), 0.0)
    return annotated_mean(roots[None], None if annotated is None else sums[None, n:] > 0)[0]


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

    What a patch does not annotate has no part in a mean: classes and regions, groups of which it does not annotate
    every class, and rules about them; their probability is that of the background, see ``losses.partial``.

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

    needs: ClassVar[tuple[str, ...]] = ("annotated",)
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
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss in nats; ``label`` holds training indices or ``IGNORE``, also for regions."""
        counted, target = counted_cells(label, valid), target_of(label, self.nodes)
        nodes = self._annotated_nodes(annotated)
        scores = blank_uncounted(logits, counted)
        if self.groups is not None:
            own = counted_in_structures(counted, None if nodes is None else annotated, scores.shape[1])
            with torch.autocast(label.device.type, enabled=False):
                of_groups = self.groups(torch.where(own, scores, 0.0).movedim(1, -1)).movedim(-1, 1)
            scores = torch.cat([scores, of_groups], dim=1)
        consistent = tree_min(scores, target, self.tree.lineage) if self.tree_min else scores
        cost = region_cell_cross_entropy(consistent, target, counted)
        if nodes is not None:
            cost = torch.where(counted_in_structures(counted, nodes, cost.shape[1]), cost, 0.0)
        loss = mean_of_regions(cost, counted, None, annotated=nodes, gather=self.training)
        broken = [
            power_mean(errors, counted, self.power, gather=self.training)
            for errors in rule_errors(scores.sigmoid(), self.tree, nodes)
        ]
        return loss + self.rules * torch.stack(broken).sum()

    def _annotated_nodes(self, annotated: Bool[Tensor, "b k"] | None) -> Bool[Tensor, "b n"] | None:
        """Nodes of which each image annotates every class; None for all, and of classes without a background.

        Without a background, a cell that counts is of a class that is annotated, so that the label knows all nodes.
        """
        if annotated is None or self.labels.regions:
            return annotated
        if not self.labels.background:
            return None
        return (~annotated).float() @ self.nodes.T.float() == 0


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
