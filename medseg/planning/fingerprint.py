"""What a dataset looks like: spacings, shapes and foreground intensities of its training cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from medseg.data.cases import Case, Dataset
from medseg.data.preprocess import content_box, crop, to_canonical
from medseg.data.store import Digests, content_key, write_whole
from medseg.errors import BadInput
from medseg.sample import Sample

CELLS_POOLED = 10_000_000
"""Foreground cells pooled over the dataset; nnU-Net pools ten times as many, to the same percentiles."""


@dataclass(frozen=True)
class Intensity:
    """Foreground intensities of one channel, pooled over cases."""

    mean: float
    std: float
    median: float
    minimum: float
    maximum: float
    percentile_00_5: float
    percentile_99_5: float


@dataclass(frozen=True)
class Fingerprint:
    """Facts of a dataset's training cases, after reorientation and cropping to content.

    Attributes:
        spacings: One a case, in the frame's unit.
        shapes: One a case, in cells, after cropping.
        kept: Median share of cells that cropping kept, in (0, 1].
        intensities: One a channel.
        foreground: Cells of each class over all cases, by class name.
        empty: Cases without any foreground.
    """

    spacings: tuple[tuple[float, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    kept: float
    intensities: tuple[Intensity, ...]
    foreground: dict[str, int]
    empty: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Fingerprint:
        """Rebuild what ``to_dict`` gave."""
        return cls(
            spacings=tuple(tuple(v) for v in stored["spacings"]),
            shapes=tuple(tuple(v) for v in stored["shapes"]),
            kept=stored["kept"],
            intensities=tuple(Intensity(**v) for v in stored["intensities"]),
            foreground=dict(stored["foreground"]),
            empty=tuple(stored["empty"]),
        )


@dataclass(frozen=True)
class CaseFacts:
    """One case's part of a fingerprint.

    Attributes:
        case: Case identifier.
        spacing: In the frame's unit.
        shape: After cropping.
        kept: Share of cells that cropping kept.
        cells: Foreground intensities drawn from the case, ``[c, n]``.
        counts: Cells of each training index.
    """

    case: str
    spacing: tuple[float, ...]
    shape: tuple[int, ...]
    kept: float
    cells: npt.NDArray[np.float32]
    counts: tuple[int, ...]


def case_facts(sample: Sample, n_classes: int, *, draw: int, seed: int) -> CaseFacts:
    """Facts of one labelled case.

    Args:
        sample: The case as read.
        n_classes: Classes of the label table, with background.
        draw: Foreground cells to draw, with replacement.
        seed: Of the draw.

    Raises:
        BadInput: The case has no label.
    """
    if sample.label is None:
        raise BadInput(f"{sample.case}: a fingerprint needs labelled cases, and this one has no label")
    turned, _, _ = to_canonical(sample)
    cut = crop(turned, content_box(turned))
    label = np.asarray(cut.label)
    foreground = np.flatnonzero((label > 0) & cut.valid)
    cells = np.zeros((len(cut.image), 0), dtype=np.float32)
    if len(foreground):
        drawn = np.random.default_rng([seed, 2]).choice(foreground, size=draw)
        cells = np.stack([channel.ravel()[drawn] for channel in cut.image])
    counts = np.bincount(label[(label >= 0) & cut.valid], minlength=n_classes)
    kept = cut.valid.size / turned.valid.size
    return CaseFacts(sample.case, cut.grid.spacing, cut.grid.shape, kept, cells, tuple(int(n) for n in counts))


def pool(facts: Sequence[CaseFacts], class_names: Sequence[str]) -> Fingerprint:
    """Pool the facts of all cases.

    Raises:
        BadInput: No case, or no case with foreground.
    """
    if not facts:
        raise BadInput("no training case came; a plan needs at least one labelled case")
    cells = np.concatenate([f.cells for f in facts], axis=1).astype(np.float64)
    if not cells.shape[1]:
        raise BadInput(f"none of the {len(facts)} cases has any foreground; check the label files and data.labels")
    counts = np.sum([f.counts for f in facts], axis=0)
    intensities = []
    for channel in cells:
        low, high = np.percentile(channel, [0.5, 99.5])
        intensities.append(
            Intensity(
                *(float(v) for v in (channel.mean(), channel.std(), np.median(channel))),
                *(float(v) for v in (channel.min(), channel.max(), low, high)),
            )
        )
    return Fingerprint(
        spacings=tuple(f.spacing for f in facts),
        shapes=tuple(f.shape for f in facts),
        kept=float(np.median([f.kept for f in facts])),
        intensities=tuple(intensities),
        foreground={n: int(c) for n, c in zip(class_names, counts, strict=True) if n != class_names[0]},
        empty=tuple(f.case for f in facts if sum(f.counts[1:]) == 0),
    )


def fingerprint(source: Dataset, cases: Sequence[Case], store: Path) -> Fingerprint:
    """Fingerprint of the training cases, kept in the store under a key of their content.

    Raises:
        BadInput: A case can't be read, or none has foreground.
    """
    digests = Digests(store / "digests.json")
    files = [path for case in cases for path in case.files]
    key = content_key(files, {"spec": source.spec.to_dict(), "drawn": CELLS_POOLED}, memory=digests.memory)
    path = store / "fingerprints" / f"{key[:16]}.json"
    if path.exists():
        return Fingerprint.from_dict(json.loads(path.read_text()))
    draw = max(1, CELLS_POOLED // len(cases))
    facts = [
        case_facts(source.read(case), source.spec.labels.n_classes, draw=draw, seed=index)
        for index, case in enumerate(track(cases, "looking at cases"))
    ]
    pooled = pool(facts, source.spec.labels.names)
    digests.save()
    write_whole(path, json.dumps(pooled.to_dict()))
    return pooled
