"""Predicted and reference label files, paired by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medseg import formats
from medseg.data.annotated import of_table
from medseg.errors import InputError

_CHANNEL = "_0000"  # nnU-Net's name of the first channel


@dataclass(frozen=True)
class EvaluationPair:
    """The files of one case.

    Attributes:
        prediction: Label file with saved values.
        label: Label file with raw values, or shapes.
        valid: Field of view, 0 where cells do not count; None if all do.
        image: To draw on; None for black.
        annotated: Names of the classes or regions that the label annotates; None for all.
        observers: Where several observers have labelled the case, the label file of each, by name; ``label`` is that of
            the first.
    """

    prediction: Path
    label: Path
    valid: Path | None = None
    image: Path | None = None
    annotated: tuple[str, ...] | None = None
    observers: tuple[tuple[str, Path], ...] = ()


def label_files(folder: Path, *, shapes: bool = False) -> dict[str, Path]:
    """Label files of a folder by stem; other files and subfolders are left out.

    Args:
        folder: Folder of rasters and volumes.
        shapes: Include files of shapes.

    Raises:
        InputError: No such folder, or two files of one case.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; a folder of label files ({', '.join(formats.suffixes())}) was expected"
        )
    paths: dict[str, Path] = {}
    endings = (*formats.suffixes(), *(formats.VECTORS if shapes else ()))
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(endings) or not path.is_file():
            continue
        other = paths.setdefault(formats.stem(path), path)
        if other != path:
            raise InputError(f"{folder}: {other.name} and {path.name} are the same case; keep one of them")
    return paths


def match_files(
    predictions: Path, labels: Path, missing: str
) -> tuple[dict[str, EvaluationPair], dict[str, list[str]]]:
    """Prediction and label of each case, and the cases that lack one of them.

    Args:
        predictions: Folder of label files.
        labels: Folder of label files, named alike; or one file of shapes that covers every case.
        missing: ``error`` or ``skip``: what happens to cases that lack one of them.

    Raises:
        InputError: Unpaired files, or no pair.
    """
    predicted = label_files(predictions)
    if labels.is_file() and formats.suffix(labels) in formats.VECTORS:
        labelled = dict.fromkeys(predicted, labels)
    else:
        labelled = label_files(labels, shapes=True)
    orphans = _orphans(predicted, labelled)
    if orphans and missing == "error":
        listed = "; ".join(f"{len(names)} {kind}: {', '.join(names[:5])}" for kind, names in orphans.items())
        raise InputError(
            f"{listed} ({predictions} against {labels}); add the files, or leave them out with missing=skip"
        )
    pairs = {case: EvaluationPair(predicted[case], labelled[case]) for case in labelled if case in predicted}
    if not pairs:
        raise InputError(f"no case stands in both {predictions} and {labels}; files of a case must be named alike")
    return pairs, orphans


def match_observers(
    predictions: Path, labels: Mapping[str, Path], missing: str
) -> tuple[dict[str, EvaluationPair], dict[str, list[str]]]:
    """As ``match_files``, with the labels of several observers; the cases that each of them has labelled.

    Args:
        predictions: Folder of label files.
        labels: Of each observer, as in ``match_files``.
        missing: As in ``match_files``.

    Raises:
        InputError: Fewer than two observers, unpaired files, or no case that all have labelled.
    """
    if len(labels) < 2:
        raise InputError(f"labels={dict(labels)}: got {len(labels)} observer(s), expected two or more, or labels=DIR")
    matched = {name: match_files(predictions, folder, missing) for name, folder in labels.items()}
    pairs = {name: own for name, (own, _) in matched.items()}
    orphans = {f"{kind} of {name}": cases for name, (_, lack) in matched.items() for kind, cases in lack.items()}
    first = next(iter(pairs.values()))
    every = [case for case in first if all(case in own for own in pairs.values())]
    if not every:
        raise InputError(f"no case stands in all of {', '.join(map(str, labels.values()))}; name files of a case alike")
    return {case: replace(first[case], observers=_labels_of(case, pairs)) for case in every}, orphans


def _labels_of(case: str, pairs: Mapping[str, Mapping[str, EvaluationPair]]) -> tuple[tuple[str, Path], ...]:
    """Label file of a case by each observer."""
    return tuple((name, own[case].label) for name, own in pairs.items())


def _orphans(predicted: Mapping[str, Path], labelled: Mapping[str, Path]) -> dict[str, list[str]]:
    """Cases that lack one of the files, by what they lack."""
    orphans = {
        "labels without prediction": sorted(set(labelled) - set(predicted)),
        "predictions without label": sorted(set(predicted) - set(labelled)),
    }
    return {kind: names for kind, names in orphans.items() if names}


def add_annotated(cases: Mapping[str, EvaluationPair], annotated: Path | None) -> dict[str, EvaluationPair]:
    """The cases with the classes that their labels annotate.

    Args:
        cases: Prediction and label of each case.
        annotated: Table of cases and classes, as ``data.annotated``; None where labels annotate all classes.

    Raises:
        InputError: A case that the table does not list.
    """
    if annotated is None:
        return dict(cases)
    listed = of_table(str(annotated), "annotated")
    if absent := [case for case in cases if case not in listed]:
        raise InputError(f"annotated={annotated}: no row of case {absent[0]}; add it, with the classes of its label")
    return {case: replace(files, annotated=tuple(listed[case])) for case, files in cases.items()}


def add_companions(
    cases: Mapping[str, EvaluationPair], valid: Path | None, images: Path | None
) -> dict[str, EvaluationPair]:
    """The cases with their fields of view and images.

    Args:
        cases: Prediction and label of each case.
        valid: Folder of fields of view; None if all cells count.
        images: Folder of images; None for none.

    Raises:
        InputError: A case has no file in one of the folders.
    """
    views = label_files(valid) if valid else {}
    pictures = label_files(images) if images else {}
    companions = {}
    for case, files in cases.items():
        if valid and case not in views:
            raise InputError(f"{valid}: no field of view of case {case}; add it, or drop valid")
        image = pictures.get(case) or pictures.get(case + _CHANNEL)
        if images and image is None:
            raise InputError(f"{images}: no image of case {case} ({case} or {case}{_CHANNEL}); add it, or drop images")
        companions[case] = replace(files, valid=views.get(case), image=image)
    return companions
