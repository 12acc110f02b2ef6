"""How whole cases are predicted: windows, mirrors, precision."""

from __future__ import annotations

from omegaconf import DictConfig

from medseg.factory.mirrors import mirrors
from medseg.inference.predictor import Tiling
from medseg.planning.plan import Plan
from medseg.sample import DataSpec


def build_tiling(cfg: DictConfig, planned: Plan, spec: DataSpec, precision: str) -> Tiling:
    """Windows of whole cases as ``cfg.inference`` says, in the precision of the training."""
    allowed = mirrors(cfg, planned, spec)
    flips = allowed.axes if cfg.inference.flips else ()
    sides = bool(spec.labels.pairs) and allowed.lateral_axis in flips
    return Tiling(
        window=planned.patch,
        overlap=cfg.inference.overlap,
        batch_size=cfg.inference.batch_size,
        flip_axes=flips,
        lateral_axis=allowed.lateral_axis,
        swap=spec.labels.mirror_outputs() if sides else None,
        precision=precision,
        mirror_classes=spec.labels.mirror() if sides and spec.channels[-1].classes else None,
    )
