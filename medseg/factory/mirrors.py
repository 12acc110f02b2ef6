"""Laterality of a run: the axis across the body, and the mirrors that training and test time share."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from omegaconf import DictConfig

from medseg.planning.plan import Plan
from medseg.sample import DataSpec
from medseg.transforms.mirrors import Mirrors, allowed_mirrors, far_turned
from medseg.transforms.spatial import Rotation
from medseg.transforms.turns import RandomRotate90

_T = TypeVar("_T", Rotation, RandomRotate90)


def lateral_axis(cfg: DictConfig, planned: Plan, spec: DataSpec) -> int | None:
    """Axis across the body after preprocessing; None where nothing tells it.

    Volumes are turned to right, anterior, superior, unless the plan leaves them on their own axes. Of 2D images
    ``data.lateral_axis`` says it.
    """
    if spec.ndim == 3:
        return None if planned.native else 0
    axis: int | None = cfg.data.get("lateral_axis")
    return axis


def mirrors(cfg: DictConfig, planned: Plan, spec: DataSpec) -> Mirrors:
    """The mirrors of a training and of its test-time average: those of ``cfg.transform`` that the labels allow."""
    across = lateral_axis(cfg, planned, spec)
    mirror = cfg.transform.get("mirror") or {}
    wanted = mirror.get("axes") if mirror.get("p", 0) else ()
    axes = tuple(range(spec.ndim)) if wanted in (None, "all") else tuple(wanted)
    turned = far_turned(
        planned.patch,
        planned.spacing,
        across,
        rotation=_declared(cfg.transform, "rotation", Rotation),
        turns=_declared(cfg.transform, "turns", RandomRotate90),
    )
    return allowed_mirrors(axes, spec.labels, lateral_axis=across, turned_with=turned)


def _declared(transform: DictConfig, key: str, kind: type[_T]) -> _T | None:
    """The transform of a key if it is of this class; built here, as a checkpoint may not name what is built."""
    settings = transform.get(key)
    if not settings or settings.get("_target_") != f"{kind.__module__}.{kind.__qualname__}":
        return None
    named = {field.name for field in fields(kind)}
    given: dict[str, Any] = {name: value for name, value in settings.items() if name in named}
    return kind(**given)
