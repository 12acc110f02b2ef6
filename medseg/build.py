"""From configuration to objects: the only place that instantiates what the configuration names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from medseg import checkpoint, processes
from medseg.callbacks.metrics_file import MetricsFile
from medseg.cpu import keep_large_blocks
from medseg.data.case import Case, first_five
from medseg.data.cases import Dataset
from medseg.data.datamodule import DataModule
from medseg.device import device_of, precision_of, short_precision
from medseg.errors import BadInput
from medseg.folds import labelled_halves, unlabelled
from medseg.inference.dates import AtDates
from medseg.inference.decide import decide
from medseg.inference.predictor import Tiling
from medseg.initial import begin, rehearse
from medseg.methods.pretraining import Pretraining
from medseg.metrics import overlap
from medseg.models.network import Facts, Network
from medseg.planning.cost import UNetCost
from medseg.planning.fingerprint import fingerprint
from medseg.planning.plan import Plan, Wishes, make_plan, read_plan
from medseg.sample import DataSpec
from medseg.weights.report import Report


@dataclass(frozen=True)
class Run:
    """All parts of one training."""

    dataset: Dataset
    plan: Plan
    datamodule: DataModule
    method: LightningModule
    trainer: Trainer
    report: Report | None = None


def instantiate(config: Any, *args: Any, **given: Any) -> Any:
    """Build what ``config._target_`` names; a setting that it does not take is bad input.

    Raises:
        BadInput: No such class, or unknown settings.
    """
    try:
        return hydra.utils.instantiate(config, *args, **given)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, BadInput):
            raise cause from None
        if isinstance(cause, (TypeError, ImportError, AttributeError)) or "Error locating target" in str(error):
            raise BadInput(f"{config.get('_target_')} can't be built: {cause or error}; check its settings") from error
        raise


def dataset(cfg: DictConfig) -> Dataset:
    """The dataset of ``cfg.data``.

    Raises:
        BadInput: A word where names are listed, or whatever the dataset refuses.
    """
    for key, kind, example in (
        ("labels", "class names with their values", "'data.labels={background: 0, tumour: 1}'"),
        ("channels", "a list", "'data.channels=[CT]'"),
    ):
        if isinstance(cfg.data.get(key), str):
            raise BadInput(
                f"data.{key}={cfg.data[key]}: expected {kind}, in quotes, as the shell has its own use for brackets "
                f"and braces: {example}"
            )
    built: Dataset = instantiate(cfg.data.dataset)
    return built


def store_dir(cfg: DictConfig, source: Dataset) -> Path:
    """Folder of the dataset's patch store."""
    return Path(cfg.cache_dir) / "store" / source.name


def plan(cfg: DictConfig, source: Dataset, cases: Sequence[Case]) -> Plan:
    """The plan of ``cfg.plan.file``, or one made from the training cases.

    Raises:
        BadInput: A plan file together with wishes of one's own, or one that does not fit the data.
    """
    wishes = {f.name: cfg.plan[f.name] for f in fields(Wishes)}
    if cfg.plan.file is not None:
        set_too = [k for k, v in wishes.items() if v is not None and k != "memory_gb"]
        if set_too:
            raise BadInput(f"plan.file and plan.{set_too[0]} are both set; edit the value in the file instead")
        return _fitting(read_plan(Path(cfg.plan.file)), source.spec, cfg.plan.file)
    settled: dict[str, Any] = {k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in wishes.items()}
    chosen = Wishes(**settled)
    costs = {f.name: cfg.model[f.name] for f in fields(UNetCost) if f.name in cfg.model}
    costs = {k: tuple(v) if OmegaConf.is_config(v) else v for k, v in costs.items()}
    pooled = fingerprint(source, cases, store_dir(cfg, source))
    if pooled.empty:
        told = f"{len(pooled.empty)} of {len(cases)} training cases have no foreground and teach only the background"
        print(f"warning: {told}: {first_five(pooled.empty)}", file=sys.stderr)  # noqa: T201
    if dates := source.spec.dates:
        costs["inputs"] = dates * len(source.spec.channels)
        each = cfg.get("series") and hydra.utils.get_class(cfg.series._target_).runs_on_each_date  # type: ignore[attr-defined]
        costs["dates"] = dates if each else 1
    return make_plan(pooled, source.spec, source.normalisation, chosen, cost=UNetCost(**costs))


