"""From configuration to objects: everything one training needs."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch import LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from medseg import checkpoint
from medseg.data.case import Case
from medseg.data.datamodule import DataModule
from medseg.data.dataset import Dataset, check_names
from medseg.data.store.content_hash import Digests
from medseg.doctor.at_start import warn_of_headers
from medseg.errors import BadInput
from medseg.factory.initial_weights import begin, rehearse
from medseg.factory.instantiate import instantiate
from medseg.factory.mirrors import mirrors
from medseg.factory.network import fit_patch, follows_plan, network
from medseg.factory.online import online
from medseg.factory.settings import check_parts, check_values
from medseg.factory.split import labelled_halves, unlabelled
from medseg.factory.trainer import loggers, monitored, trainer
from medseg.inference.dates import AtDates
from medseg.inference.decide import decide
from medseg.inference.predictor import Tiling
from medseg.methods.pretraining import Pretraining
from medseg.metrics import overlap
from medseg.planning.cost import UNetCost
from medseg.planning.fingerprint import fingerprint
from medseg.planning.plan import Plan, Wishes, make_plan, memory_warning, read_plan
from medseg.runtime import distributed as processes
from medseg.runtime import verbosity as quiet
from medseg.runtime.cpu import cores, keep_large_blocks
from medseg.runtime.device import device_of, precision_of, short_precision
from medseg.sample import DataSpec
from medseg.weights.report import Report


@dataclass(frozen=True)
class Run:
    """All parts of one training; ``monitor`` is the key that chooses its best checkpoint, and ``max`` or ``min``."""

    dataset: Dataset
    plan: Plan
    datamodule: DataModule
    method: LightningModule
    trainer: Trainer
    report: Report | None = None
    monitor: tuple[str, str] = ("val/dice", "max")


def dataset(cfg: DictConfig) -> Dataset:
    """The dataset of ``cfg.data``.

    How files are read is given to its constructor (``reading``), or set after it where that takes no such argument.

    Raises:
        BadInput: A word where names are listed, or whatever the dataset refuses.
    """
    _refuse_words(cfg.data)
    if (axis := cfg.data.get("lateral_axis")) not in (None, 0, 1):
        raise BadInput(f"data.lateral_axis={axis}: choose 0 (rows), 1 (columns), or null where it is unknown")
    settings = cfg.data.dataset
    taken = inspect.signature(instantiate(settings, _partial_=True).func).parameters.values()
    named = any(p.name == "reading" or p.kind is p.VAR_KEYWORD for p in taken)
    if named or "reading" not in settings:
        built: Dataset = instantiate(settings)
        return built
    bare = copy.deepcopy(cfg)
    with open_dict(bare):
        del bare.data.dataset.reading
    built = instantiate(bare.data.dataset)
    built.reading = instantiate(settings.reading)
    return built


def _refuse_words(data: DictConfig) -> None:
    """Refuse a word where names are listed, as a shell without quotes leaves one, and numbers instead of names."""
    for key, kind, example in (
        ("labels", "class names with their values", "'data.labels={background: 0, tumour: 1}'"),
        ("channels", "a list", "'data.channels=[CT]'"),
    ):
        if isinstance(data.get(key), str):
            raise BadInput(
                f"data.{key}={data[key]}: expected {kind}, in quotes, as the shell has its own use for brackets "
                f"and braces: {example}"
            )
    check_names(data.get("channels") or ())


def store_dir(cfg: DictConfig, source: Dataset) -> Path:
    """Folder of the dataset's patch store."""
    return Path(cfg.cache_dir) / "store" / source.name


def plan(cfg: DictConfig, source: Dataset, cases: Sequence[Case], further: Sequence[Case] = ()) -> Plan:
    """The plan of ``cfg.plan.file``, or one made from the training cases; headers of ``further`` cases are checked too.

    Raises:
        BadInput: A plan file together with wishes of one's own, or one that does not fit the data.
    """
    if cfg.get("verify_files") == "full":
        Digests.forget(store_dir(cfg, source) / "digests.json")
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
    pooled = fingerprint(source, cases, store_dir(cfg, source), further=further, first=warn_of_headers)
    for line in pooled.warning_lines():
        print(f"warning: {line}", file=sys.stderr)  # noqa: T201
    if dates := source.spec.dates:
        costs["inputs"] = dates * len(source.spec.channels)
        each = cfg.get("series") and hydra.utils.get_class(cfg.series._target_).runs_on_each_date  # type: ignore[attr-defined]
        costs["dates"] = dates if each else 1
    made = make_plan(pooled, source.spec, source.normalisation, chosen, cost=UNetCost(**costs))
    if follows_plan(cfg.model) and (excess := memory_warning(made, source.spec, chosen, UNetCost(**costs))):
        print(f"warning: {excess}", file=sys.stderr)  # noqa: T201
    return made


