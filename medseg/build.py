"""From configuration to objects: the only place that instantiates what the configuration names."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra.utils
import numpy as np
import torch
from hydra.errors import InstantiationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from medseg import checkpoint, formats
from medseg.cpu import has_bf16, keep_large_blocks
from medseg.data.cases import Case, Dataset, read_case
from medseg.data.datamodule import DataModule, Digests, source_files
from medseg.data.split import split
from medseg.data.store import content_key
from medseg.errors import BadInput
from medseg.geometry.grid import Grid
from medseg.inference.decide import decide
from medseg.inference.predictor import Predictor, Tiling
from medseg.labels import LabelTable
from medseg.metrics import overlap
from medseg.models.network import Facts, Network
from medseg.planning.cost import UNetCost
from medseg.planning.fingerprint import CELLS_POOLED, Fingerprint, case_facts, pool
from medseg.planning.plan import Plan, Wishes, make_plan, read_plan
from medseg.sample import DataSpec, Sample


@dataclass(frozen=True)
class Run:
    """All parts of one training."""

    dataset: Dataset
    plan: Plan
    datamodule: DataModule
    method: LightningModule
    trainer: Trainer


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
    """The dataset of ``cfg.data``."""
    built: Dataset = instantiate(cfg.data.dataset)
    return built


def halves(cfg: DictConfig, source: Dataset) -> tuple[list[Case], list[Case]]:
    """Training and validation cases of the fold."""
    cases = {case.id: case for case in source.cases()}
    data = cfg.data
    train, val = split(list(cases.values()), data.fold, data.n_folds, data.split_seed, data.split_file)
    return [cases[i] for i in train], [cases[i] for i in val]


def store_dir(cfg: DictConfig, source: Dataset) -> Path:
    """Folder of the dataset's patch store."""
    return Path(cfg.cache_dir) / "store" / source.name