def _fitting(read: Plan, spec: DataSpec, path: str) -> Plan:
    came = (len(read.spacing), len(read.patch), len(read.normalisation))
    expected = (spec.ndim, spec.ndim, len(spec.channels))
    if came != expected:
        raise BadInput(
            f"plan.file={path}: spacing, patch and normalisation have {came} values, the data needs {expected}"
        )
    return read


def lateral_axis(spec: DataSpec) -> int | None:
    """Axis across the body after preprocessing, which turns volumes to right, anterior, superior."""
    return 0 if spec.ndim == 3 else None


def network(
    model: DictConfig, planned: Plan, spec: DataSpec, series: DictConfig | None = None, *, logits: int | None = None
) -> Network:
    """The network of ``cfg.model`` for this plan and data; for time series within that of ``cfg.series``.

    Args:
        model: ``cfg.model``.
        planned: Patch, kernels, strides.
        spec: Channels and labels.
        series: ``cfg.series``.
        logits: Of each cell; None for those of the label table.

    Raises:
        BadInput: A setting that there is not, or data with dates without a way to bring them together.
    """
    facts = Facts(
        in_channels=len(spec.channels),
        out_channels=logits or spec.labels.n_outputs,
        patch_shape=planned.patch,
        spacing=planned.spacing,
        kernels=planned.kernels,
        strides=planned.strides,
        channels=spec.channels,
    )
    if not spec.dates:
        return _made(facts, model)
    if series is None:
        raise BadInput("the data are time series; choose series=stack, mean, max, concat or attention")
    made: Network = instantiate(series)(facts, partial(_made, model=model), dates=spec.dates)
    return made


def _made(facts: Facts, model: DictConfig) -> Network:
    """The network of ``cfg.model`` for images of which ``facts`` hold; what it found elsewhere is written there."""
    try:
        built: Network = instantiate(model)(facts)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        key = str(error).rpartition("argument ")[2].strip("'")
        raise BadInput(
            f"model.{key} is no setting of {model._target_}; where an experiment sets it for another network, "
            f"drop it by '~model.{key}'"
        ) from error
    with open_dict(model):
        model.merge_with(built.settled)
    return built


def fit_patch(model: DictConfig, planned: Plan, spec: DataSpec, series: DictConfig | None = None) -> Plan:
    """The plan with its patch rounded up to what the network of ``cfg.model`` takes."""
    with torch.random.fork_rng():
        patch = network(model, planned, spec, series).nearest(planned.patch)
    if patch == planned.patch:
        return planned
    name = model._target_.rsplit(".", 1)[-1]
    reason = f"{planned.reasons.get('patch', 'edited')}; rounded up from {list(planned.patch)} for {name}"
    return replace(planned, patch=patch, reasons=planned.reasons | {"patch": reason})


def transform(cfg: DictConfig, planned: Plan, spec: DataSpec) -> Any:
    """The augmentation of ``cfg.transform`` for this plan and data."""
    return instantiate(
        cfg.transform,
        patch_shape=planned.patch,
        spacing=planned.spacing,
        lateral_axis=lateral_axis(spec),
        mirror_classes=spec.labels.mirror(),
        wavelengths_nm=[c.wavelength_nm for c in spec.channels],
        **({"dates": spec.dates} if spec.dates else {}),
    )


