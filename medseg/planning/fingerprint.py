"""What a dataset looks like: spacings, shapes and foreground intensities of its training cases."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from medseg.data.case import Case, first_five
from medseg.data.dataset import Dataset
from medseg.data.preprocessing.preprocess import content_box, crop, to_canonical
from medseg.data.preprocessing.windows import tiles
from medseg.data.problems import Problems
from medseg.data.reading.open_case import CaseReader
from medseg.data.store.content_hash import Digests, content_key
from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.runtime.atomic import write_whole
from medseg.runtime.progress import watched
from medseg.sample import DataSpec, Sample

_LOG = logging.getLogger(__name__)

CELLS_POOLED = 10_000_000
"""Foreground cells pooled over the dataset; nnU-Net pools ten times as many, to the same percentiles."""
_SCENE_CELLS = 2_000_000
"""Valid cells pooled over a dataset of scenes, which may have many bands."""


@dataclass(frozen=True)
class Intensity:
    """Intensities of one channel, pooled over cases: of the foreground of volumes, of all valid cells of scenes."""

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
        kept: Median fraction of cells that cropping kept, in (0, 1].
        intensities: One a channel.
        foreground: Cells of each class over all cases, by class name; without the background.
        empty: Cases without any foreground.
        warnings: Ids of cases, by the text of the warning.
        background: Cells of the background; None where they were not counted, as in files of earlier versions.
    """

    spacings: tuple[tuple[float, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    kept: float
    intensities: tuple[Intensity, ...]
    foreground: dict[str, int]
    empty: tuple[str, ...]
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    background: int | None = None

    def warning_lines(self) -> list[str]:
        """A line for each warning about training cases, with the first cases that have it."""
        texts = {f": {text}": cases for text, cases in self.warnings.items()}
        if self.empty:
            texts[" have no foreground and teach only the background"] = self.empty
        return [f"{len(c)} of {len(self.shapes)} training cases{text}: {first_five(c)}" for text, c in texts.items()]

    def to_dict(self) -> dict[str, object]:
        """JSON-able form; ``from_dict`` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Fingerprint:
        """Rebuild the result of ``to_dict``."""
        return cls(
            spacings=tuple(tuple(v) for v in stored["spacings"]),
            shapes=tuple(tuple(v) for v in stored["shapes"]),
            kept=stored["kept"],
            intensities=tuple(Intensity(**v) for v in stored["intensities"]),
            foreground=dict(stored["foreground"]),
            empty=tuple(stored["empty"]),
            warnings={text: tuple(cases) for text, cases in stored["warnings"].items()},
            background=stored.get("background"),
        )


@dataclass(frozen=True)
class CaseFacts:
    """One case's part of a fingerprint.

    Attributes:
        case: Case identifier.
        spacing: Cell size, in the frame's unit.
        shape: Cells after cropping.
        kept: Fraction of cells that cropping kept.
        cells: Intensities drawn from the case, ``[c, n]``; NaN in channels that it lacks.
        counts: Cells of each training index.
        constant: Numbers of the channels in which every cell has the same value.
        warnings: Warnings about its files.
    """

    case: str
    spacing: tuple[float, ...]
    shape: tuple[int, ...]
    kept: float
    cells: npt.NDArray[np.float32]
    counts: tuple[int, ...]
    constant: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


def case_facts(sample: Sample, n_classes: int, *, draw: int, seed: int) -> CaseFacts:
    """Facts of one case; of one without a label, all that is not zero counts as foreground.

    Args:
        sample: The case as read.
        n_classes: Classes of the label table, with background.
        draw: Foreground cells to draw, with replacement.
        seed: Random seed of the draw.
    """
    turned, _, _ = to_canonical(sample)
    cut = crop(turned, content_box(turned))
    label = np.full(cut.valid.shape, IGNORE) if cut.label is None else np.asarray(cut.label)
    object_ = (cut.image != 0).any(axis=0) if cut.label is None else label > 0
    foreground = np.flatnonzero(object_ & cut.valid)
    cells = np.zeros((len(cut.image), 0), dtype=np.float32)
    if len(foreground):
        drawn = np.random.default_rng([seed, 2]).choice(foreground, size=draw)
        cells = np.stack([channel.ravel()[drawn] for channel in cut.image])
        cells[~cut.has] = np.nan
    counts = np.bincount(label[(label >= 0) & cut.valid], minlength=n_classes)
    fraction = cut.valid.size / turned.valid.size
    constant = tuple(i for i in np.flatnonzero(sample.has).tolist() if np.ptp(sample.image[i]) == 0)
    return CaseFacts(
        sample.case, cut.grid.spacing, cut.grid.shape, fraction, cells, tuple(int(n) for n in counts), constant
    )


def scene_facts(opened: CaseReader, *, draw: int, seed: int) -> CaseFacts:
    """Facts of one scene or 2D image, read window by window.

    Args:
        opened: The case.
        draw: Valid cells to draw, with replacement.
        seed: Random seed of the draw.

    Raises:
        InputError: The case has no valid cell.
    """
    table, dates = opened.spec.labels, max(1, opened.spec.dates)
    boxes = tiles(opened.shape, (256,) * opened.grid.ndim, opened.spec.dates)
    rng = np.random.default_rng([seed, 2])
    cells, counts, n_valid = [], np.zeros(table.n_classes, dtype=np.int64), 0
    low, high = (np.full(len(opened.spec.channels), end) for end in (np.inf, -np.inf))
    for box in boxes:
        sample = opened.read(box)
        inside = np.flatnonzero(sample.valid)
        n_valid += len(inside)
        share = -(-draw * sample.valid.size // (int(np.prod(opened.shape)) * dates))
        if len(inside):
            drawn = rng.choice(inside, size=max(1, share * len(inside) // sample.valid.size))
            cells.append(_drawn(sample, drawn))
            values = np.moveaxis(sample.image, -3, 0)[..., sample.valid].reshape(len(low), -1)
            low, high = np.fmin(low, np.fmin.reduce(values, axis=1)), np.fmax(high, np.fmax.reduce(values, axis=1))
        if sample.label is not None:
            counted = sample.label[(sample.label >= 0) & sample.valid]
            counts += np.bincount(counted, minlength=table.n_classes)
    if not n_valid:
        files = ", ".join(map(str, opened.case.images))
        raise InputError(f"case {opened.case.id}: {files} has no valid cell, all is nodata; take it out of the dataset")
    drawn_cells = np.concatenate(cells, axis=1)
    constant = tuple(int(i) for i in np.flatnonzero((low == high) & opened.present))
    return CaseFacts(
        opened.case.id, opened.grid.spacing, opened.shape, 1.0, drawn_cells, tuple(int(n) for n in counts), constant
    )


def _drawn(sample: Sample, cells: npt.NDArray[np.int64]) -> Float[np.ndarray, "c n"]:
    """Values of each channel in these cells, NaN where it is absent; of a time series on every date with data there."""
    if sample.days is None:
        drawn = sample.image.reshape(len(sample.image), -1)[:, cells]
        drawn[~sample.has] = np.nan
        return drawn
    values = sample.image.reshape(*sample.image.shape[:2], -1)[:, :, cells]
    channels = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    return channels[:, np.isfinite(channels).any(axis=0)]


def _without_foreground(facts: Sequence[CaseFacts], first: int) -> tuple[str, ...]:
    """Cases that have no cell of class ``first`` or a later one."""
    return tuple(f.case for f in facts if sum(f.counts[first:]) == 0)


def pool(facts: Sequence[CaseFacts], labels: LabelTable, *, labelled: bool = True) -> Fingerprint:
    """Pool the facts of all cases.

    Args:
        facts: Facts of each case.
        labels: The label table.
        labelled: Whether the cases have labels; if not, none is expected.

    Raises:
        InputError: No case, or no labelled case with foreground.
    """
    if not facts:
        raise InputError("got no training case; a plan needs at least one")
    counts, first = np.sum([f.counts for f in facts], axis=0), int(labels.background)
    if labelled and not counts[first:].sum():
        raise InputError(f"none of the {len(facts)} cases has any foreground; check the label files and data.labels")
    cells = np.concatenate([f.cells for f in facts], axis=1).astype(np.float64)
    return Fingerprint(
        spacings=tuple(f.spacing for f in facts),
        shapes=tuple(f.shape for f in facts),
        kept=float(np.median([f.kept for f in facts])),
        intensities=tuple(map(_intensity, cells)),
        foreground=dict(zip(labels.names[first:], map(int, counts[first:]), strict=True)),
        empty=_without_foreground(facts, first) if labelled else (),
        warnings=_by_text(facts),
        background=int(counts[:first].sum()),
    )


def _intensity(cells: npt.NDArray[np.float64]) -> Intensity:
    cells = cells[np.isfinite(cells)]
    low, high = np.percentile(cells, [0.5, 99.5])
    values = (cells.mean(), cells.std(), np.median(cells), cells.min(), cells.max(), low, high)
    return Intensity(*map(float, values))


def _by_text(facts: Sequence[CaseFacts]) -> dict[str, tuple[str, ...]]:
    """Cases of each warning."""
    warnings: dict[str, tuple[str, ...]] = {}
    for f in facts:
        for text in f.warnings:
            warnings[text] = (*warnings.get(text, ()), f.case)
    return warnings


def _check_headers(source: Dataset, cases: Sequence[Case]) -> None:
    """Open every case, which takes no time, before cells are read.

    Raises:
        InputError: Cases can't be opened, see ``Problems``.
    """
    problems = Problems()
    for case in cases:
        with problems.of(case.id):
            source.open(case)
    problems.check(len(cases))


def fingerprint(
    source: Dataset,
    cases: Sequence[Case],
    store: Path,
    *,
    further: Sequence[Case] = (),
    first: Callable[[Dataset], None] | None = None,
    counted: bool = False,
) -> Fingerprint:
    """Fingerprint of the training cases, cached in the store under a hash of their content.

    Args:
        source: The dataset.
        cases: Training cases.
        store: Folder of the patch store.
        further: Cases that will be needed too, whose headers are checked with those of the training cases.
        first: Called with the dataset before its cases are read; not called where the store has the fingerprint.
        counted: Read the cases again where the store has a fingerprint without cells of the background.

    Raises:
        InputError: Cases can't be read, see ``Problems``, or none has foreground.
    """
    digests = Digests(store / "digests.json")
    files = [path for case in cases for path in case.files]
    settings = {
        "spec": source.spec.of_cells.to_dict(),
        "drawn": CELLS_POOLED,
        "warnings": 1,  # raised with everything that is looked for
        "boxes": [None if case.box is None else [case.box.start, case.box.stop] for case in cases],
        "reading": source.reading.to_dict(),
        **_absences(source, cases),
    }
    path = store / "fingerprints" / f"{content_key(files, settings, memory=digests.memory)[:16]}.json"
    if (cached := _cached(path)) is not None and not (counted and cached.background is None):
        return cached
    if first is not None:
        first(source)
    _check_headers(source, [*cases, *further])
    problems, facts = Problems(), []
    for index, case in enumerate(watched(cases, "looking at cases")):
        with problems.of(case.id):
            facts.append(_facts(source.open(case), -(-_pooled_cells(source.spec) // len(cases)), index))
    problems.check(len(cases))
    _check_channels(facts, source.spec)
    pooled = pool(facts, source.spec.labels, labelled=any(case.label for case in cases))
    digests.save()
    write_whole(path, json.dumps(pooled.to_dict()))
    return pooled


def _absences(source: Dataset, cases: Sequence[Case]) -> dict[str, object]:
    """Part of the cache key: the dataset that each case is of, and which files it has, where it may lack some."""
    parts: dict[str, object] = {"parts": [case.part for case in cases]} if any(case.part for case in cases) else {}
    if source.reading.absent != "allow":
        return parts
    parts["image_groups"] = [list(case.image_groups) for case in cases]
    if any(case.per_date for case in cases):
        parts["per_date"] = [list(case.per_date) for case in cases]
    return parts | ({"absent": [list(case.absent) for case in cases]} if any(case.absent for case in cases) else {})


def _check_channels(facts: Sequence[CaseFacts], spec: DataSpec) -> None:
    """Raise on channels that every case lacks."""
    absent = [c.name for i, c in enumerate(spec.channels) if all(np.isnan(f.cells[i]).all() for f in facts)]
    if absent and any(f.cells.size for f in facts):
        raise InputError(
            f"data.channels: {', '.join(absent)} absent in each of the {len(facts)} training cases, expected data in "
            "one at least; leave the channels out, or choose another split"
        )


def _cached(path: Path) -> Fingerprint | None:
    """The stored fingerprint; None where there is none, or, with a warning, where it is damaged."""
    if not path.exists():
        return None
    try:
        return Fingerprint.from_dict(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError):
        _LOG.warning("%s is damaged; the cases are read again", path)
        return None


def _pooled_cells(spec: DataSpec) -> int:
    return CELLS_POOLED if spec.ndim == 3 else _SCENE_CELLS


def _facts(opened: CaseReader, draw: int, seed: int) -> CaseFacts:
    if opened.spec.ndim == 3:
        facts = case_facts(opened.read(), opened.spec.labels.n_classes, draw=draw, seed=seed)
    else:
        facts = scene_facts(opened, draw=draw, seed=seed)
    names = [opened.spec.channels[i].name for i in facts.constant]
    return replace(facts, warnings=(*opened.warnings, *(f"channel {name} has one value everywhere" for name in names)))
