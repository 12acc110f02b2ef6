"""The plan of a file: medseg's ``plan.yaml``, or a configuration of nnU-Net's ``plans.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.errors import InputError, nearest
from medseg.planning.plan import Plan, read_plan
from medseg.planning.rules import topology
from medseg.runtime.values import mapped
from medseg.weights.nnunet_plans import NnunetPlans, plans_of

_NAME = "plans.json"
_MOST_BYTES = 64 << 20


def plan_at(source: str, ndim: int) -> Plan:
    """The plan of ``plan.file``.

    Args:
        source: A ``plan.yaml``; the folder of a trained model of nnU-Net (``nnUNetTrainer__nnUNetPlans__3d_fullres``),
            which holds ``plans.json``; or such a file, with ``::3d_fullres`` where its folder does not say which
            configuration is meant.
        ndim: Axes of the data.

    Raises:
        InputError: No such file, a folder without plans, no such configuration, or damaged content.
    """
    place, _, configuration = source.partition("::")
    path = Path(place)
    if path.is_dir():
        path = path / _NAME
        if not path.is_file():
            raise InputError(
                f"plan.file={source}: this folder holds no {_NAME}; give the folder of a trained model of nnU-Net "
                "(nnUNetTrainer__nnUNetPlans__3d_fullres), or a plan.yaml"
            )
    if path.suffix != ".json":
        return read_plan(Path(source))
    stored = _read(path, source)
    try:
        plans = plans_of(stored, configuration or _configuration(path, stored))
        return Plan.from_dict(_as_plan(plans, ndim, path))
    except InputError as error:
        raise InputError(f"plan.file={source}: can't be used as plans of nnU-Net ({error})") from error


def _read(path: Path, source: str) -> object:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, expected at most {_MOST_BYTES}")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(
            f"plan.file={source}: can't be read ({line}); give nnU-Net's {_NAME}, or a plan.yaml"
        ) from error


def _configuration(path: Path, stored: object) -> str:
    """The configuration that the name of the folder ends with, or the only one there is.

    Raises:
        InputError: Neither is there.
    """
    names = list(mapped(mapped(stored, "plans", ["configurations"])["configurations"], "configurations"))
    named = path.absolute().parent.name.rpartition("__")[2]
    if named in names:
        return named
    if len(names) == 1:
        return names[0]
    raise InputError(
        f"it has {len(names)} configurations and its folder names none; add one of them to the path, as in "
        f"{path.name}::{names[0]} ({nearest('3d_fullres', names, n=5)})"
        if names
        else "it has no configurations"
    )


def _as_plan(plans: NnunetPlans, ndim: int, path: Path) -> dict[str, Any]:
    """The form of ``Plan.to_dict``."""
    origin = f"of nnU-Net's {plans.configuration} in {path.parent.name}/{path.name}"
    spacing, patch = plans.turned(plans.spacing, ndim, plans.depth), plans.turned(plans.patch, ndim, 1)
    stages, words = _stages(plans, ndim, spacing, patch)
    slices = ndim == 3 and len(plans.spacing) == 2
    rules: list[Mapping[str, object]] = [
        {"scheme": scheme, **held} for scheme, held in zip(plans.schemes, plans.statistics, strict=True)
    ]
    return {
        "spacing": list(spacing),
        "patch": list(patch),
        "batch_size": plans.batch_size,
        "normalisation": rules,
        "masked": plans.masked,
        "native": ndim == 2,
        "reasons": {
            "spacing": f"{origin}{'; between slices the median, which nnU-Net leaves to each case' if slices else ''}",
            "patch": f"{origin}{'; a single slice' if slices else ''}",
            "kernels": words,
            "native": "cases stay on their own cells" if ndim == 2 else "cases are resampled to spacing",
        }
        | dict.fromkeys(("batch_size", "strides", "normalisation", "masked"), origin),
        **stages,
    }


def _stages(
    plans: NnunetPlans, ndim: int, spacing: tuple[float, ...], patch: tuple[int, ...]
) -> tuple[dict[str, list[list[int]]], str]:
    """Kernels and strides, and words about the network; by the rules for networks that have none of their own."""
    shape = plans.geometry
    if shape is None:
        ruled = topology(spacing, patch)
        stages = {"kernels": [list(k) for k in ruled.kernels], "strides": [list(s) for s in ruled.strides]}
        return stages, f"by the rules, as nnU-Net's network was {plans.network}"
    kernels = [plans.turned(kernel, ndim, 1) for kernel in shape.kernels]
    strides = [plans.turned(stride, ndim, 1) for stride in shape.strides]
    stages = {"kernels": [list(k) for k in kernels], "strides": [list(s) for s in strides]}
    return stages, f"nnU-Net's network was {plans.network}: {shape.overrides(ndim) or 'with features of its own'}"
