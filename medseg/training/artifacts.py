"""The files of a run folder, next to checkpoints and scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg.runtime.atomic import write_whole
from medseg.training import tracking

if TYPE_CHECKING:
    from medseg.factory.run import Run


def keep_weights_report(run: Run, resumed: Path) -> None:
    """Keep the report of the initial weights: a resumed training loads none, and takes it from the checkpoint."""
    from medseg import checkpoint

    report = checkpoint.read(resumed).metadata.provenance.get("weights")
    if report is not None:
        run.method.metadata = run.method.metadata.with_weights(report)


def write_run_files(run: Run, run_dir: Path) -> None:
    """Configuration, provenance, plan and weights report, before the first step; loggers get theirs."""
    from medseg.planning.plan import write_plan

    config = dict(run.method.metadata.config)
    write_whole(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    manifest = tracking.manifest(run)
    files = {case: digest for part in ("train", "val") for case, digest in manifest[part].items()}
    for name in run.datamodule.streams:
        files |= {f"{name}/{case}": digest for case, digest in manifest[f"streams.{name}"].items()}
    metadata = run.method.metadata.with_data({"name": manifest["name"], "digest": manifest["digest"], "files": files})
    run.method.metadata = metadata
    provenance = {**metadata.provenance, "config": config}
    write_whole(run_dir / "provenance.json", json.dumps(provenance, indent=1) + "\n")
    write_plan(run_dir / "plan.yaml", run.plan)
    if run.report is not None:
        write_whole(run_dir / "weights.txt", run.report.table(full=True) + "\n")
    tracking.begin(run)


def save_adapters(cfg: DictConfig, run: Run, run_dir: Path) -> None:
    """If the encoder is frozen, write what was learned to ``checkpoints/adapters.safetensors``."""
    from medseg.finetuning import adapters
    from medseg.prediction import restore

    tuning: Any = run.method.tuning
    if tuning is not None and tuning.keeps:
        predictor = restore.predictor(
            run_dir / "checkpoints" / f"{cfg.judged}.ckpt", device="cpu", trust=trusted_names(cfg)
        )
        adapters.save(predictor.network, run_dir / "checkpoints" / "adapters.safetensors")


def trusted_names(cfg: DictConfig) -> tuple[str, ...]:
    """What the run's own checkpoint may name: the classes that its configuration named, and trusted modules."""
    from medseg.factory import trust
    from medseg.factory.schemes import named_schemes

    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return (*trust.names(cfg.get("trust") or ()), *trust.targets(config), *named_schemes(cfg))
