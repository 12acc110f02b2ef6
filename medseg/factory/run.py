"""From a configuration to everything that one training needs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from medseg.checkpoint import RunMetadata
from medseg.data.annotated import check_all_annotated
from medseg.data.case import Case
from medseg.data.datamodule import DataModule
from medseg.data.dataset import Dataset
from medseg.data.datasets.with_facts import WithFacts
from medseg.engine.engine import Engine
from medseg.errors import InputError
from medseg.factory import class_weights
from medseg.factory.datamodule import build_datamodule
from medseg.factory.dataset import build_dataset
from medseg.factory.engine import build_engine
from medseg.factory.first_stage import FirstStage, read_first_stage
from medseg.factory.initial_weights import begin, rehearse
from medseg.factory.instantiate import instantiate
from medseg.factory.loss import build_loss
from medseg.factory.mirrors import mirrors
from medseg.factory.network import follows_plan, network, network_and_plan
from medseg.factory.plan import build_plan
from medseg.factory.second_network import second_network
from medseg.factory.settings import check_parts, check_values
from medseg.factory.split import labelled_halves, unlabelled
from medseg.factory.stream_settings import stream_settings
from medseg.factory.streams import Declared, build_streams, declare, stream_cases, stream_sources
from medseg.factory.teacher import read_teacher, teacher_settings
from medseg.factory.tiling import build_tiling
from medseg.factory.trainer import loggers, monitored, trainer
from medseg.factory.transform import build_transform
from medseg.inference.case_network import AtCase
from medseg.inference.dates import AtDates
from medseg.inference.decide import decide
from medseg.inference.predictor import Tiling
from medseg.labels import LabelTable
from medseg.losses.partial import known_sets
from medseg.methods.method import Method
from medseg.methods.pretraining import Pretraining
from medseg.metrics import overlap, validation
from medseg.metrics.case_labels import case_scores
from medseg.models.network import Network
from medseg.planning.plan import Plan
from medseg.runtime import distributed
from medseg.runtime.cpu import keep_large_blocks
from medseg.runtime.device import device_of, precision_of, short_precision
from medseg.runtime.verbosity import quiet_libraries
from medseg.sample import DataSpec
from medseg.weights.report import Report

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """All parts of one training.

    Attributes:
        report: What became of each tensor of the weights that the network begins with; None without weights.
        monitor: Key that chooses the best checkpoint, and ``max`` or ``min``.
        sources: Dataset of each further stream.
    """

    dataset: Dataset
    plan: Plan
    datamodule: DataModule
    method: Method
    trainer: Trainer
    report: Report | None = None
    monitor: tuple[str, str] = ("val/dice", "max")
    sources: Mapping[str, Dataset] = field(default_factory=dict)


@quiet_libraries(tracker=True)  # W&B prints nothing before the first step
def assemble(cfg: DictConfig, run_dir: str | Path) -> Run:
    """Everything one training needs; reads the training cases if they are not planned yet.

    Of several processes that were started together, the first one reads and plans before the others do.

    Args:
        cfg: ``conf/train.yaml``, composed.
        run_dir: Folder of the run.

    Raises:
        InputError: Anything in the configuration or the data that the user can fix.
    """
    run_dir = Path(run_dir)
    check_values(cfg)
    method_of: partial[Any] = instantiate(cfg.method, _partial_=True)
    device = device_of(cfg.trainer.accelerator)
    precision = precision_of(device) if cfg.trainer.precision == "auto" else str(cfg.trainer.precision)
    if device == "cpu":
        keep_large_blocks()
    watching = loggers(cfg, run_dir)  # before data is read: a package, an account or a cluster may be missing
    engine = build_engine(cfg.get("engine"))
    method_class: Any = method_of.func
    monitor = monitored(cfg, method_class)
    made = trainer(cfg, run_dir, precision, device, monitor, watching)
    distributed.check(made, sweeps=HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN)
    distributed.meet(made)
    with distributed.first_alone(made):
        return _assembled(cfg, made, method_of, device, precision, engine)


class _Cases(NamedTuple):
    """Cases of one run.

    Attributes:
        train: Those that train; without labels in pretraining, so that none is read. As for ``val``.
        val: Those that validate.
        planned: Those that the plan is made from, with their labels.
        streams: Those of each further stream.
    """

    train: list[Case]
    val: list[Case]
    planned: list[Case]
    streams: Mapping[str, list[Case]]

    def ids(self) -> dict[str, Any]:
        """As the provenance has them."""
        streams = {name: [c.id for c in cases] for name, cases in self.streams.items()}
        return {"train": [c.id for c in self.train], "val": [c.id for c in self.val]} | (
            {"streams": streams} if streams else {}
        )


def _cases(cfg: DictConfig, source: Dataset, declared: Mapping[str, Declared], *, pretrains: bool) -> _Cases:
    """The cases of a run, by ``cfg.split`` and ``cfg.streams``."""
    train, val = unlabelled(cfg.split, source) if pretrains else labelled_halves(cfg.split, source)
    train, streams = stream_cases(declared, train)
    planned = [case for case in train if case.label] or train
    if not pretrains:
        labelled = [case for cases in streams.values() for case in cases if case.label is not None]
        _check_annotated([*train, *labelled], source.spec.labels)
        return _Cases(train, val, planned, streams)
    without = {name: _without_labels(cases) for name, cases in streams.items()}
    return _Cases(_without_labels(train), _without_labels(val), planned, without)


def _check_annotated(cases: Sequence[Case], labels: LabelTable) -> None:
    """Raise on classes that no case annotates, and on regions of which cases can't annotate some."""
    check_all_annotated(cases, labels)
    if labels.regions and any(case.annotated for case in cases):
        known_sets(labels)


