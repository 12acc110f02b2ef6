"""The plan of a training: read from a file, or made from its training cases."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import hydra.utils
from omegaconf import DictConfig, OmegaConf

from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.data.store.content_hash import Digests
from medseg.doctor.at_start import warn_of_headers
from medseg.errors import InputError
from medseg.factory import trust
from medseg.factory.dataset import store_dir
from medseg.factory.memory import plan_within_memory
from medseg.factory.schemes import with_schemes
from medseg.planning.cost import UNetCost
from medseg.planning.fingerprint import fingerprint
from medseg.planning.nnunet import plan_at
from medseg.planning.plan import Plan, Wishes, cascade_spacing, make_plan
from medseg.sample import DataSpec

_LOG = logging.getLogger(__name__)


def build_plan(cfg: DictConfig, source: Dataset, cases: Sequence[Case], further: Sequence[Case] = ()) -> Plan:
    """The plan of ``cfg.plan.file``, or one made from the training cases; headers of ``further`` cases are checked too.

    Raises:
        InputError: A plan file together with wishes of one's own, or one that does not fit the data.
    """
    if cfg.get("verify_files") == "full":
        Digests.forget(store_dir(cfg, source) / "digests.json")
    if cfg.plan.file is not None:
        return _plan_of_file(cfg, source.spec)
    wishes, cost = _wishes(cfg), _cost(cfg, source.spec)
    pooled = fingerprint(source, cases, store_dir(cfg, source), further=further, first=warn_of_headers)
    for line in pooled.warning_lines():
        _LOG.warning("%s", line)

    def make(within: Wishes) -> Plan:
        return make_plan(pooled, source.spec, source.normalisation, within, cost=cost)

    made = plan_within_memory(cfg, source.spec, wishes, cost, make)
    return with_schemes(made, "plan", [rule.scheme for rule in made.normalisation])  # all named by the user's command


def low_resolution(cfg: DictConfig, source: Dataset, cases: Sequence[Case]) -> tuple[float, ...] | None:
    """Spacing of the first network of a cascade; None where one network sees enough of a case.

    Args:
        cfg: ``conf/train.yaml``, composed.
        source: The dataset.
        cases: The training cases.

    Raises:
        InputError: Images, which have no cascade.
    """
    if source.spec.ndim != 3 or source.spec.dates:
        raise InputError("cascade: a cascade is for volumes, and the data are images; leave it out")
    planned, wishes = build_plan(cfg, source, cases), _wishes(cfg)
    pooled = fingerprint(source, cases, store_dir(cfg, source))
    return cascade_spacing(pooled, source.spec, planned, wishes, cost=_cost(cfg, source.spec))


def _wishes(cfg: DictConfig) -> Wishes:
    return Wishes(**{f.name: _plain(cfg.plan[f.name]) for f in fields(Wishes)})


def _plan_of_file(cfg: DictConfig, spec: DataSpec) -> Plan:
    """The plan of ``cfg.plan.file``.

    Raises:
        InputError: A wish is set too, or the plan does not fit the data.
    """
    wishes = [f.name for f in fields(Wishes) if f.name != "memory_gb" and cfg.plan[f.name] is not None]
    if wishes:
        raise InputError(f"plan.file and plan.{wishes[0]} are both set; edit the value in the file instead")
    read = _fitting(plan_at(str(cfg.plan.file), spec.ndim), spec, cfg.plan.file)
    return with_schemes(read, f"plan.file={cfg.plan.file}", trust.names(cfg.get("trust") or ()))


def _cost(cfg: DictConfig, spec: DataSpec) -> UNetCost:
    """What decides how much the network writes to memory."""
    named = {f.name: cfg.model[f.name] for f in fields(UNetCost) if f.name in cfg.model}
    settings: dict[str, Any] = {key: tuple(v) if OmegaConf.is_config(v) else v for key, v in named.items()}
    cost = UNetCost(**settings)
    if not spec.dates:
        return cost
    each = cfg.get("temporal") and hydra.utils.get_class(cfg.temporal._target_).runs_on_each_date  # type: ignore[attr-defined]
    return replace(cost, inputs=spec.dates * len(spec.channels), dates=spec.dates if each else 1)


def _plain(value: Any) -> Any:
    """A value of the configuration as a list, a mapping or what it is."""
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value


def _fitting(read: Plan, spec: DataSpec, path: str) -> Plan:
    found = (len(read.spacing), len(read.patch), len(read.normalisation))
    expected = (spec.ndim, spec.ndim, len(spec.channels))
    if found != expected:
        raise InputError(
            f"plan.file={path}: spacing, patch and normalisation have {found} values, the data needs {expected}"
        )
    return read
