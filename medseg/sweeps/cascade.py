"""A cascade from one command: cross-validated at low resolution, then at full resolution on its unseen predictions."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.runtime.atomic import write_whole
from medseg.runtime.console import show
from medseg.sweeps.runs import FOLD

_LOG = logging.getLogger(__name__)

LOW, FULL = "low_resolution", "full_resolution"
"""Folders of the two cross-validations, in that of the command."""
_MULTIRUN = ("-m", "--multirun")
_COARSER = 2.0
"""Factor of the spacing where a cascade is asked for and the plan sees no need of one."""

Command = Callable[[Callable[[DictConfig], object]], None]
"""Runs the command of ``sys.argv`` with a task."""


def wanted(words: Sequence[str]) -> bool:
    """Whether the words of a command ask for a cascade."""
    return _value(words, "cascade") not in ("false", "null", "")


@dataclass
class _Course:
    """What the first look at the data decides.

    Attributes:
        folder: Of the whole command.
        spacing: Of the first stage; None where one network is enough.
    """

    folder: Path | None = None
    spacing: tuple[float, ...] | None = None


def run(words: Sequence[str], command: Command, train: Callable[[DictConfig], object]) -> None:
    """Train both stages of a cascade, or one network where the plan sees no need of two.

    The same command goes on after an interruption: folds that are finished, and predictions by the same networks, are
    not repeated.

    Args:
        words: Of the command, without its name.
        command: Runs the command of ``sys.argv`` with a task.
        train: The task of a training.
    """
    shared, course = _without(words, "cascade"), _Course()
    swept = {word for word, _ in _swept(shared)}
    single = [word for word in shared if word not in _MULTIRUN and word not in swept]
    _as_command(command, single, lambda cfg: _look(cfg, words, course))
    if course.spacing is None:
        _as_command(command, shared, train)
        return
    low, full = f"{course.folder}/{LOW}", f"{course.folder}/{FULL}"
    spacing = ",".join(f"{value:.6g}" for value in course.spacing)
    coarse = [*_without(shared, "run_dir", "plan.spacing"), f"plan.spacing=[{spacing}]", f"run_dir={low}"]
    _as_command(command, coarse, train)
    _as_command(command, single, lambda cfg: predict_unseen(Path(low), cfg))
    _as_command(command, [*_without(shared, "run_dir"), f"first_stage={low}", f"run_dir={full}"], train)
    show(_LOG, f"Next: medseg-select runs=[{low},{full}] output={course.folder}/selection")


def _without(words: Sequence[str], *keys: str) -> list[str]:
    """Words of a command but those that set certain keys; ``-m`` first, as Hydra takes no words before and after it."""
    others = [word for word in words if word.lstrip("+").partition("=")[0] not in keys]
    return sorted(others, key=lambda word: word not in _MULTIRUN)


def _value(words: Sequence[str], key: str) -> str:
    """What the words of a command set a key to; empty if nothing."""
    pairs = [word.lstrip("+").partition("=") for word in words]
    return next((value.lower() for name, _, value in reversed(pairs) if name == key), "")


def _as_command(command: Command, words: Sequence[str], task: Callable[[DictConfig], object]) -> None:
    sys.argv[1:] = list(words)
    command(task)


def _look(cfg: DictConfig, words: Sequence[str], course: _Course) -> None:
    """Decide, before any training, whether there are two stages, and where they lie.

    Raises:
        InputError: A word that a cascade does not take, folds that leave cases without a prediction, or images.
    """
    from medseg.factory.dataset import build_dataset
    from medseg.factory.plan import build_plan, low_resolution

    asked = _value(words, "cascade")
    if asked not in ("true", "auto"):
        raise InputError(f"cascade={asked}: choose true, false or auto")
    folds = _folds(words)
    if cfg.plan.file is not None:
        raise InputError("cascade: plans the spacing of its first stage itself; leave out plan.file")
    if cfg.get("first_stage"):
        raise InputError("cascade: makes its first stage itself; leave out first_stage")
    if cfg.split.get("blocks"):
        raise InputError("cascade: predicts whole files, and split.blocks cuts them; leave one of them out")
    source = build_dataset(cfg)
    train = _check_all_predicted(cfg, source, folds)
    course.folder = Path(str(cfg.run_dir))
    course.spacing = low_resolution(cfg, source, train)
    if course.spacing is None and asked == "true":
        course.spacing = tuple(_COARSER * value for value in build_plan(cfg, source, train).spacing)
    if course.spacing is None:
        show(_LOG, "No cascade: a patch at full resolution sees enough of a case (cascade=true makes one all the same)")
    else:
        shown = " x ".join(f"{value:.3g}" for value in course.spacing)
        show(_LOG, f"Cascade: first at a spacing of {shown} ({course.folder}/{LOW}), then at full resolution")


def _folds(words: Sequence[str]) -> list[str]:
    """The folds that a command sweeps over.

    Raises:
        InputError: No sweep, or one over anything else.
    """
    swept = [override for _, override in _swept(words)]
    keys = [str(override.key_or_group) for override in swept]
    if keys != [FOLD] or {*_MULTIRUN}.isdisjoint(words):
        got = f"got a sweep over {', '.join(keys)}" if keys else "got no sweep"
        raise InputError(
            "cascade: the second network learns from predictions of cases that the first has not seen, which takes all "
            f"folds; {got}, expected -m {FOLD}=0,1,2,3,4"
        )
    return [str(value) for value in swept[0].sweep_string_iterator()]


def _swept(words: Sequence[str]) -> list[tuple[str, Override]]:
    """Words of a command that sweep over values, with what they say."""
    parser = OverridesParser.create()
    overrides = []
    for word in words:
        if "=" in word and not word.startswith("-"):
            with suppress(HydraException):  # a word that Hydra refuses with its own message
                overrides.append((word, parser.parse_override(word)))
    return [(word, override) for word, override in overrides if override.is_sweep_override()]


def _check_all_predicted(cfg: DictConfig, source: Any, folds: Sequence[str]) -> list[Any]:
    """The training cases of the first fold.

    Raises:
        InputError: Cases that no fold validates on, which would have no prediction.
    """
    from medseg.data.case import first_five
    from medseg.factory import split

    parts = []
    for fold in folds:
        settings: Any = OmegaConf.merge(cfg.split, {"fold": int(fold) if fold.isdigit() else fold})
        parts.append(split.labelled_halves(settings, source))
    every = {case.id for train, val in parts for case in (*train, *val)}
    predicted = {case.id for _, val in parts for case in val}
    if lacking := sorted(every - predicted):
        raise InputError(
            f"cascade: {len(lacking)} cases validate in none of the folds {', '.join(folds)} ({first_five(lacking)}): "
            "no network could predict them unseen; sweep all folds of the split"
        )
    return list(parts[0][0])


def predict_unseen(folder: Path, cfg: DictConfig) -> Path:
    """Predict each case by the network of a cross-validation that did not see it.

    Args:
        folder: Of the cross-validation.
        cfg: ``conf/train.yaml``, composed: its data, ``judged``, ``trust`` and device are used.

    Returns:
        The folder of label files.

    Raises:
        InputError: Runs without a checkpoint, or cases that the data does not hold.
    """
    from medseg import checkpoint
    from medseg.data.datasets.second_stage import prediction_file
    from medseg.factory import split
    from medseg.factory.dataset import build_dataset
    from medseg.factory.first_stage import OUT_OF_FOLD
    from medseg.prediction import restore
    from medseg.prediction.checkpoints import runs_of
    from medseg.runtime.device import device_of
    from medseg.runtime.progress import watched

    target = folder / OUT_OF_FOLD
    target.mkdir(parents=True, exist_ok=True)
    cases = {case.id: case for case in split.labelled(cfg.split, build_dataset(cfg))}
    for run_dir in runs_of(folder):
        network = checkpoint.read(run_dir / "checkpoints" / f"{cfg.judged}.ckpt")
        unseen = [str(case) for case in network.metadata.provenance["data"]["val"]]
        left = _left(target, unseen, network.digest)
        if not left:
            continue
        predictor = restore.predictor(network, device=device_of(cfg.trainer.accelerator), trust=cfg.trust)
        for name in watched(left, f"predicting unseen cases of {run_dir.name}"):
            case = cases[name]
            settings: Any = {"groups": case.image_groups, "facts": case.facts, "absent": case.absent}
            predictor.case(case.images, prediction_file(target, name), **settings)
    return target


def _left(folder: Path, cases: Sequence[str], digest: str) -> list[str]:
    """Cases that this network has not predicted yet; predictions by another network are removed."""
    from medseg.data.datasets.second_stage import prediction_file

    record = folder / "networks.json"
    networks: dict[str, str] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    for case in cases:
        if networks.get(case) != digest:
            prediction_file(folder, case).unlink(missing_ok=True)
    write_whole(record, json.dumps(networks | dict.fromkeys(cases, digest), indent=1) + "\n")
    return [case for case in cases if not prediction_file(folder, case).is_file()]