def mirrored_axes(cfg: DictConfig, spec: DataSpec) -> tuple[int, ...]:
    """Axes that training mirrors, which are those that may be mirrored at test time."""
    mirror = cfg.transform.get("mirror") or {}
    if not mirror.get("p", 0):
        return ()
    axes = mirror.get("axes")
    return tuple(range(spec.ndim)) if axes in (None, "all") else tuple(axes)


def tiling(cfg: DictConfig, planned: Plan, spec: DataSpec, precision: str) -> Tiling:
    """Windows of whole cases as ``cfg.inference`` says, in the precision of the training."""
    return Tiling(
        window=planned.patch,
        overlap=cfg.inference.overlap,
        batch_size=cfg.inference.batch_size,
        flip_axes=mirrored_axes(cfg, spec) if cfg.inference.flips else (),
        lateral_axis=lateral_axis(spec),
        swap=spec.labels.mirror_outputs() if spec.labels.pairs else None,
        precision=precision,
    )


def run(cfg: DictConfig, run_dir: Path) -> Run:
    """Everything one training needs; reads the training cases if they are not planned yet.

    Of several processes that were started together, the first one reads and plans before the others do.
    """
    method_of = instantiate(cfg.method, _partial_=True)
    device = device_of(cfg.trainer.accelerator)
    precision = precision_of(device) if cfg.trainer.precision == "auto" else str(cfg.trainer.precision)
    if device == "cpu":
        keep_large_blocks()
    watching = loggers(cfg, run_dir)  # before data is read: a package or an account that is missing is told at once
    made = trainer(cfg, run_dir, precision, device, method_of.func.monitor, watching)
    processes.check(made, sweeps=HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN)
    processes.meet(made)
    with processes.first_alone(made):
        return _assembled(cfg, made, method_of, device, precision)


def _assembled(cfg: DictConfig, made: Trainer, method_of: Any, device: str, precision: str) -> Run:
    source = dataset(cfg)
    pretrains = issubclass(method_of.func, Pretraining)
    if pretrains and source.spec.dates:
        raise BadInput(
            "pretraining takes single images, and the data are time series; take each date as a case of its own "
            "(data.dates=null)"
        )
    train_cases, val_cases = unlabelled(cfg, source) if pretrains else labelled_halves(cfg, source)
    spec = source.spec
    seen = [case for case in train_cases if case.label] or train_cases
    logits = len(spec.channels) if pretrains else None
    rehearse(cfg, spec.ndim, lambda sketch: network(cfg.model, sketch, spec, cfg.get("series"), logits=logits))
    planned = fit_patch(cfg.model, plan(cfg, source, seen), spec, cfg.get("series"))
    if pretrains:
        train_cases, val_cases = ([replace(case, label=None) for case in part] for part in (train_cases, val_cases))
    torch.manual_seed(cfg.seed)
    net = network(cfg.model, planned, spec, cfg.get("series"), logits=logits)
    report = None if cfg.ckpt_path else begin(cfg, net, spec, planned.normalisation)
    tuning = None if pretrains else instantiate(cfg.peft)
    if tuning is not None:
        tuning.attach(net)
    tiles = tiling(cfg, planned, spec, short_precision(precision))

    def infer(image: Tensor, trained: nn.Module, **context: Tensor) -> Tensor:
        if context:
            image, trained = image.flatten(0, 1), AtDates(trained, **context)
        return decide(tiles.logits(image, trained), spec.labels)

    workers = cfg.data.workers
    if workers == "auto":
        workers = min(8, max(1, (os.cpu_count() or 2) - 1)) if device == "cuda" else 0
    datamodule = DataModule(
        train_cases=train_cases,
        val_cases=val_cases,
        open=source.open,
        reading=source.reading.to_dict(),
        spec=spec,
        preprocess=planned.preprocess,
        store=store_dir(cfg, source),
        patch=planned.patch,
        batch_size=planned.batch_size,
        transform=transform(cfg, planned, spec),
        sampling=sampling(cfg, labelled=not pretrains),
        steps_per_epoch=cfg.data.steps_per_epoch,
        workers=workers,
        seed=cfg.seed,
        in_store=cfg.data.get("store", True),
    )
    folds = {"train": [c.id for c in train_cases], "val": [c.id for c in val_cases]}
    shared = {
        "network": net,
        "optimizer": instantiate(cfg.optimizer),
        "schedule": instantiate(cfg.scheduler),
        "seed": cfg.seed,
        "steps_per_epoch": cfg.data.steps_per_epoch,
        "stored": checkpoint.contents(
            config=_plain(cfg, precision),
            spec=spec.to_dict(),
            plan=planned.to_dict(),
            data=folds,
            segments=not pretrains,
        ),
    }
    if report is not None:
        shared["stored"]["provenance"]["weights"] = report.to_dict()
    if pretrains:
        method = method_of(patch=planned.patch, **shared)
    else:
        method = method_of(
            loss=instantiate(cfg.loss)(labels=spec.labels),
            infer=infer,
            judge=partial(overlap.tally, labels=spec.labels),
            summarise=partial(overlap.validation_scores, labels=spec.labels, pooled=cfg.metric.get("pooled", False)),
            labels=spec.labels,
            tuning=tuning,
            **shared,
        )
    return Run(source, planned, datamodule, method, made, report)


