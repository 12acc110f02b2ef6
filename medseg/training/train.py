"""medseg-train: plan if needed, preprocess, train, validate on whole cases, judge the best checkpoint."""

from __future__ import annotations

import csv
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg.errors import BadInput
from medseg.hydra_app import app as command
from medseg.runtime.atomic import write_whole
from medseg.training import tracking
from medseg.training.run_directory import command_overrides, is_first, owned, run_folder

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from medseg.factory.run import Run


def main() -> None:
    """The console script; with no argument it trains the phantom, which runs anywhere in minutes."""
    if len(sys.argv) == 1:
        sys.argv.append("experiment=phantom")
    command.run("train", start)


def start(cfg: DictConfig) -> Path:
    """Train as configured, repeat an earlier run (``rerun=RUN_DIR``), or sweep (``sweep=optuna``)."""
    if cfg.get("rerun"):
        from medseg.training import rerun

        run_dir = train(rerun.configuration(cfg, command_overrides()))
        for line in rerun.differences(Path(cfg.rerun), run_dir):
            print(f"rerun of {cfg.rerun}: {line}")  # noqa: T201  the command's voice
        return run_dir
    return train(cfg) if cfg.get("sweep") is None else sweep(cfg, command_overrides())


def sweep(cfg: DictConfig, overrides: Sequence[str]) -> Path:
    """Run the trials of ``cfg.sweep``, each a training of its own.

    Args:
        cfg: As ``overrides`` compose it.
        overrides: Of the command; what is swept comes on top.

    Returns:
        ``best.yaml`` in the folder of the sweep.

    Raises:
        BadInput: See ``Sweep``; or what does not go together with one.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from hydra.utils import get_class

    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise BadInput("sweep= is a sweep by itself; leave out -m, or leave out sweep=")
    for key in ("run_dir", "ckpt_path"):
        if any(word.partition("=")[0] == key for word in overrides):
            raise BadInput(
                f"{key} is that of each trial; leave it out (sweep.folder is where a sweep lies and goes on)"
            )
    if str(cfg.trainer.devices) not in ("1", "[0]") or cfg.trainer.get("strategy", "auto") != "auto":
        raise BadInput(f"a sweep trains on one device at a time, trainer.devices={cfg.trainer.devices} came; choose 1")
    shared = [word for word in overrides if word.lstrip("+~").split("=")[0].split(".")[0] != "sweep"]
    settings: Any = OmegaConf.to_container(cfg.sweep, resolve=True)
    made = get_class(settings.pop("_target_"))(**settings)
    made.check(shared)
    from medseg.factory.trainer import monitored

    key, mode = monitored(cfg, get_class(cfg.method._target_))
    best: Path = made.search(shared, partial(_trial, key=key, mode=mode), key=key, mode=mode, seed=cfg.seed)
    return best


def _trial(overrides: Sequence[str], tell: Callable[[int, float], None], *, key: str, mode: str) -> float:
    """Train; the score by which the checkpoint was chosen, which is the last one with ``judged=last``."""
    from medseg.callbacks.reports import Reports

    cfg = command.compose("train", [*overrides, "test=false"])
    cfg.monitor = key  # whatever the trial changes, its score is that of the others
    reports = Reports(key, tell)
    run_dir = train(cfg, [reports])
    if reports.interrupted:
        raise KeyboardInterrupt
    with (run_dir / "metrics.csv").open(encoding="utf-8") as stream:
        scores = [float(row[key]) for row in csv.DictReader(stream) if row.get(key)]
    scores = [score for score in scores if score == score]
    if not scores:
        raise BadInput(f"{run_dir}/metrics.csv has no {key}; is there a validation within the budget?")
    return scores[-1] if cfg.judged == "last" else max(scores) if mode == "max" else min(scores)


def train(cfg: DictConfig, watched_by: Sequence[Callback] = ()) -> Path:
    """Train as configured.

    Args:
        cfg: ``conf/train.yaml``, composed.
        watched_by: Callbacks besides those of the configuration.

    Returns:
        The run folder.

    Raises:
        BadInput: Anything in the configuration or the data that the user can mend.
    """
    run_dir, resumed = run_folder(cfg)
    cfg.run_dir = str(run_dir)  # before other keys take it over
    if resumed is None:
        cfg.ckpt_path = None  # so that weights to begin with are loaded
    tracking.settle(cfg)
    command.leave_out_labels(cfg)
    OmegaConf.resolve(cfg)
    if cfg.get("sweep") is not None:
        raise BadInput("sweep= is for the command, and for medseg.training.train.sweep; leave it out to train once")
    if cfg.judged not in ("best", "last"):
        raise BadInput(f"judged={cfg.judged}: choose best or last")
    with owned(run_dir, resumed):
        return _train(cfg, run_dir, resumed, watched_by)


def _train(cfg: DictConfig, run_dir: Path, resumed: Path | None, watched_by: Sequence[Callback]) -> Path:
    """Train in a folder that is this training's alone."""
    from medseg.factory.online import online
    from medseg.runtime import verbosity as quiet

    quiet.settle(tracker=online(cfg))  # before what follows is imported
    from medseg.data.store.content_hash import Digests
    from medseg.factory import run as build
    from medseg.factory import split as folds
    from medseg.runtime import distributed as processes
    from medseg.training import resume
    from medseg.training import summary as announcement
    from medseg.training.fit import fit

    if resumed and processes.handed() is None:
        resume.check(cfg, resumed, tell=is_first())
    run = build.run(cfg, run_dir)
    run.trainer.callbacks.extend(watched_by)  # type: ignore[attr-defined]
    run_dir = processes.agreed(run.trainer, run_dir)
    cfg.run_dir = str(run_dir)
    if resumed:
        _keep_account(run, resumed)
    if run.trainer.is_global_zero:
        announcement.announce(cfg, run, resumed, command_overrides())
    with processes.first_alone(run.trainer):
        run.datamodule.prepare_data()
    with tracking.tracked(), processes.handing(run.trainer, run_dir, resumed):
        if run.trainer.is_global_zero:
            parts = run.datamodule.cases
            segments = run.method.stored["segments"]  # type: ignore[index]
            test = folds.judged(cfg, run.dataset) if cfg.test and segments else []
            known = Digests(run.datamodule.store / "digests.json").memory
            for line in folds.leakage(parts["train"], parts["val"], run.dataset, test=test, digests=known):
                print(f"warning: {line}", file=sys.stderr)  # noqa: T201  the command's voice
            _leave_traces(run, run_dir)
        began = time.monotonic()
        fit(run, run_dir, resumed, command_overrides())
        spent = time.monotonic() - began
        if run.trainer.is_global_zero and not run.trainer.interrupted:
            stored: Any = run.method.stored
            _save_adapters(cfg, run, run_dir)
            result = _judge(cfg, run, run_dir) if cfg.test and stored["segments"] else None
            tracking.end(cfg, run, run_dir, result)
            _finish(run_dir, spent, segments=stored["segments"])
    return run_dir


