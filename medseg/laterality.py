"""Laterality of a run: the axis across the body, and the mirrors that training and test time share."""

from __future__ import annotations

from omegaconf import DictConfig

from medseg.instances import instantiate
from medseg.planning.plan import Plan
from medseg.sample import DataSpec
from medseg.transforms.mirrors import Mirrors, allowed_mirrors, far_turned
from medseg.transforms.spatial import Rotation
from medseg.transforms.turns import QuarterTurns


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
    parts = [instantiate(cfg.transform[key]) for key in ("rotation", "turns") if cfg.transform.get(key)]
    turned = far_turned(
        planned.patch,
        planned.spacing,
        across,
        rotation=next((part for part in parts if isinstance(part, Rotation)), None),
        turns=next((part for part in parts if isinstance(part, QuarterTurns)), None),
    )
    return allowed_mirrors(axes, spec.labels, lateral_axis=across, turned_with=turned)
