"""The augmentation that a configuration names, for a plan and its data."""

from __future__ import annotations

import copy
from typing import Any

from omegaconf import DictConfig, open_dict

from medseg.factory.instantiate import instantiate
from medseg.factory.mirrors import mirrors
from medseg.planning.plan import Plan
from medseg.sample import DataSpec
from medseg.transforms.mirrors import Mirrors


def build_transform(cfg: DictConfig, planned: Plan, spec: DataSpec) -> Any:
    """The augmentation of ``cfg.transform`` for this plan and data."""
    channels = spec.of_files.channels
    allowed, settings = mirrors(cfg, planned, spec), copy.deepcopy(cfg.transform)
    if settings.get("mirror"):
        with open_dict(settings):
            settings.mirror.axes = list(allowed.axes)
    return instantiate(
        settings,
        patch_shape=planned.patch,
        spacing=planned.spacing,
        lateral_axis=allowed.lateral_axis,
        mirror_classes=spec.labels.mirror(),
        **({"mirror_outputs": list(spec.labels.mirror_outputs())} if _exchanges_regions(allowed, spec) else {}),
        wavelengths_nm=[c.wavelength_nm for c in channels],
        **({"groups": [list(c.groups) for c in channels]} if any(c.groups for c in channels) else {}),
        **({"dates": spec.dates} if spec.dates else {}),
        **({"classes": len(spec.channels[-1].classes)} if spec.channels[-1].classes else {}),
    )


def _exchanges_regions(allowed: Mirrors, spec: DataSpec) -> bool:
    """Whether a mirror across the body exchanges regions; those without a mirror image are not mirrored."""
    return bool(spec.labels.regions and spec.labels.pairs) and allowed.lateral_axis in allowed.axes