def _keep_account(run: Run, resumed: Path) -> None:
    """Where the weights came from that a training began with, which its checkpoint tells when it is resumed."""
    from medseg import checkpoint

    stored: Any = run.method.stored
    told = checkpoint.read(resumed)["medseg"]["provenance"]
    stored["provenance"] |= {"weights": told["weights"]} if "weights" in told else {}


def _leave_traces(run: Run, run_dir: Path) -> None:
    from medseg.planning.plan import write_plan

    stored: Any = run.method.stored
    write_whole(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(stored["config"])))
    found = tracking.manifest(run)
    files = {case: digest for part in ("train", "val") for case, digest in found[part].items()}
    stored["provenance"]["data"] |= {"name": found["name"], "digest": found["digest"], "files": files}
    provenance = stored["provenance"] | {"config": stored["config"]}
    write_whole(run_dir / "provenance.json", json.dumps(provenance, indent=1) + "\n")
    write_plan(run_dir / "plan.yaml", run.plan)
    if run.report is not None:
        write_whole(run_dir / "weights.txt", run.report.table(full=True) + "\n")
    tracking.begin(run)


def _save_adapters(cfg: DictConfig, run: Run, run_dir: Path) -> None:
    """Beside a frozen encoder: what the judged checkpoint learned, alone, in ``checkpoints/adapters.safetensors``."""
    from medseg.finetuning import adapters
    from medseg.prediction import restore

    tuning: Any = getattr(run.method, "tuning", None)
    if tuning is not None and tuning.keeps:
        predictor = restore.predictor(run_dir / "checkpoints" / f"{cfg.judged}.ckpt", device="cpu", trust=_own(cfg))
        adapters.save(predictor.network, run_dir / "checkpoints" / "adapters.safetensors")


