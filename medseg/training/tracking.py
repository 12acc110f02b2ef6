"""Tracking: the name, the data, the scores and the files of a training, as the loggers get them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg.hydra_app.choices import network_name, option_name

if TYPE_CHECKING:
    from medseg.factory.run import Run
    from medseg.methods.method import Method
    from medseg.training.drawings import CaseDrawing

_PLACES = ("experiment", "name", "seed", "data", "data.root", "run_dir", "cache_dir", "ckpt_path")
_WATCHING = ("logger", "callback", "hydra")
_LONGEST = 30
_LONGEST_TAG = 64  # that W&B takes


@dataclass(frozen=True)
class Description:
    """Name, group and tags of a run.

    Attributes:
        name: Experiment, what a sweep set, seed.
        group: The same without the seed.
        job_type: ``train``, or ``pretrain``.
        tags: Names of experiment, data and network; of method and fine-tuning unless they are the default.
    """

    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]


def describe(cfg: DictConfig, overrides: Sequence[str] = (), command: Sequence[str] = ()) -> Description:
    """Name, group and tags of a run of this configuration.

    Args:
        cfg: The configuration, composed.
        overrides: ``key=value`` of a job of a sweep; empty for a run on its own.
        command: The words that started the sweep, if known: then only the keys that they vary enter the name.

    Example:
        >>> from medseg.hydra_app.compose import compose
        >>> run = describe(compose("train", ["seed=3", "finetuning=lora"]), ["finetuning=lora", "seed=3"])
        >>> run.name, run.group
        ('phantom_volumes finetuning=lora seed=3', 'phantom_volumes finetuning=lora')
    """
    swept = dict(override.lstrip("+~").partition("=")[::2] for override in overrides)
    varied = _varied(command) & set(swept) or set(swept)
    own = [key for key in swept if key in varied and key not in _PLACES and re.split("[./]", key)[0] not in _WATCHING]
    group = " ".join([str(cfg.name), *(f"{key}={_within(swept[key], _LONGEST)}" for key in own)])
    from medseg.factory.instantiate import instantiate

    method: type[Method] = instantiate(cfg.method, _partial_=True).func
    tags = [str(cfg.name), str(cfg.data.name), *_option_tags(cfg), *(["sweep"] if swept else [])]
    return Description(
        name=f"{group} seed={cfg.seed}",
        group=group,
        job_type=method.job_type,
        tags=tuple(dict.fromkeys(tags)),
    )


def configure_loggers(cfg: DictConfig) -> None:
    """Fill in name, group and tags of the loggers of a configuration where the user did not set them; in place."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    within = HydraConfig.get() if HydraConfig.initialized() else None
    swept = "WANDB_SWEEP_ID" in os.environ or (within is not None and within.mode == RunMode.MULTIRUN)
    run = describe(cfg, list(within.overrides.task) if within and swept else (), sys.argv[1:])
    for entry in filter(OmegaConf.is_dict, cfg.logger.values()):
        _fill_in(entry, run)


def _fill_in(entry: DictConfig, run: Description) -> None:
    """Name, group and tags of one logger; tags are a list or a mapping, as its library takes them."""
    defaults = {"name": run.name, "run_name": run.name, "group": run.group, "job_type": run.job_type}
    for key, value in defaults.items():
        if key in entry and entry[key] is None:
            entry[key] = value
    if OmegaConf.is_list(entry.get("tags")):
        entry.tags = list(dict.fromkeys([*entry.tags, *run.tags]))
    elif OmegaConf.is_dict(entry.get("tags")):
        tags = {"group": run.group, "job_type": run.job_type, "facts": ", ".join(run.tags)}
        entry.tags = {**tags, **entry.tags}


@contextmanager
def tracked() -> Iterator[None]:
    """End the W&B run that began within, which the next training of this process would continue."""
    failed = 1
    try:
        yield
        failed = 0
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish(exit_code=failed)


def begin(run: Run) -> None:
    """Log all settings, the plan, the number of parameters and cases, and the data."""
    from medseg.loggers.tensorboard_run import TensorBoardRun
    from medseg.loggers.wandb_run import WandbRun

    metadata = run.method.metadata
    parts = run.datamodule.cases
    extra = {
        "options": options(metadata.config),
        "parameters": sum(p.numel() for p in run.method.parameters()),
        "planned": {key: value for key, value in metadata.plan.to_dict().items() if key != "reasons"},
        "train_cases": len(parts["train"]),
        "val_cases": len(parts["val"]),
    }
    for logger in run.trainer.loggers:
        if isinstance(logger, TensorBoardRun):
            logger.show(run.monitor[0])
        logger.log_hyperparams({**metadata.config, **extra})
        if isinstance(logger, WandbRun):
            logger.keep_best(*run.monitor)
            logger.log_data(manifest(run))