def fingerprint(source: Dataset, cases: Sequence[Case], store: Path) -> Fingerprint:
    """Fingerprint of the training cases, kept in the store under a key of their content."""
    digests = Digests(store / "digests.json")
    files = [path for case in cases for path in source_files(case)]
    key = content_key(files, {"spec": source.spec.to_dict(), "drawn": CELLS_POOLED}, memory=digests.memory)
    digests.save()
    path = store / "fingerprints" / f"{key[:16]}.json"
    if path.exists():
        return Fingerprint.from_dict(json.loads(path.read_text()))
    draw = max(1, CELLS_POOLED // len(cases))
    facts = [
        case_facts(source.read(case), source.spec.labels.n_classes, draw=draw, seed=index)
        for index, case in enumerate(cases)
    ]
    pooled = pool(facts, source.spec.labels.names)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.{os.getpid()}")
    building.write_text(json.dumps(pooled.to_dict()))
    os.replace(building, path)
    return pooled


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
    chosen = Wishes(**{k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in wishes.items()})
    costs = {f.name: cfg.model[f.name] for f in fields(UNetCost) if f.name in cfg.model}
    costs = {k: tuple(v) if OmegaConf.is_config(v) else v for k, v in costs.items()}
    pooled = fingerprint(source, cases, store_dir(cfg, source))
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


def network(model: DictConfig, planned: Plan, spec: DataSpec) -> Network:
    """The network of ``cfg.model`` for this plan and data."""
    facts = Facts(
        in_channels=len(spec.channels),
        out_channels=spec.labels.n_outputs,
        patch_shape=planned.patch,
        spacing=planned.spacing,
        kernels=planned.kernels,
        strides=planned.strides,
    )
    built: Network = instantiate(model)(facts)
    return built


def fit_patch(model: DictConfig, planned: Plan, spec: DataSpec) -> Plan:
    """The plan with its patch rounded up to what the network of ``cfg.model`` takes."""
    with torch.random.fork_rng():
        patch = network(model, planned, spec).nearest(planned.patch)
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


def short_precision(precision: str) -> str:
    """Precision of inference after a training in Lightning's ``precision``.

    Example:
        >>> short_precision("bf16-mixed"), short_precision("32-true")
        ('bf16', 'fp32')
    """
    return {"bf16": "bf16", "16": "fp16"}.get(str(precision).split("-")[0], "fp32")


def precision_of(device: str) -> str:
    """The fastest safe precision of a device: ``bf16-mixed``, ``16-mixed`` or ``32-true``."""
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if device == "cpu" and has_bf16() else "32-true"


def device_of(wish: str) -> str:
    """``cuda`` or ``cpu`` for ``auto``, else the wish itself.

    Raises:
        BadInput: A device that this machine lacks.
    """
    if wish in ("auto", "gpu", "cuda"):
        if torch.cuda.is_available():
            return "cuda"
        if wish != "auto":
            raise BadInput(f"device {wish!r}: this machine shows no CUDA device to torch; choose auto or cpu")
        return "cpu"
    return wish


def dice_by_class(pred: np.ndarray, label: np.ndarray, valid: np.ndarray, *, labels: LabelTable) -> dict[str, float]:
    """Dice of each scored class of one case; NaN where neither label nor prediction has it."""
    counted = valid & (label >= 0)
    table = overlap.confusion(pred, label, counted, labels.n_classes)
    return {name: overlap.dice(overlap.counts(table, members)) for name, members in labels.targets}


def run(cfg: DictConfig, run_dir: Path) -> Run:
    """Everything one training needs; reads the training cases if they are not planned yet."""
    source = dataset(cfg)
    train_cases, val_cases = halves(cfg, source)
    spec = source.spec
    planned = fit_patch(cfg.model, plan(cfg, source, train_cases), spec)
    device = device_of(cfg.trainer.accelerator)
    if device == "cpu":
        keep_large_blocks()
    precision = precision_of(device) if cfg.trainer.precision == "auto" else str(cfg.trainer.precision)
    torch.manual_seed(cfg.seed)
    net = network(cfg.model, planned, spec)
    tiles = tiling(cfg, planned, spec, short_precision(precision))

    def infer(image: Tensor, trained: nn.Module) -> Tensor:
        return decide(tiles.logits(image, trained), spec.labels)

    workers = cfg.data.workers
    if workers == "auto":
        workers = min(8, max(1, (os.cpu_count() or 2) - 1)) if device == "cuda" else 0
    datamodule = DataModule(
        train_cases=train_cases,
        val_cases=val_cases,
        read=source.read,
        spec=spec,
        preprocess=planned.preprocess,
        store=store_dir(cfg, source),
        patch=planned.patch,
        batch_size=planned.batch_size,
        transform=transform(cfg, planned, spec),
        foreground_share=cfg.data.foreground_share,
        steps_per_epoch=cfg.data.steps_per_epoch,
        workers=workers,
        seed=cfg.seed,
    )
    folds = {"train": [c.id for c in train_cases], "val": [c.id for c in val_cases]}
    method = instantiate(cfg.method, _partial_=True)(
        network=net,
        loss=instantiate(cfg.loss)(labels=spec.labels),
        infer=infer,
        judge=partial(dice_by_class, labels=spec.labels),
        labels=spec.labels,
        optimizer=instantiate(cfg.optimizer),
        schedule=instantiate(cfg.scheduler),
        seed=cfg.seed,
        steps_per_epoch=cfg.data.steps_per_epoch,
        stored=checkpoint.contents(
            config=_plain(cfg, precision), spec=spec.to_dict(), plan=planned.to_dict(), data=folds
        ),
    )
    return Run(source, planned, datamodule, method, trainer(cfg, run_dir, precision, device))


def _plain(cfg: DictConfig, precision: str) -> dict[str, Any]:
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    config["trainer"]["precision"] = precision
    return config


def trainer(cfg: DictConfig, run_dir: Path, precision: str, device: str) -> Trainer:
    """The Lightning trainer, with checkpoints, loggers and the configured callbacks."""
    folder = run_dir / "checkpoints"
    settled = {"dirpath": folder, "enable_version_counter": False}
    best = ModelCheckpoint(filename="best", monitor="val/dice", mode="max", save_on_train_epoch_end=False, **settled)
    last = ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **settled)  # only whole epochs resume exactly
    callbacks = [instantiate(c) for c in cfg.callbacks.values() if c is not None]
    loggers: list[Any] = [CSVLogger(run_dir, name="", version="")]
    if cfg.logger.get("_target_"):
        loggers.append(instantiate(cfg.logger))
    settings = {k: v for k, v in cfg.trainer.items() if k not in ("accelerator", "precision")}
    settings["log_every_n_steps"] = min(cfg.trainer.log_every_n_steps, cfg.data.steps_per_epoch)
    made: Trainer = instantiate(settings, _partial_=True)(
        accelerator="gpu" if device == "cuda" else cfg.trainer.accelerator,
        precision=precision,
        callbacks=[*callbacks, best, last],  # after the averaging of weights, which they are to save
        logger=loggers,
        plugins=[checkpoint.AtomicCheckpointIO()],
        default_root_dir=str(run_dir),
        use_distributed_sampler=False,
        enable_model_summary=False,
    )
    return made


def predictor(
    path: Path | str, *, device: str = "auto", flips: bool | None = None, overlap: float | None = None
) -> Predictor:
    """The predictor that a checkpoint holds; command line, notebook and training build this same object.

    Args:
        path: A checkpoint of medseg.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` and so on.
        flips: Average over mirrored images; None does as the training's configuration says.
        overlap: Least share of a window that its neighbour covers; None likewise.

    Raises:
        BadInput: Not a checkpoint of medseg, or no such device.
    """
    loaded = checkpoint.read(path)
    stored = loaded["medseg"]
    cfg = OmegaConf.create(stored["config"])
    if flips is not None:
        cfg.inference.flips = flips
    if overlap is not None:
        cfg.inference.overlap = overlap
    spec, planned = DataSpec.from_dict(stored["spec"]), Plan.from_dict(stored["plan"])
    place = device_of(device)
    kind = torch.device(place).type
    trained = short_precision(cfg.trainer.precision)
    able = short_precision(precision_of(kind))
    net = network(cfg.model, planned, spec)
    net.load_state_dict(checkpoint.network_state(loaded))
    return Predictor(
        net,
        prepare=planned.preprocess,
        tiling=tiling(cfg, planned, spec, trained if trained == able else "fp32"),
        spec=spec,
        read=partial(_read_image, spec=spec, data=stored["config"]["data"]),
        write=_write_like,
        device=place,
    )


def _read_image(files: Sequence[Path], *, spec: DataSpec, data: dict[str, Any]) -> Sample:
    case = Case(formats.stem(files[0]), tuple(files), None, "")
    return read_case(case, spec, nonfinite=data["nonfinite"], tolerance=data["grid_tolerance"])


def _write_like(target: Path, array: np.ndarray, grid: Grid, like: Path) -> None:
    formats.write(target, array, grid, like=like)
