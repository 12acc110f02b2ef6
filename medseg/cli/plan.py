"""medseg-plan: fingerprint and plan of a dataset, as an editable file that explains each decision."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from medseg.hydra_app import app
from medseg.hydra_app.checks import leave_out_labels
from medseg.runtime.console import show
from medseg.runtime.verbosity import quiet_libraries

_LOG = logging.getLogger(__name__)


def main() -> None:
    """The console script."""
    app.run("plan", write)


@quiet_libraries()
def write(cfg: DictConfig) -> Path:
    """Write the plan of ``cfg.data`` to ``cfg.output``.

    Raises:
        InputError: Anything in the configuration or the data that the user can fix.
    """
    leave_out_labels(cfg)
    OmegaConf.resolve(cfg)
    from medseg.factory import split
    from medseg.factory.dataset import build_dataset
    from medseg.factory.network import fit_patch
    from medseg.factory.plan import build_plan
    from medseg.factory.settings import check_parts, check_values
    from medseg.factory.transform import build_transform
    from medseg.planning.plan import write_plan

    check_values(cfg)
    source = build_dataset(cfg)
    check_parts(cfg, source.spec, build_transform, labelled=True)
    train_cases, val_cases = split.labelled_halves(cfg.split, source)
    target = Path(cfg.output)
    planned = build_plan(cfg, source, train_cases, val_cases)
    write_plan(target, fit_patch(cfg.model, planned, source.spec, cfg.get("temporal")))
    show(_LOG, target.read_text(encoding="utf-8"))
    show(_LOG, f"Written to {target}. Next: medseg-train data=... plan.file={target}")
    return target
