"""Classes of cases: a small file for each case, and one table of all of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from medseg import formats
from medseg.facts import Fact
from medseg.runtime.atomic import write_whole

KIND = "case_labels"
"""Kind of the files, which is the name of their folder."""
CASE_LABELS = "case_labels.csv"
"""Name of the table, next to the label files."""


def case_label_name(label: str) -> str:
    """Path of the file of a case below the folder of its label file.

    Example:
        >>> case_label_name("case.nii.gz")
        'case_labels/case.json'
    """
    return f"{KIND}/{formats.stem(label)}.json"


def write_case_label(target: Path, prob: Float[np.ndarray, " m"], classes: Fact) -> None:
    """Write the probability of each class of a case next to its label file.

    Args:
        target: The label file.
        prob: Of each class.
        classes: What they mean.
    """
    path = target.parent / case_label_name(target.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    of_classes = {name: round(float(value), 6) for name, value in zip(classes.values, prob, strict=True)}
    write_whole(path, json.dumps({classes.name: of_classes}) + "\n")


def write_case_labels(folder: Path, labels: Sequence[str], classes: Fact) -> Path:
    """Write the table: of each case its most probable class, and the probability of each.

    Args:
        folder: Of the label files.
        labels: Names of the label files; those of cases that failed have no row.
        classes: What the classes mean.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["case", classes.name, *(f"p({name})" for name in classes.values)])
    for label in labels:
        path = folder / case_label_name(label)
        if path.is_file():
            of_classes = json.loads(path.read_text(encoding="utf-8"))[classes.name]
            rows.writerow([formats.stem(label), max(of_classes, key=of_classes.__getitem__), *of_classes.values()])
    write_whole(folder / CASE_LABELS, text.getvalue())
    return folder / CASE_LABELS
