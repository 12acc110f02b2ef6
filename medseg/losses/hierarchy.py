"""Hierarchies of classes: groups of classes and of groups, as a tree over the outputs of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from medseg.errors import InputError, nearest
from medseg.labels import LabelTable

Groups = Mapping[str, Sequence[str]]
"""Names of groups -> names of what they hold: classes, and other groups."""


@dataclass(frozen=True)
class Hierarchy:
    """A tree, or several next to each other: first the outputs of the network, then the groups.

    Attributes:
        names: Name of each node.
        parents: Position of the parent of each node; None at the top.
        members: The classes (columns) below each node (rows).
    """

    names: tuple[str, ...]
    parents: tuple[int | None, ...]
    members: Bool[Tensor, "n k"]

    @classmethod
    def of(cls, labels: LabelTable, groups: Groups, *, loss: str) -> Hierarchy:
        """The hierarchy of a table: of classes by the groups, of regions by which one lies in which other.

        Args:
            labels: Meaning of the outputs.
            groups: Groups of the classes; empty with regions.
            loss: Name of the loss, for messages.

        Raises:
            InputError: A name is unknown or held twice, a group holds itself or nothing or has the name of a class, or
                groups are given for regions.
        """
        if labels.regions:
            if groups:
                raise InputError(
                    f"loss {loss}: hierarchy: got {dict(groups)} with regions, which are a hierarchy of their own; "
                    "leave hierarchy out"
                )
            return _of_regions(labels)
        _check(labels.names, groups, loss)
        names = (*labels.names, *groups)
        parent = {name: group for group, children in groups.items() for name in children}
        parents = tuple(names.index(parent[name]) if name in parent else None for name in names)
        members = torch.eye(len(names), labels.n_classes, dtype=torch.bool)
        for leaf in range(labels.n_classes):
            for node in _chain(parents, leaf):
                members[node, leaf] = True
        return cls(names, parents, members)

    def chain(self, node: int) -> tuple[int, ...]:
        """A node, its parent, the parent of that, and so on."""
        return _chain(self.parents, node)

    @property
    def lineage(self) -> Bool[Tensor, "n n"]:
        """Whether a node (column) is in the chain of another (row): the node itself and what is above it."""
        lineage = torch.zeros(len(self.names), len(self.names), dtype=torch.bool)
        for node in range(len(self.names)):
            lineage[node, list(self.chain(node))] = True
        return lineage

    @property
    def children(self) -> Bool[Tensor, "n n"]:
        """Whether a node (column) is a child of another (row)."""
        children = torch.zeros(len(self.names), len(self.names), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent is not None:
                children[parent, node] = True
        return children

    @property
    def rivals(self) -> Bool[Tensor, "n n"]:
        """Whether two nodes have the same parent, or none, and no class in common."""
        same = torch.tensor([[one == other for other in self.parents] for one in self.parents])
        shared = (self.members.float() @ self.members.float().T) > 0
        return same & ~shared

    @property
    def divided(self) -> Bool[Tensor, " n"]:
        """Whether each class below a node is below one of its children too."""
        covered = (self.children.float() @ self.members.float()) > 0
        return self.children.any(dim=1) & (covered == self.members).all(dim=1)


def _chain(parents: Sequence[int | None], node: int) -> tuple[int, ...]:
    chain, above = [node], parents[node]
    while above is not None:
        chain.append(above)
        above = parents[above]
    return tuple(chain)


def _of_regions(labels: LabelTable) -> Hierarchy:
    """Each region lies in the smallest one that holds its classes and more."""
    sets = [frozenset(region.members) for region in labels.regions]
    parents = []
    for own in sets:
        around = [i for i, other in enumerate(sets) if own < other]
        parents.append(min(around, key=lambda i: len(sets[i])) if around else None)
    members = torch.from_numpy(labels.region_matrix())
    return Hierarchy(tuple(region.name for region in labels.regions), tuple(parents), members)


def _check(names: Sequence[str], groups: Groups, loss: str) -> None:
    """Raise an InputError if the groups are no tree over the classes."""
    where, parent = f"loss {loss}: hierarchy", dict[str, str]()
    for group, children in groups.items():
        if group in names:
            raise InputError(f"{where}: {group} is a class already; give the group another name")
        if isinstance(children, str) or not children:
            raise InputError(f"{where}: {group} holds {children!r}, expected a list of classes or groups")
        for child in children:
            if child not in names and child not in groups:
                raise InputError(
                    f"{where}: {group} holds {child}, which is neither a class nor a group; "
                    f"{nearest(str(child), [*names, *groups])}"
                )
            if child in parent:
                raise InputError(f"{where}: {child} is in {parent[child]} and in {group}, expected one parent")
            parent[child] = group
    _check_cycles(parent, groups, where)


def _check_cycles(parent: Mapping[str, str], groups: Groups, where: str) -> None:
    """Raise an InputError if a group lies in itself."""
    for group in groups:
        above = parent.get(group)
        for _ in groups:
            if above == group:
                raise InputError(f"{where}: {group} lies in itself; take it out of one of its groups")
            above = parent.get(above) if above is not None else None
