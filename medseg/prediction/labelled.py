"""Labelled cases, predicted for their scores: a few bytes a cell are held, of scenes not even the image."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from medseg import formats
from medseg.data.case import Case
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.reading.open_case import CaseReader
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.inference.case_logits import certain_background, check_finite, index_dtype
from medseg.inference.case_network import mean_case_prob
from medseg.inference.decide import decide, prob_of
from medseg.inference.predictor import CasePredictor
from medseg.inference.rows import Slab
from medseg.inference.stream import scene_slabs
from medseg.labels import IGNORE, LabelTable
from medseg.prediction.scenes import OnWindow, scene_network, streams
from medseg.sample import Sample

Open = Callable[[Case], CaseReader]
"""Opens a case of a dataset."""


@dataclass(frozen=True)
class LabelledPrediction:
    """A labelled case on its own cells, and what is predicted there.

    Attributes:
        index: Training index of each cell; 0 where it is not valid.
        label: Training index of each cell, or ``IGNORE``.
        valid: False where a cell does not count.
        grid: Of the cells.
        prob: Probability of each class, or of each region, in a temporary file without a name; None if not asked for.
        annotated: Which of these the label annotates; None for all.
        case_prob: Probability of each class of the case; None if no network classifies cases.
    """

    index: Int[np.ndarray, " *s"]
    label: Int[np.ndarray, " *s"]
    valid: Bool[np.ndarray, " *s"]
    grid: Grid
    prob: Float[np.ndarray, "k *s"] | None = None
    annotated: Bool[np.ndarray, " k"] | None = None
    case_prob: Float[np.ndarray, " m"] | None = None


def predict_labelled(
    predictor: CasePredictor[Preprocess],
    case: Case,
    open_case: Open,
    *,
    prob: bool = False,
    on_window: OnWindow | None = None,
) -> LabelledPrediction:
    """Predict a labelled case as ``medseg-predict`` does: GeoTIFF scenes window by window, others in one piece.

    Of a scene index, label and validity are held; of another case its image too, until it is prepared.

    Args:
        predictor: One or several networks with their preprocessing and decision.
        case: With a label.
        open_case: Opens it.
        prob: Keep probabilities.
        on_window: Called with each window as it was read; with the whole of a case that is read in one piece, of
            which it must not keep the image, as that is overwritten.
    """
    opened, table = open_case(case), predictor.spec.labels
    if not _streams(case, opened.grid, predictor):
        whole = _in_one_piece(predictor, opened, on_window, prob=prob)
        return replace(whole, annotated=opened.annotated)
    held = _Held(opened.grid, table)
    probs = _in_file((table.n_outputs, *opened.grid.shape)) if prob else None

    def keep(box: Box, window: Sample) -> None:
        held.keep(box, window)
        if on_window is not None:
            on_window(box, window)

    first, *others = predictor.members
    members = [scene_network(first, opened, keep)]
    members += [scene_network(other, open_case(replace(case, label=None))) for other in others]
    with closing(scene_slabs(members, opened.grid.shape, table)) as slabs:
        for slab, invalid in slabs:
            check_finite(slab, case.id)
            classes = decide(slab.logits, table).cpu().numpy()
            held.index[slab.rows] = np.where(invalid, 0, classes)
            if probs is not None:
                probs[:, slab.rows] = prob_of(slab.logits, table).cpu().numpy()
    index = predictor.finished(held.index, held.valid, held.grid)
    case_prob = mean_case_prob([member.case_logits or [] for member in members])
    return LabelledPrediction(index, held.label, held.valid, held.grid, probs, opened.annotated, case_prob)


def _streams(case: Case, grid: Grid, predictor: CasePredictor[Preprocess]) -> bool:
    """Whether ``medseg-predict`` would read the case window by window."""
    target = Path(f"label{formats.label_suffix(case.images[0])}")
    return grid.ndim == 2 and all(streams(target, member.prepare) for member in predictor.members)


class _Held:
    """Label, validity and classes of a scene, which its windows fill."""

    def __init__(self, grid: Grid, labels: LabelTable) -> None:
        self.grid = grid
        self.index = np.zeros(grid.shape, index_dtype(labels))
        self.label = np.full(grid.shape, IGNORE, index_dtype(labels))
        self.valid = np.zeros(grid.shape, dtype=bool)

    def keep(self, box: Box, window: Sample) -> None:
        """Keep a window of the label and of the mask."""
        self.label[box.slices] = window.label
        self.valid[box.slices] = window.valid


def _in_one_piece(
    predictor: CasePredictor[Preprocess], opened: CaseReader, on_window: OnWindow | None, *, prob: bool
) -> LabelledPrediction:
    sample = opened.read()
    if on_window is not None:
        on_window(Box.whole(sample.grid.shape), sample)
    table = predictor.spec.labels
    given: Any = sample.label
    label, valid, grid = given.astype(index_dtype(table)), sample.valid, sample.grid
    sample = replace(sample, label=None)
    logits = predictor.logits(sample, in_place=True)
    del sample, given
    probs = _in_file((table.n_outputs, *logits.box_shape)) if prob else None

    def keep(slab: Slab) -> None:
        if probs is not None:
            probs[:, slab.rows] = prob_of(slab.logits, table).cpu().numpy()

    index = predictor.finished(logits.index(keep), valid, grid)
    if probs is None:
        return LabelledPrediction(index, label, valid, grid, case_prob=logits.case_prob)
    restored = _in_file((table.n_outputs, *grid.shape))
    for k, outside in enumerate(certain_background(table).tolist()):
        restored[k] = logits.restored(probs[k], outside)
    return LabelledPrediction(index, label, valid, grid, restored, case_prob=logits.case_prob)


def _in_file(shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """A float32 array whose cells lie in a temporary file, which goes with the array; memory keeps what is in use."""
    with TemporaryFile(prefix="medseg-") as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
