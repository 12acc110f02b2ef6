"""Partial labels: which outputs of a network a case annotates, and what its label file may hold.

A case that annotates some classes says nothing about the others: a cell that it calls background is *none of the
annotated classes*, and may be of any other.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Bool, Int

from medseg.errors import InputError
from medseg.labels.classes import IGNORE
from medseg.labels.table import LabelTable


def annotated_names(labels: LabelTable, names: Collection[str], where: str) -> frozenset[str] | None:
    """The declared classes or regions of a case; None where these are all. The background may be among the names.

    Args:
        labels: The label table.
        names: What the case declares.
        where: Of the declaration, for messages.

    Raises:
        InputError: A name that the table lacks, or no class at all.
    """
    targets = [name for name, _ in labels.targets]
    further = [labels.names[0]] if labels.background else []
    unknown = sorted(set(names) - {*targets, *further})
    if unknown:
        raise InputError(f"{where}: annotates {', '.join(unknown)}, expected names among {targets}; fix the name")
    own = frozenset(names) & frozenset(targets)
    if not own:
        raise InputError(
            f"{where}: annotates no class, expected one or more of {targets}; leave the case out of the dataset, or "
            "name its classes"
        )
    return None if len(own) == len(targets) else own


def annotated_outputs(labels: LabelTable, names: Collection[str]) -> Bool[np.ndarray, " k"]:
    """Which outputs of the network a case annotates; the background is always one of them.

    Example:
        >>> table = LabelTable.declare({"background": 0, "liver": 1, "spleen": 2})
        >>> annotated_outputs(table, {"spleen"}).tolist()
        [True, False, True]
    """
    named = np.array([name in names for name, _ in labels.targets])
    return named if labels.regions or not labels.background else np.concatenate([[True], named])


def unexpected_classes(labels: LabelTable, annotated: Bool[np.ndarray, " k"]) -> Bool[np.ndarray, " n"]:
    """Which classes (training indices) a label with these annotated outputs may not hold.

    Of regions: classes that belong to some region, but to none that is annotated.
    """
    if not labels.regions:
        return ~annotated
    members = labels.region_matrix()
    return members.any(axis=0) & ~members[annotated].any(axis=0)


def check_label(index: Int[np.ndarray, " *s"], labels: LabelTable, annotated: Collection[str], where: str) -> None:
    """Raise on a label that holds cells of a class that its case does not annotate.

    Args:
        index: Training index of each cell, or ``IGNORE``.
        labels: The label table.
        annotated: Names of the annotated classes or regions.
        where: The label file, for messages.

    Raises:
        InputError: It holds some; names the first of them.
    """
    cells = np.bincount(index[index != IGNORE].ravel(), minlength=labels.n_classes)
    wrong = np.flatnonzero(unexpected_classes(labels, annotated_outputs(labels, annotated)) & (cells > 0))
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"{where}: has {int(cells[first])} cells of {labels.titles[first]}, which the case does not annotate "
            f"(annotated: {', '.join(sorted(annotated))}); add the class to data.annotated, or take it out of the file"
        )


def without_unknown(
    index: Int[np.ndarray, " *s"], labels: LabelTable, annotated: Bool[np.ndarray, " k"], *, predicted: bool = False
) -> Int[np.ndarray, " *s"]:
    """Training indices in which classes that are not annotated count as the background, of a label or a prediction.

    Of a table without a background such cells are ``IGNORE`` in a label and stay as they are in a prediction; of
    regions, each of which is scored by itself, all cells stay as they are.
    """
    if labels.regions or not (labels.background or not predicted):
        return index
    to = np.where(annotated, np.arange(labels.n_classes), 0 if labels.background else IGNORE)
    return np.append(to, IGNORE).astype(index.dtype)[index]  # index -1, IGNORE, reads the last
