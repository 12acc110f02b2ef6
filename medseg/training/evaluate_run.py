"""The final scores of a run again: from its folder and the data, without a training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.runtime.console import show
from medseg.runtime.run_lock import locked
from medseg.runtime.verbosity import quiet_libraries
from medseg.training.rerun import check_targets
from medseg.training.results import score_line
from medseg.training.run_directory import VALIDATION
from medseg.training.stored_config import read_config
from medseg.training.sweep_job import was_fold

if TYPE_CHECKING:
    from medseg.evaluation.grouping import Grouping

_LOG = logging.getLogger(__name__)
_OWN = (
    "run", "checkpoint", "output", "overwrite", "benchmark", "data", "device", "trust", "without", "table", "table_key",
    "by", "hydra",
)  # fmt: skip
"""Keys of the command that hold for a run; the others are for label files."""
_WRITTEN = ("metrics.json", "cases.csv", "report.html")


@quiet_libraries()
def evaluate_run(cfg: DictConfig) -> dict[str, Any]:
    """Score a checkpoint of the run ``cfg.run`` on whole cases, as the end of its training does.

    Dataset, split and metrics are those of ``config.yaml`` in its folder; nothing that a file names is imported unless
    it is medseg's own, or trusted. The files equal those of the training if the data do.

    Args:
        cfg: ``conf/evaluate.yaml``, composed.

    Returns:
        The content of ``metrics.json``.

    Raises:
        InputError: No such run or checkpoint, one that does not segment, data that are not there or that are split
            otherwise than those of the training, keys for label files, or scores that exist already.
    """
    _check_keys(cfg)
    folder, without = Path(cfg.run), tuple(map(str, cfg.without))
    config = stored_configuration(folder, cfg)
    groups = _grouping(config, cfg)
    output = Path(cfg.output) if cfg.output else folder / f"without_{'_'.join(without)}" if without else folder
    fold = was_fold(folder) and not without
    _check_output(output, overwrite=cfg.overwrite, fold=fold)
    if cfg.benchmark is not None:
        from medseg.report import benchmark_table

        benchmark_table.check(Path(cfg.benchmark), config.metric.metrics)
    which = cfg.checkpoint or config.get("judged") or "best"
    file = _checkpoint(folder, which)
    from medseg import checkpoint
    from medseg.prediction import restore
    from medseg.runtime.cpu import keep_large_blocks
    from medseg.runtime.device import device_of

    device = device_of(cfg.device)
    if device == "cpu":
        keep_large_blocks()
    loaded = checkpoint.read(file)
    predictor = restore.predictor(loaded, device=device, trust=cfg.trust)
    source, val = _cases(config, loaded.metadata, folder)
    from medseg.training.final_scores import Scored

    output.mkdir(parents=True, exist_ok=True)
    with locked(output):
        scored = Scored(predictor, loaded.metadata, which, source, val, fold, without, groups)
        result, _ = scored.write(config, output, folder.resolve().name)
    show(_LOG, score_line(result))
    show(_LOG, f"Written: {', '.join(str(output / name) for name in _WRITTEN)}")
    if cfg.benchmark is not None:
        _add_to_benchmark(Path(cfg.benchmark), config, result, loaded.metadata.provenance["data"])
    return result


def _add_to_benchmark(path: Path, config: DictConfig, result: dict[str, Any], cases: Any) -> None:
    """Add the row of the run to a table of torchgeo-bench's columns."""
    from medseg.report.benchmark_table import append, row

    plain: Any = OmegaConf.to_container(config, resolve=True)
    append(path, row(plain, result, cases))
    show(_LOG, f"One row added to {path}")


def stored_configuration(folder: Path, cfg: DictConfig) -> DictConfig:
    """The configuration that a run stored, with the place of the data that the command names.

    Args:
        folder: Of the run.
        cfg: ``conf/evaluate.yaml``, composed.

    Raises:
        InputError: It is no run, or names classes that are neither medseg's own nor trusted.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise InputError(f"run={folder}: has no config.yaml; expected the folder of a run")
    stored = read_config(file, "restore it, or score label files by predictions= and labels=")
    check_targets(stored, str(file), cfg.trust)
    config = OmegaConf.create(stored)
    if cfg.data.root is not None:
        if "root" not in config.data:
            raise InputError(f"data.root={cfg.data.root}: the data of {file} have no root; leave it out")
        config.data.root = cfg.data.root
    return config


def _grouping(config: DictConfig, cfg: DictConfig) -> Grouping | None:
    """What the scores are split by: ``by`` and the table of the command, else those of the training."""
    from medseg.evaluation.grouping import grouping
    from medseg.evaluation.groups import columns_of

    by = columns_of(cfg) or columns_of(config)
    if cfg.table is not None:
        return grouping(cfg.table, cfg.table_key, by)
    return grouping(config.data.get("table"), config.data.get("table_key"), by)


def _check_keys(cfg: DictConfig) -> None:
    """Raise on keys that are for label files: the settings of a run are those of its training."""
    from medseg.hydra_app.conf import composed

    defaults = composed("evaluate", [])
    for key in map(str, cfg):
        if key not in _OWN and cfg[key] != defaults[key]:
            raise InputError(
                f"{key}={cfg[key]}: is for label files, and run={cfg.run} is scored as its training would; leave it out"
            )


def _check_output(output: Path, *, overwrite: bool, fold: bool) -> None:
    names = [*_WRITTEN, *([VALIDATION] if fold else [])]
    present = [name for name in names if (output / name).exists()]
    if present and not overwrite:
        raise InputError(
            f"{output}: {', '.join(present)} exist already; overwrite=true replaces them, output=DIR writes elsewhere"
        )


def _checkpoint(folder: Path, which: str) -> Path:
    if which not in ("best", "last"):
        raise InputError(f"checkpoint={which}: choose best or last, a checkpoint of the run")
    file = folder / "checkpoints" / f"{which}.ckpt"
    if not file.is_file():
        others = sorted(path.stem for path in file.parent.glob("*.ckpt"))
        hint = f"checkpoint={others[0]} scores the one that it has" if others else "train it first"
        raise InputError(f"run={folder}: has no checkpoints/{which}.ckpt; {hint}")
    return file


def _cases(config: DictConfig, metadata: Any, folder: Path) -> tuple[Any, list[Any]]:
    """Dataset and validation cases, which have to be those of the training."""
    from medseg.factory.dataset import build_dataset
    from medseg.factory.split import labelled_halves

    source = build_dataset(config)
    if source.spec.of_cells.to_dict() != metadata.spec.of_files.of_cells.to_dict():
        raise InputError(
            f"run={folder}: the data have other channels or classes than those of the training; give its own by "
            "data.root=DIR"
        )
    _, val = labelled_halves(config.split, source)
    before, now = set(metadata.provenance["data"]["val"]), {case.id for case in val}
    if before != now:
        other = sorted(before ^ now)
        raise InputError(
            f"run={folder}: the data are split otherwise than in the training ({len(other)} validation cases differ, "
            f"such as {other[0]}); give the data of the training by data.root=DIR"
        )
    return source, val
