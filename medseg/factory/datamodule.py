"""The datamodule of a training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.data.case import Case
from medseg.data.datamodule import DataModule
from medseg.data.dataset import Dataset
from medseg.data.sampling.case_samplers import Sampling
from medseg.data.streams import Stream
from medseg.engine.engine import Engine
from medseg.errors import InputError
from medseg.factory.dataset import store_dir
from medseg.factory.instantiate import instantiate
from medseg.factory.transform import build_transform
from medseg.planning.plan import Plan
from medseg.runtime.cpu import cores

_MIN_VALID = {2: 0.5, 3: 0.0}
"""Least fraction of valid cells of a patch by axes, for ``auto``: scenes have nodata, volumes hardly any."""


def build_datamodule(
    cfg: DictConfig,
    source: Dataset,
    planned: Plan,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    device: str,
    labelled: bool,
    engine: Engine,
    streams: Mapping[str, Stream] | None = None,
) -> DataModule:
    """Patches of the training cases, whole validation cases.

    Args:
        cfg: ``conf/train.yaml``, composed.
        source: The dataset of ``cfg.data``.
        planned: Patch, batch size, preprocessing.
        train_cases: Cases that patches are drawn from.
        val_cases: Cases that are predicted whole.
        device: ``cpu``, ``cuda`` and so on; loader processes by themselves only for ``cuda``.
        labelled: Whether the method reads labels.
        engine: Prepares cases.
        streams: Further streams of the training.
    """
    workers = cfg.loader.workers
    if workers == "auto":
        workers = min(8, max(1, cores() - 1)) if device == "cuda" else 0
    return DataModule(
        train_cases=train_cases,
        val_cases=val_cases,
        open=source.open,
        reading=source.reading.to_dict(),
        spec=source.spec,
        preprocess=planned.preprocess,
        store=store_dir(cfg, source),
        patch=planned.patch,
        batch_size=planned.batch_size,
        transform=build_transform(cfg, planned, source.spec),
        sampling=build_sampling(cfg.sampling, source.spec.ndim, labelled=labelled),
        steps_per_epoch=cfg.trainer.steps_per_epoch,
        workers=workers,
        seed=cfg.seed,
        in_store=cfg.loader.store,
        engine=engine,
        streams=streams,
    )


def build_sampling(sampling: DictConfig, ndim: int, *, labelled: bool) -> Sampling:
    """How patches are drawn; without labels no foreground can be asked for.

    Args:
        sampling: ``cfg.sampling``: the class of a ``CaseSampler`` with its settings, and those of ``Sampling``.
        ndim: Axes of the data.
        labelled: Whether the method reads labels.

    Raises:
        InputError: No such class, or a setting that it does not take.
    """
    settings: Any = OmegaConf.to_container(sampling, resolve=True)
    fraction, least = settings.pop("foreground_fraction", 0.33), settings.pop("min_valid", "auto")
    sampler: partial[Any] = instantiate(settings, _partial_=True, _convert_="all")
    try:
        inspect.signature(sampler.func).bind([], seed=0, labelled=labelled, **sampler.keywords)
    except TypeError as error:
        raise InputError(
            f"sampling can't be built: {settings['_target_']}: {error}; expected (cases, *, seed, labelled) and the "
            "other keys under sampling"
        ) from error
    return Sampling(
        sampler=sampler,
        foreground_fraction=fraction if labelled else 0.0,
        min_valid=_MIN_VALID[ndim] if least == "auto" else least,
        labelled=labelled,
    )