def _fitted(source: Dataset, cases: _Cases) -> tuple[Dataset, _Cases]:
    """Dataset and cases whose facts have the values and statistics of the training cases."""
    if not isinstance(source, WithFacts):
        return source, cases
    fitted = source.fitted(cases.train)
    for warning in fitted.warnings():
        _LOG.warning("%s", warning)
    train, val, planned = (fitted.updated(part) for part in (cases.train, cases.val, cases.planned))
    return fitted, _Cases(train, val, planned, {name: fitted.updated(part) for name, part in cases.streams.items()})


def _assembled(
    cfg: DictConfig, made: Trainer, method_of: partial[Any], device: str, precision: str, engine: Engine
) -> Run:
    """The steps that read data: dataset, split, trial of the network, plan, network, datamodule, method."""
    method_class: Any = method_of.func
    pretrains = issubclass(method_class, Pretraining)
    streams = stream_settings(cfg, method_class)
    source = _checked_dataset(cfg, pretrains=pretrains)
    declared = declare(cfg, streams, source, pretrains=pretrains)
    teacher = read_teacher(cfg, source.spec)
    unfitted = source
    source, cases = _fitted(source, _cases(cfg, source, declared, pretrains=pretrains))
    first = read_first_stage(cfg, source, pretrains=pretrains)
    inputs: Dataset = source if first is None else first.dataset
    spec = _with_presence(cfg, inputs.spec, pretrains=pretrains)
    monitor = monitored(cfg, method_class, spec.labels)
    logits = len(spec.channels) if pretrains else None
    tuning = None if pretrains else instantiate(cfg.finetuning)
    rehearse(
        cfg,
        spec,
        partial(_tried, cfg, spec, logits),
        planned=follows_plan(cfg.model),
        tuning=tuning,
    )
    planned = build_plan(cfg, source, cases.planned, cases.val)
    cfg = cfg if pretrains else class_weights.from_cases(cfg, source, cases.planned)
    planned, cases = _of_stage(first, planned, cases)
    net, planned = network_and_plan(cfg.model, planned, spec, cfg.get("temporal"), logits=logits, seed=cfg.seed)
    if made.is_global_zero and not pretrains:
        _warn_of_mirrors(cfg, planned, spec)
    report = None if cfg.ckpt_path else begin(cfg, net, spec, planned.normalisation)
    if tuning is not None:
        tuning.attach(net)
    tiling = build_tiling(cfg, planned, spec, short_precision(precision))
    datamodule = build_datamodule(
        cfg,
        inputs,
        planned,
        cases.train,
        cases.val,
        device=device,
        labelled=not pretrains,
        engine=engine,
        streams=build_streams(declared, cases.streams, planned, spec, pretrains=pretrains),
    )
    metadata = RunMetadata.of_new_run(_plain(cfg, precision), spec, planned, cases=cases.ids(), segments=not pretrains)
    if report is not None:
        metadata = metadata.with_weights(report.to_dict())
    further = teacher_settings(teacher, cfg, planned, spec)
    further |= second_network(method_class, cfg, planned, spec, tuning)
    further |= {} if pretrains else _supervision(cfg, spec, tiling, net) | {"tuning": tuning}
    method = method_of(
        patch=planned.patch,
        network=net,
        optimizer=instantiate(cfg.optimizer),
        schedule=instantiate(cfg.scheduler),
        seed=cfg.seed,
        steps_per_epoch=cfg.trainer.steps_per_epoch,
        metadata=metadata,
        **further,
    )
    method.first_stage = None if first is None else first.checkpoint.to_dict()
    sources = stream_sources(declared, unfitted, source)
    return Run(source, planned, datamodule, method, made, report, monitor, sources)