def loggers(cfg: DictConfig, run_dir: Path) -> list[Logger]:
    """``metrics.csv``, and the loggers of ``cfg.logger``.

    Raises:
        BadInput: A logger that needs what is not there.
    """
    for key, entry in cfg.logger.items():
        if not (entry is None or (OmegaConf.is_dict(entry) and "_target_" in entry)):
            raise BadInput(f"logger.{key}={entry}: expected a logger by its name, such as logger=[wandb,tensorboard]")
    return [MetricsFile(run_dir), *(instantiate(entry) for entry in cfg.logger.values() if entry is not None)]


def sampling(cfg: DictConfig, *, labelled: bool) -> dict[str, Any]:
    """How patches are drawn, as ``cfg.data`` says; without labels nothing can be preferred."""
    chosen = {key: cfg.data[key] for key in ("foreground_share", "strategy", "min_valid", "rarity")}
    if not labelled:
        chosen |= {
            "labelled": False,
            "foreground_share": 0.0,
            "strategy": "case" if chosen["strategy"] == "class" else chosen["strategy"],
        }
    return chosen


def _plain(cfg: DictConfig, precision: str) -> dict[str, Any]:
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    config["trainer"]["precision"] = precision
    return config


def trainer(
    cfg: DictConfig,
    run_dir: Path,
    precision: str,
    device: str,
    monitor: tuple[str, str],
    watching: Sequence[Logger],
) -> Trainer:
    """The Lightning trainer, with checkpoints (the best by ``monitor``), loggers and the configured callbacks."""
    folder = run_dir / "checkpoints"
    settled: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    key, mode = monitor
    best = ModelCheckpoint(filename="best", monitor=key, mode=mode, save_on_train_epoch_end=False, **settled)
    last = ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **settled)  # only whole epochs resume exactly
    callbacks = [instantiate(c) for c in cfg.callbacks.values() if c is not None]
    settings = {k: v for k, v in cfg.trainer.items() if k not in ("accelerator", "precision")}
    settings["log_every_n_steps"] = min(cfg.trainer.log_every_n_steps, cfg.data.steps_per_epoch)
    make = instantiate(settings, _partial_=True)
    try:
        made: Trainer = make(
            accelerator="gpu" if device == "cuda" else cfg.trainer.accelerator,
            precision=precision,
            callbacks=[*callbacks, best, last],  # after the averaging of weights, which they are to save
            logger=list(watching),
            plugins=[checkpoint.AtomicCheckpointIO()],
            default_root_dir=str(run_dir),
            use_distributed_sampler=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, TypeError) as error:
        raise BadInput(f"trainer can't be built: {error}; check the keys under trainer") from error
    return made