def _own(cfg: DictConfig) -> tuple[str, ...]:
    """What the run's own checkpoint may name: the classes that its configuration named, and trusted modules."""
    from medseg.factory import trust

    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return (*trust.names(cfg.get("trust") or ()), *trust.targets(config))


def _judge(cfg: DictConfig, run: Run, run_dir: Path) -> dict[str, Any]:
    from medseg import checkpoint
    from medseg.evaluation.predictor import judge
    from medseg.factory import run as build
    from medseg.factory import split as folds
    from medseg.metrics.accumulate import tables
    from medseg.prediction import restore
    from medseg.report.html import write_run_report
    from medseg.runtime.progress import watched

    chosen = run_dir / "checkpoints" / f"{cfg.judged}.ckpt"
    predictor = restore.predictor(chosen, device=run.trainer.strategy.root_device.type, trust=_own(cfg))
    test = folds.judged(cfg, run.dataset)
    cases, which = (test, folds.TEST_SET) if test else (run.datamodule.cases["val"], f"validation fold {cfg.data.fold}")
    scores = build.instantiate(cfg.metric)(labels=run.dataset.spec.labels)
    shown = judge(
        predictor, cases, run.dataset.read, scores, watch=lambda c: watched(c, f"judging {which}", so_far=scores.glance)
    )
    result = scores.result()
    result["policy"] |= {"cases": which, "checkpoint": cfg.judged, "step": str(checkpoint.read(chosen)["global_step"])}
    facts: Any = run.method.stored
    write_run_report(run_dir, result, shown, run.dataset.spec, facts, tables=tables(result))
    tracking.log_scores(run, result, shown)
    return result


def _finish(run_dir: Path, spent: float, *, segments: bool) -> None:
    from rich.console import Console

    from medseg.runtime.progress import clock

    console = Console(highlight=False)
    scored = run_dir / "metrics.json"
    if scored.exists():
        result = json.loads(scored.read_text(encoding="utf-8"))
        console.print(told(result), soft_wrap=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    best = f"{run_dir}/checkpoints/best.ckpt"
    held = "report.html, checkpoints/best.ckpt" if scored.exists() else "checkpoints/best.ckpt"
    console.print(
        f"Trained for {clock(spent)}, peak memory {peak:.1f} GiB. Everything is in {run_dir} ({held}).", soft_wrap=True
    )
    after = (
        f"medseg-predict checkpoint={best} input=DIR_OR_FILE output=predictions"
        if segments
        else f"medseg-train ... model.encoder.weights={best} (or weights={best} for all of the network)"
    )
    console.print(f"Next: {after}", soft_wrap=True)


def told(result: dict[str, Any]) -> str:
    """The score of a run in one line: its leading metric, over all and by class."""
    from medseg.metrics.summary import headline

    key = headline(result)
    if key is None:
        return "The scores are in metrics.json"
    parts = [f"{name} {c[key]['mean']:.4f}" for name, c in result["classes"].items() if c[key]["mean"] is not None]
    mean, further = result["summary"][key], result["summary"].get("miou")
    title = {"dice": "Dice", "iou": "IoU", "f1": "F1"}.get(key, key)
    more = f", mIoU {further['mean']:.4f}" if further and further["mean"] is not None else ""
    score = "none" if mean["mean"] is None else f"{mean['mean']:.4f}"
    return f"{title} {score}{more} on {mean['cases']} cases of {result['policy']['cases']} ({', '.join(parts)})"