def manifest(run: Run) -> dict[str, Any]:
    """The cases of a run by part, each with a digest of the bytes of its files, and a digest of all.

    The paths of the files do not matter.
    """
    from medseg.data.store.content_hash import Digests, content_key

    digests = Digests(run.datamodule.store / "digests.json")
    parts = {
        part: {case.id: content_key(case.files, {}, memory=digests.memory) for case in cases}
        for part, cases in run.datamodule.cases.items()
    }
    return {"name": run.dataset.name, "digest": content_key([], parts), **parts}


def log_scores(run: Run, result: Mapping[str, Any], drawings: Sequence[CaseDrawing]) -> None:
    """Log the final scores as ``<part>/<metric>`` and ``<part>/<metric>/<class>``, as tables; pictures of some cases.

    The part is that of ``part_of``.

    Args:
        run: The training.
        result: The content of ``metrics.json``.
        drawings: Of some cases.
    """
    from medseg.loggers.image_logger import picture_loggers
    from medseg.loggers.wandb_run import WandbRun

    step = run.trainer.global_step
    final = dict(_final(result))
    for logger in run.trainer.loggers:
        logger.log_metrics(final, step=step)
        logger.save()
    if watching := picture_loggers(run.trainer):
        views = {f"{part_of(result)}/pictures/{drawn.case}": drawn.views for drawn in drawings}
        for watcher in watching:
            watcher.log_pictures(views, step)
    for logger in run.trainer.loggers:
        if isinstance(logger, WandbRun):
            logger.log_result(result, step, part=part_of(result))


def end(cfg: DictConfig, run: Run, run_dir: Path, result: Mapping[str, object] | None) -> None:
    """Log the checkpoints and the report.

    Args:
        cfg: The configuration.
        run: The training.
        run_dir: Its folder.
        result: The content of ``metrics.json``; None if nothing was scored.
    """
    from medseg.loggers.wandb_run import WandbRun

    metadata = {"network": network_name(cfg.model), "steps": run.trainer.global_step, "data": run.dataset.name}
    for logger in run.trainer.loggers:
        if isinstance(logger, WandbRun):
            logger.log_files(run_dir, metadata | dict(_final(result or {})), tested=cfg.judged)


def part_of(result: Mapping[str, Any]) -> str:
    """``test`` where a test set was scored, else ``val_final``: those cases had a part in the choice of the checkpoint.

    Args:
        result: The content of a run's ``metrics.json``.
    """
    from medseg.factory.split import TEST_SET

    return "test" if result["policy"]["cases"] == TEST_SET else "val_final"


def _final(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    part = part_of(result) if result else ""
    for metric, entry in result.get("summary", {}).items():
        if entry["mean"] is not None:
            yield f"{part}/{metric}", entry["mean"]
    for name, by in result.get("classes", {}).items():
        for metric, entry in by.items():
            if entry["mean"] is not None:
                yield f"{part}/{metric}/{name}", entry["mean"]


def _option_tags(cfg: DictConfig) -> Iterator[str]:
    """Options of the network, and of method and fine-tuning unless they are the default."""
    yield _within(network_name(cfg.model), _LONGEST_TAG)
    option = options(cfg)
    for group, default in (("method", "supervised"), ("finetuning", "full")):
        if option.get(group, default) != default:
            yield option[group]


def options(cfg: Mapping[str, Any] | DictConfig) -> dict[str, str]:
    """The option of each group of a configuration that names a class: ``{"loss": "dice_ce", ...}``."""
    named = {str(group): part for group, part in cfg.items() if OmegaConf.is_dict(part) or isinstance(part, Mapping)}
    return {
        group: network_name(part) if group == "model" else option_name(group, part)
        for group, part in named.items()
        if "_target_" in part
    }


def _varied(command: Sequence[str]) -> set[str]:
    """Keys that a command line gives several values, as a sweep does."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    words = [word for word in command if "=" in word and not word.startswith("-")]
    try:
        parsed = OverridesParser.create().parse_overrides(words)
    except OverrideParseException:  # not a command of ours: a test, a notebook
        return set()
    return {str(override.key_or_group) for override in parsed if override.is_sweep_override()}


def _within(value: str, longest: int) -> str:
    return value if len(value) <= longest else f"…{value[1 - longest :]}"
