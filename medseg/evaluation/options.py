"""How a folder of label files is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.errors import InputError
from medseg.evaluation.cells import DEFAULT_RASTERISE, RasteriseOptions
from medseg.evaluation.grouping import Grouping
from medseg.evaluation.presets import metric_settings
from medseg.geometry.tolerance import GRID_TOLERANCE, checked_tolerance
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.registry import Entry

_PRESETS = ("full", "scene")
"""Options of ``conf/metric`` that label files can be scored with."""
_MISSING = ("error", "skip")
"""What a case that lacks one of its files can be."""


@dataclass(frozen=True)
class EvaluationOptions:
    """How label files are matched, read, scored and drawn; checked before files are looked for.

    Attributes:
        images: Folder of images to draw the figures on (``case`` or nnU-Net's ``case_0000``).
        valid: Folder of fields of view, named alike: cells where they are 0 do not count.
        annotated: Table of the classes that each label annotates, where not all annotate every one; as
            ``data.annotated``.
        ignore: One more raw value of the labels that does not count.
        background: Without a table, whether 0 is the background.
        scores: ``full`` (volumes: overlap and distances, means over cases), ``scene`` (overlap of the
            cells of all cases together), or ``auto``: scene if the files have two axes.
        metrics: What is scored instead of the metrics of that option; see ``metrics.registry.resolve``.
        settings: Settings of ``CaseScores`` that replace those of the option, such as ``nsd_tolerance``.
        missing: What a label without prediction or a prediction without label is: ``error``, or ``skip``
            to leave it out (the report lists them).
        grid_tolerance: Largest displacement between the two grids of a case, in voxels; at most 1.
        shapes: How labels that are vectors are read, on the grids of the predictions.
        figures: Number of cases drawn, the worst ones.
        by: Groups that are scored on their own as well; None for none.

    Raises:
        InputError: A word that is none of those above, or a tolerance above a voxel.
    """

    images: Path | None = None
    valid: Path | None = None
    annotated: Path | None = None
    ignore: int | None = None
    background: bool = True
    scores: str = "auto"
    metrics: Sequence[Entry] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    missing: str = "error"
    grid_tolerance: float = GRID_TOLERANCE
    shapes: RasteriseOptions = DEFAULT_RASTERISE
    figures: int = 4
    by: Grouping | None = None

    def __post_init__(self) -> None:
        if self.scores not in ("auto", *_PRESETS):
            raise InputError(f"got scores={self.scores}, expected auto, {' or '.join(_PRESETS)}")
        if self.missing not in _MISSING:
            raise InputError(f"got missing={self.missing}, expected {' or '.join(_MISSING)}")
        checked_tolerance(self.grid_tolerance, "grid_tolerance")

    def preset(self, *, flat: bool) -> str:
        """The option of ``conf/metric`` that ``scores`` stands for, of files with two axes (``flat``) or three."""
        if self.scores != "auto":
            return self.scores
        return "scene" if flat else "full"

    def check_groups(self, cases: Sequence[str]) -> None:
        """Raise on cases that have no group, before any is scored."""
        if self.by is not None:
            self.by.groups(cases)

    def subgroups(self, scores: CaseScores) -> dict[str, Any]:
        """The entry ``subgroups`` of ``metrics.json``; nothing where none are asked for."""
        return {} if self.by is None else self.by.scores(scores)

    def score_settings(self, preset: str) -> dict[str, Any]:
        """Settings of ``CaseScores``: those of the preset, and what replaces them."""
        replaced = {} if self.metrics is None else {"metrics": self.metrics}
        return {**metric_settings(preset), **self.settings, **replaced}