def _with_presence(cfg: DictConfig, spec: DataSpec, *, pretrains: bool) -> DataSpec:
    """What the network is built for: with ``cfg.presence`` it also sees which channels are present.

    Raises:
        InputError: The data are time series, of which networks know this anyway; or the network is pretrained.
    """
    if cfg.get("presence") and (spec.dates or pretrains):
        what = "time series, whose networks are given it anyway" if spec.dates else "pretraining, which hides cells"
        raise InputError(f"presence=true: says which channels an image has, got {what}; leave it out")
    return replace(spec, presence=bool(cfg.get("presence")))


def _of_stage(first: FirstStage | None, planned: Plan, cases: _Cases) -> tuple[Plan, _Cases]:
    """Plan and cases of the second stage of a cascade, which sees what the first one predicted; or as they are."""
    if first is None:
        return planned, cases
    first.check_unseen(cases.val)
    predicted = cases._replace(train=first.dataset.predicted(cases.train), val=first.dataset.predicted(cases.val))
    return first.plan(planned), predicted


def _warn_of_mirrors(cfg: DictConfig, planned: Plan, spec: DataSpec) -> None:
    """Say if mirrors of the transforms are left out for the sides of classes."""
    if warning := mirrors(cfg, planned, spec).warning:
        _LOG.warning("%s", warning)


def _checked_dataset(cfg: DictConfig, *, pretrains: bool) -> Dataset:
    """The dataset, to which the other settings fit."""
    source = build_dataset(cfg)
    if pretrains and source.spec.dates:
        raise InputError(
            "pretraining takes single images, and the data are time series; take each date as a case of its own "
            "(data.dates=null)"
        )
    check_parts(cfg, source.spec, build_transform, labelled=not pretrains)
    return source


def _without_labels(cases: Sequence[Case]) -> list[Case]:
    return [replace(case, label=None) for case in cases]


def _tried(cfg: DictConfig, spec: DataSpec, logits: int | None, sketch: Plan) -> Network:
    """A network for a plan; one that learns from labels fits its loss.

    Args:
        cfg: ``conf/train.yaml``, composed.
        spec: Of the data.
        logits: Number of its outputs in pretraining, else None.
        sketch: The plan.
    """
    net = network(cfg.model, sketch, spec, cfg.get("temporal"), logits=logits)
    if logits is None:
        build_loss(class_weights.without_words(cfg), spec, net)
    return net


def _supervision(cfg: DictConfig, spec: DataSpec, tiling: Tiling, net: Network) -> dict[str, Any]:
    """What a method that learns from labels takes: its loss, and how whole cases are predicted and scored."""

    def logits_of(
        image: Tensor,
        trained: nn.Module,
        *,
        facts: Tensor | None = None,
        case_logits: list[Tensor] | None = None,
        **context: Tensor,
    ) -> Tensor:
        if facts is not None or case_logits is not None:
            trained = AtCase(trained, facts, case_logits)
        if context:
            image, trained = image.flatten(0, 1), AtDates(trained, **context)
        return tiling.logits(image, trained)

    return {
        "loss": build_loss(cfg, spec, net),
        "logits": logits_of,
        "decide": partial(decide, labels=spec.labels),
        "judge": partial(overlap.confusion_matrix, labels=spec.labels),
        "summarise": partial(validation.validation_scores, labels=spec.labels, pooled=cfg.metric.get("pooled", False)),
        "labels": spec.labels,
        **({"case_scores": case_scores} if net.classifies else {}),
    }


def _plain(cfg: DictConfig, precision: str) -> dict[str, Any]:
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    config["trainer"]["precision"] = precision
    return config
