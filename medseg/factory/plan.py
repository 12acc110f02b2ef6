"""The plan of a training: read from a file, or made from its training cases."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
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
from medseg.factory.network import follows_plan
from medseg.factory.schemes import with_schemes
from medseg.planning.cost import UNetCost
from medseg.planning.fingerprint import fingerprint
from medseg.planning.plan import Plan, Wishes, make_plan, memory_warning, read_plan
from medseg.sample import DataSpec

_LOG = logging.getLogger(__name__)


def build_plan(cfg: DictConfig, source: Dataset, cases: Sequence[Case], further: Sequence[Case] = ()) -> Plan:
    """The plan of ``cfg.plan.file``, or one made from the training cases; headers of ``further`` cases are checked too.

    Raises:
        InputError: A plan file together with wishes of one's own, or one that does not fit the data.
    """
    if cfg.get("verify_files") == "full":
        Digests.forget(store_dir(cfg, source) / "digests.json")
    wishes = {f.name: cfg.plan[f.name] for f in fields(Wishes)}
    if cfg.plan.file is not None:
        set_too = [k for k, v in wishes.items() if v is not None and k != "memory_gb"]
        if set_too:
            raise InputError(f"plan.file and plan.{set_too[0]} are both set; edit the value in the file instead")
        read = _fitting(read_plan(Path(cfg.plan.file)), source.spec, cfg.plan.file)
        return with_schemes(read, f"plan.file={cfg.plan.file}", trust.names(cfg.get("trust") or ()))
    settled: dict[str, Any] = {k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in wishes.items()}
    chosen = Wishes(**settled)
    costs = {f.name: cfg.model[f.name] for f in fields(UNetCost) if f.name in cfg.model}
    costs = {k: tuple(v) if OmegaConf.is_config(v) else v for k, v in costs.items()}
    pooled = fingerprint(source, cases, store_dir(cfg, source), further=further, first=warn_of_headers)
    for line in pooled.warning_lines():
        _LOG.warning("%s", line)
    if dates := source.spec.dates:
        costs["inputs"] = dates * len(source.spec.channels)
        each = cfg.get("temporal") and hydra.utils.get_class(cfg.temporal._target_).runs_on_each_date  # type: ignore[attr-defined]
        costs["dates"] = dates if each else 1
    made = make_plan(pooled, source.spec, source.normalisation, chosen, cost=UNetCost(**costs))
    made = with_schemes(made, "plan", [rule.scheme for rule in made.normalisation])  # all named by the user's command
    if follows_plan(cfg.model) and (excess := memory_warning(made, source.spec, chosen, UNetCost(**costs))):
        _LOG.warning("%s", excess)
    return made


def _fitting(read: Plan, spec: DataSpec, path: str) -> Plan:
    found = (len(read.spacing), len(read.patch), len(read.normalisation))
    expected = (spec.ndim, spec.ndim, len(spec.channels))
    if found != expected:
        raise InputError(
            f"plan.file={path}: spacing, patch and normalisation have {found} values, the data needs {expected}"
        )
    return read
