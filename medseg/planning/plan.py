"""Plan: what a dataset's fingerprint decides, as an editable file that explains each decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.errors import InputError
from medseg.planning.cost import Budget, UNetCost
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.rules import PatchPlan, low_resolution, patch_and_batch, resampled_shape, target_spacing, topology
from medseg.planning.stored import KEYS, fields_of
from medseg.runtime.atomic import write_whole
from medseg.sample import DataSpec

MASKED_BELOW = 0.75
"""If cropping keeps less than this fraction of the median case, cases are normalised inside their nonzero mask."""
_ALIKE = 1.6
"""Largest ratio of cell sizes at which scenes are not resampled; in degrees, cells narrow towards the poles."""


@dataclass(frozen=True)
class Plan:
    """Decisions that preprocessing, sampling and networks follow.

    Attributes:
        spacing: Cell size that cases are resampled to, along right, anterior, superior.
        patch: Cells of a training patch.
        batch_size: Patches a step, per device.
        kernels: Convolution kernel of each stage, fine to coarse.
        strides: Stride at the entrance of each stage.
        normalisation: One rule a channel.
        masked: Whether z-scores are taken inside the nonzero mask only.
        native: Whether cases stay on their own cells, of about ``spacing``, as scenes and photographs do.
        reasons: Reason of each decision, by attribute name.
    """

    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    batch_size: int
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    normalisation: tuple[Normalisation, ...]
    masked: bool
    native: bool = False
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing that follows the plan."""
        return Preprocess(None if self.native else self.spacing, self.normalisation, self.masked)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` is its inverse."""
        return {
            "spacing": list(self.spacing),
            "patch": list(self.patch),
            "batch_size": self.batch_size,
            "kernels": [list(k) for k in self.kernels],
            "strides": [list(s) for s in self.strides],
            "normalisation": [
                {k: v for k, v in rule.to_dict().items() if rule.pooled or k == "scheme"} for rule in self.normalisation
            ],
            "masked": self.masked,
            "native": self.native,
            "reasons": dict(self.reasons),
        }

    @classmethod
    def from_dict(cls, stored: object) -> Plan:
        """Rebuild what ``to_dict`` gave (reasons may be left out).

        Raises:
            InputError: Something that ``to_dict`` does not give; names the key.
        """
        return cls(**fields_of(stored))


@dataclass(frozen=True)
class Wishes:
    """What a user sets instead of having it planned; None leaves it to the rules.

    Attributes:
        spacing: Cell size.
        patch: Cells of a training patch; rounded up to multiples of the network's pooling.
        batch_size: Patches a step.
        normalisation: One scheme a channel.
        mean: Mean of each channel, for ``ct`` and ``standard``; instead of that of the training cases.
        std: Standard deviation of each channel, used in the same way.
        memory_gb: Memory that patch and batch are planned for.
    """

    spacing: Sequence[float] | None = None
    patch: Sequence[int] | None = None
    batch_size: int | None = None
    normalisation: Sequence[str] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    memory_gb: float = 8.0

    def __post_init__(self) -> None:
        for name in ("spacing", "patch"):
            wish = getattr(self, name)
            if wish is not None and not all(v > 0 for v in wish):
                raise InputError(f"plan.{name}={list(wish)}: expected positive numbers, one an axis")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"plan.batch_size={self.batch_size}: expected at least 1")


def make_plan(
    fingerprint: Fingerprint, spec: DataSpec, schemes: Sequence[str], wishes: Wishes, *, cost: UNetCost | None = None
) -> Plan:
    """Plan by nnU-Net's rules, wishes first.

    Args:
        fingerprint: Fingerprint of the training cases.
        spec: Channels, labels and axes.
        schemes: Normalisation scheme of each channel, as the dataset declares it.
        wishes: The user's own decisions.
        cost: The kind of U-Net that memory is planned for.

    Raises:
        InputError: A wish has another number of axes or channels than the data.
    """
    reasons = {}
    native = spec.ndim == 2 and wishes.spacing is None
    spacing, reasons["spacing"] = _own_cells(fingerprint) if native else _spacing(fingerprint, wishes)
    _check_axes("spacing", spacing, spec)
    if wishes.patch is None:
        planned = _planned_patch(fingerprint, spec, spacing, wishes, cost)
        stages, batch_size = planned.topology, planned.batch
        reasons["patch"], reasons["batch_size"] = planned.reasons
    else:
        _check_axes("patch", wishes.patch, spec)
        stages, batch_size = topology(spacing, wishes.patch), 2
        rounded = "" if stages.patch == tuple(wishes.patch) else f", rounded up from {list(wishes.patch)} for pooling"
        reasons["patch"], reasons["batch_size"] = f"set by plan.patch{rounded}", "2, the minimum, as plan.patch is set"
    if wishes.batch_size is not None:
        batch_size, reasons["batch_size"] = wishes.batch_size, "set by plan.batch_size"
    reasons["kernels"] = reasons["strides"] = "; ".join(stages.reasons)
    rules, reasons["normalisation"] = _rules(fingerprint, spec, schemes, wishes)
    masked = fingerprint.kept < MASKED_BELOW and any(rule.scheme == "zscore" for rule in rules)
    reasons["masked"] = (
        f"cropping to content keeps {fingerprint.kept:.0%} of a median case; below {MASKED_BELOW:.0%}, "
        "statistics leave out the empty surroundings"
    )
    reasons["native"] = "cases stay on their own cells" if native else "cases are resampled to spacing"
    return Plan(spacing, stages.patch, batch_size, stages.kernels, stages.strides, rules, masked, native, reasons)


def _spacing(fingerprint: Fingerprint, wishes: Wishes) -> tuple[tuple[float, ...], str]:
    if wishes.spacing is not None:
        return tuple(map(float, wishes.spacing)), "set by plan.spacing"
    target = target_spacing(fingerprint.spacings, fingerprint.shapes)
    return target.spacing, "; ".join(target.reasons)


def _planned_patch(
    fingerprint: Fingerprint, spec: DataSpec, spacing: Sequence[float], wishes: Wishes, cost: UNetCost | None
) -> PatchPlan:
    shapes = _shapes_at(fingerprint, spacing)
    cells = float(sum(np.prod(shape) for shape in shapes))
    median = tuple(float(v) for v in np.median(shapes, axis=0))
    budget = Budget.for_memory(spec.ndim, wishes.memory_gb, residual=bool(cost and cost.residual))
    return patch_and_batch(spacing, median, cells, out_channels=spec.labels.n_outputs, cost=cost, budget=budget)


def _shapes_at(fingerprint: Fingerprint, spacing: Sequence[float]) -> list[tuple[int, ...]]:
    """Shapes of the cases after resampling."""
    pairs = zip(fingerprint.shapes, fingerprint.spacings, strict=True)
    return [resampled_shape(shape, old, spacing) for shape, old in pairs]


def cascade_spacing(
    fingerprint: Fingerprint, spec: DataSpec, plan: Plan, wishes: Wishes, *, cost: UNetCost | None = None
) -> tuple[float, ...] | None:
    """Spacing of the first network of a cascade; None where one network sees enough of a case. See ``low_resolution``.

    Args:
        fingerprint: Fingerprint of the training cases.
        spec: Channels, labels and axes.
        plan: The plan at full resolution.
        wishes: The user's own decisions.
        cost: The kind of U-Net that memory is planned for.
    """
    median = np.median(_shapes_at(fingerprint, plan.spacing), axis=0).tolist()

    def patch_at(spacing: Sequence[float]) -> Sequence[int]:
        return wishes.patch or _planned_patch(fingerprint, spec, spacing, wishes, cost).patch

    return low_resolution(plan.spacing, plan.patch, median, patch_at)


def memory_warning(plan: Plan, wishes: Wishes, needed: float) -> str | None:
    """Warning if a patch or a batch size of the user needs more memory than ``plan.memory_gb``; else None.

    Args:
        plan: The plan.
        wishes: The user's own decisions.
        needed: Gigabytes of a step.
    """
    if needed <= 1.1 * wishes.memory_gb:
        return None
    shape = " x ".join(map(str, plan.patch))
    return (
        f"a batch of {plan.batch_size} patches of {shape} needs about {needed:.0f} GB, and plan.memory_gb is "
        f"{wishes.memory_gb:g}; choose a smaller plan.patch or plan.batch_size, or leave them out to have them planned"
    )


def _own_cells(fingerprint: Fingerprint) -> tuple[tuple[float, ...], str]:
    """Median cell of images that are not resampled.

    Raises:
        InputError: Cell sizes differ too much between cases for one network.
    """
    spacings = np.array(fingerprint.spacings)
    low, high = spacings.min(), spacings.max()
    if high > _ALIKE * low:
        raise InputError(
            f"cells are {low:.3g} to {high:.3g} in size; set plan.spacing=[{high:.3g},{high:.3g}] to resample every "
            "case to one size, or train on cases of one resolution"
        )
    return tuple(float(v) for v in np.median(spacings, axis=0)), f"median of {low:.4g} to {high:.4g}, not resampled"


def _rules(
    fingerprint: Fingerprint, spec: DataSpec, schemes: Sequence[str], wishes: Wishes
) -> tuple[tuple[Normalisation, ...], str]:
    used = list(schemes if wishes.normalisation is None else wishes.normalisation)
    names = [c.name for c in spec.channels]
    if len(used) != len(names):
        raise InputError(f"plan.normalisation={used}: {len(used)} schemes for {len(names)} channels {names}")
    rules = tuple(
        Normalisation(scheme, i.mean, i.std, i.percentile_00_5, i.percentile_99_5)
        if Normalisation(scheme).pooled
        else Normalisation(scheme)
        for scheme, i in zip(used, fingerprint.intensities, strict=True)
    )
    for key, values in (("mean", wishes.mean), ("std", wishes.std)):
        rules = rules if values is None else _with_statistics(rules, names, key, values)
    if wishes.normalisation is not None:
        return rules, "set by plan.normalisation"
    pairs = [f"{name}: {scheme}" for name, scheme in zip(names, used, strict=True)]
    return rules, f"by channel name ({', '.join(pairs)})"


def _with_statistics(
    rules: tuple[Normalisation, ...], names: Sequence[str], key: str, values: Sequence[float]
) -> tuple[Normalisation, ...]:
    """The rules with ``plan.mean`` or ``plan.std`` of the user."""
    if len(values) != len(names):
        raise InputError(f"plan.{key}={list(values)}: {len(values)} numbers for {len(names)} channels {names}")
    unused = [n for n, r in zip(names, rules, strict=True) if not r.pooled or r.scheme == "percentile"]
    if unused:
        raise InputError(f"plan.{key} is set, but {unused} use no mean and std; choose plan.normalisation=standard")
    changes: list[dict[str, Any]] = [{key: float(v)} for v in values]
    return tuple(replace(r, **change) for r, change in zip(rules, changes, strict=True))


def _check_axes(name: str, wish: Sequence[float], spec: DataSpec) -> None:
    if len(wish) != spec.ndim:
        raise InputError(f"plan.{name}={list(wish)} has {len(wish)} values, the data has {spec.ndim} axes")


def write_plan(path: Path, plan: Plan) -> None:
    """Write ``plan.yaml`` in one rename: each value below its reason."""
    stored = plan.to_dict()
    reasons = stored.pop("reasons")
    lines = ["# A plan of medseg. Every value may be edited; train with it by plan.file=PATH."]
    lines += [f"# As planned, {reasons['memory']} on a GPU, in half precision.", ""] if "memory" in reasons else [""]
    for key, value in stored.items():
        lines += [f"# {reasons[key]}"] if key in reasons else []
        flow = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
        lines += [f"{key}: {flow.removesuffix('...' + chr(10)).rstrip()}", ""]
    write_whole(path, "\n".join(lines))


def read_plan(path: Path) -> Plan:
    """Read a plan that ``write_plan`` wrote; it may have been edited.

    Raises:
        InputError: No such file, no YAML, a missing or a wrong key.
    """
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no such date
        raise InputError(
            f"plan.file={path}: can't be read ({' '.join(str(error).split())[:200]}); write one by medseg-plan"
        ) from error
    try:
        return Plan.from_dict(stored)
    except InputError as error:
        raise InputError(f"plan.file={path}: is no plan ({error}); it needs {', '.join(KEYS)}") from error
