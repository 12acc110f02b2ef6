"""medseg-plan: fingerprint and plan of a dataset, as an editable file that explains each decision."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from medseg.hydra_app import app as command


def main() -> None:
    """The console script."""
    command.run("plan", write)


def write(cfg: DictConfig) -> Path:
    """Write the plan of ``cfg.data`` to ``cfg.output``.

    Raises:
        BadInput: Anything in the configuration or the data that the user can mend.
    """
    command.leave_out_labels(cfg)
    OmegaConf.resolve(cfg)
    from rich.console import Console

    from medseg.runtime import verbosity as quiet

    quiet.settle()
    from medseg.factory import run as build
    from medseg.factory import split as folds
    from medseg.factory.settings import check_parts, check_values
    from medseg.planning.plan import write_plan

    check_values(cfg)
    source = build.dataset(cfg)
    check_parts(cfg, source.spec, build.transform, labelled=True)
    train_cases, val_cases = folds.labelled_halves(cfg, source)
    target = Path(cfg.output)
    planned = build.plan(cfg, source, train_cases, val_cases)
    write_plan(target, build.fit_patch(cfg.model, planned, source.spec, cfg.get("series")))
    console = Console(highlight=False)
    console.print(target.read_text(encoding="utf-8"), markup=False)
    console.print(f"Written to {target}. Next: medseg-train data=... plan.file={target}", soft_wrap=True)
    return target