def _fitting(read: Plan, spec: DataSpec, path: str) -> Plan:
    came = (len(read.spacing), len(read.patch), len(read.normalisation))
    expected = (spec.ndim, spec.ndim, len(spec.channels))
    if came != expected:
        raise BadInput(
            f"plan.file={path}: spacing, patch and normalisation have {came} values, the data needs {expected}"
        )
    return read


def transform(cfg: DictConfig, planned: Plan, spec: DataSpec) -> Any:
    """The augmentation of ``cfg.transform`` for this plan and data."""
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
        wavelengths_nm=[c.wavelength_nm for c in spec.channels],
        **({"dates": spec.dates} if spec.dates else {}),
    )


def tiling(cfg: DictConfig, planned: Plan, spec: DataSpec, precision: str) -> Tiling:
    """Windows of whole cases as ``cfg.inference`` says, in the precision of the training."""
    allowed = mirrors(cfg, planned, spec)
    flips = allowed.axes if cfg.inference.flips else ()
    return Tiling(
        window=planned.patch,
        overlap=cfg.inference.overlap,
        batch_size=cfg.inference.batch_size,
        flip_axes=flips,
        lateral_axis=allowed.lateral_axis,
        swap=spec.labels.mirror_outputs() if spec.labels.pairs and allowed.lateral_axis in flips else None,
        precision=precision,
    )


def run(cfg: DictConfig, run_dir: str | Path) -> Run:
    """Everything one training needs; reads the training cases if they are not planned yet.

    Of several processes that were started together, the first one reads and plans before the others do.
    """
    run_dir = Path(run_dir)
    quiet.settle(tracker=online(cfg))
    check_values(cfg)
    method_of = instantiate(cfg.method, _partial_=True)
    device = device_of(cfg.trainer.accelerator)
    precision = precision_of(device) if cfg.trainer.precision == "auto" else str(cfg.trainer.precision)
    if device == "cpu":
        keep_large_blocks()
    watching = loggers(cfg, run_dir)  # before data is read: a package or an account that is missing is told at once
    monitor = monitored(cfg, method_of.func)
    made = trainer(cfg, run_dir, precision, device, monitor, watching)
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
    spec = source.spec
    check_parts(cfg, spec, transform, labelled=not pretrains)
    monitor = monitored(cfg, method_of.func, spec.labels)
    train_cases, val_cases = unlabelled(cfg, source) if pretrains else labelled_halves(cfg, source)
    seen = [case for case in train_cases if case.label] or train_cases
    logits = len(spec.channels) if pretrains else None
    tuning = None if pretrains else instantiate(cfg.peft)
    rehearse(
        cfg,
        spec,
        lambda sketch: network(cfg.model, sketch, spec, cfg.get("series"), logits=logits),
        planned=follows_plan(cfg.model),
        tuning=tuning,
    )
    if pretrains:
        train_cases, val_cases = ([replace(case, label=None) for case in part] for part in (train_cases, val_cases))
    planned = fit_patch(cfg.model, plan(cfg, source, seen, val_cases), spec, cfg.get("series"))
    if (warning := mirrors(cfg, planned, spec).warning) and made.is_global_zero and not pretrains:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
    torch.manual_seed(cfg.seed)
    net = network(cfg.model, planned, spec, cfg.get("series"), logits=logits)
    report = None if cfg.ckpt_path else begin(cfg, net, spec, planned.normalisation)
    if tuning is not None:
        tuning.attach(net)
    tiles = tiling(cfg, planned, spec, short_precision(precision))

    def logits_of(image: Tensor, trained: nn.Module, **context: Tensor) -> Tensor:
        if context:
            image, trained = image.flatten(0, 1), AtDates(trained, **context)
        return tiles.logits(image, trained)

    workers = cfg.data.workers
    if workers == "auto":
        workers = min(8, max(1, cores() - 1)) if device == "cuda" else 0
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
            patch=planned.patch,
            loss=instantiate(cfg.loss)(labels=spec.labels),
            logits=logits_of,
            decide=partial(decide, labels=spec.labels),
            judge=partial(overlap.tally, labels=spec.labels),
            summarise=partial(overlap.validation_scores, labels=spec.labels, pooled=cfg.metric.get("pooled", False)),
            labels=spec.labels,
            tuning=tuning,
            **shared,
        )
    return Run(source, planned, datamodule, method, made, report, monitor)


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
