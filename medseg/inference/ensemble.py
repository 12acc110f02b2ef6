"""Several networks as one predictor: the mean of their probabilities on the cells of the image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.inference.case_logits import CaseLogits
from medseg.inference.postprocess import PostProcess
from medseg.inference.predictor import CasePredictor, Predictor, Prepare
from medseg.inference.rows import averaged_rows, spooled_rows
from medseg.sample import DataSpec, Sample

_LOG = logging.getLogger(__name__)

MOST_BLEND_BYTES = 2**29
"""Memory that the sums of logits of all members may take together; beyond it the members run one after another."""


class Ensemble(CasePredictor[Prepare]):
    """Several networks, which may differ in spacing, window, normalisation and architecture.

    The probabilities of each member are brought to the cells of the image and averaged there with equal weights, a
    few rows at a time. Members run in step; where their sums of logits together would take more than
    ``MOST_BLEND_BYTES``, one after another, and the logits wait in temporary files. So memory grows with the number
    of members by their networks and prepared images only, or by the networks alone.

    Args:
        members: Predictors of the same channels and labels.
        postprocess: Applied to the classes of whole cases; None for none.

    Raises:
        InputError: Members have other channels or labels than the first.
    """

    def __init__(
        self,
        members: Sequence[Predictor[Prepare]],
        *,
        postprocess: PostProcess | None = None,
    ) -> None:
        for number, member in enumerate(members[1:], start=2):
            check_same(members[0].spec, member.spec, f"member {number} of {len(members)}")
        super().__init__(members[0].spec, postprocess)
        self._members = tuple(members)

    @property
    def members(self) -> Sequence[Predictor[Prepare]]:
        """The networks with their preprocessing."""
        return self._members

    def logits(self, sample: Sample, *, in_place: bool = False) -> CaseLogits:
        """Logits of the mean probability; see ``CasePredictor.logits``. The image is not overwritten."""
        first = self._members[0].prepared(sample)
        shape = first[1].grid.shape
        axis = self._members[0].tiling.row_axis(shape, self.spec.labels.n_outputs)
        sizes = [m.tiling.blend_bytes(shape, self.spec.labels.n_outputs, axis) for m in self._members]
        in_turn = sum(sizes) > MOST_BLEND_BYTES
        parts: list[CaseLogits] = []
        for member in self._members:
            prepared, placement = member.prepared(sample) if parts else first
            part = member.logits_of(prepared, placement, axis)
            del prepared
            parts.append(replace(part, rows=spooled_rows(part.rows)) if in_turn else part)
        return averaged(parts, sample.case)


def averaged(parts: Sequence[CaseLogits], case: str) -> CaseLogits:
    """The logits of the mean probability of several members.

    Raises:
        InputError: Members that turn the axes of the case lie beside others that do not.
    """
    first = parts[0]
    if any((part.axes, part.flips) != (first.axes, first.flips) for part in parts):
        raise InputError(
            f"case {case}: some members resample volumes and others (plan.spacing=null) leave them on their own cells, "
            f"whose axes are {first.axes} with flips {first.flips}, expected right, anterior, superior; reorient the "
            "image first, or predict with members of one kind"
        )
    boxes = [part.box for part in parts]
    box = Box(
        tuple(map(min, zip(*(b.start for b in boxes), strict=True))),
        tuple(map(max, zip(*(b.stop for b in boxes), strict=True))),
    )
    rows = averaged_rows([part.widened(box).rows for part in parts], first.labels)
    case_logits = tuple(own for part in parts for own in part.case_logits)
    return replace(first, rows=rows, box=box, case_logits=case_logits)


def _case_classes(spec: DataSpec) -> tuple[str, ...]:
    return () if spec.case_label is None else spec.case_label.values


def check_same(expected: DataSpec, found: DataSpec, what: str) -> None:
    """Refuse a member that takes other images or gives other labels than the first.

    Args:
        expected: Of the first member.
        found: Of the other one.
        what: Names it in the message.

    Raises:
        InputError: Says which of channels, axes, dates, classes differ.
    """
    pairs: dict[str, tuple[object, object]] = {
        "axes": (expected.ndim, found.ndim),
        "channels": ([c.name for c in expected.channels], [c.name for c in found.channels]),
        "dates": (expected.dates, found.dates),
        "classes": (expected.labels.titles, found.labels.titles),
        "values": ([c.values for c in expected.labels.classes], [c.values for c in found.labels.classes]),
        "facts": ([(f.name, f.kind) for f in expected.facts], [(f.name, f.kind) for f in found.facts]),
        "classes of cases": (_case_classes(expected), _case_classes(found)),
        "regions": ([r.name for r in expected.labels.regions], [r.name for r in found.labels.regions]),
    }
    for name, (own, other) in pairs.items():
        if own != other:
            raise InputError(
                f"checkpoint: {what} has {name} {other}, expected {own} as the first; members of an ensemble need the "
                "same channels and classes in the same order"
            )
