"""medseg-check: the data doctor; finds all problems of a dataset in one pass, before an epoch is spent on it."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.hydra_app import app
from medseg.runtime.console import show
from medseg.runtime.verbosity import quiet_libraries

if TYPE_CHECKING:
    from medseg.doctor.finding import Finding

_LOG = logging.getLogger(__name__)


def main() -> None:
    """The console script; exits with 1 if anything is wrong."""
    app.run("check", _run)


def _run(cfg: DictConfig) -> None:
    findings = check(cfg)
    from medseg.doctor.finding import wrong

    if wrong(findings):
        sys.exit(1)


@quiet_libraries()
def check(cfg: DictConfig) -> list[Finding]:
    """Examine ``cfg.data``, print the findings, and write them to ``cfg.output``.

    Returns:
        The findings, errors first.

    Raises:
        InputError: Anything in the configuration that the user can fix, or no case at all.
    """
    OmegaConf.resolve(cfg)
    output = None if cfg.output is None else Path(cfg.output)
    if cfg.fix and output is None:
        raise InputError("fix=true: the corrected copy needs a place; add output=DIR (it is written to DIR/fixed)")
    from medseg.doctor.examine import examine
    from medseg.doctor.table import show_findings, to_json
    from medseg.factory.dataset import build_dataset
    from medseg.runtime.atomic import write_whole

    if cfg.data.get("parts"):
        raise InputError("data=joined: check its parts one by one, such as by medseg-check data=nnunet data.root=DIR")
    source = build_dataset(cfg)
    wishes = {"spacing": cfg.plan.spacing, "ram_gb": cfg.ram_gb}
    labels_in = "data.labels" if "labels" in cfg.data else "dataset.json"
    survey, findings = examine(source, labels_in=labels_in, wishes=wishes, contents=not cfg.fast)
    show_findings(findings, len(survey.cases))
    if output is not None:
        write_whole(output / "check.json", json.dumps(to_json(survey, findings), indent=2) + "\n")
        files = [str(output / "check.json")]
        if not cfg.fast:
            from medseg.doctor.page import write_page

            write_page(output / "check.html", source.name, survey, findings)
            files.append(str(output / "check.html"))
        if cfg.fix:
            from medseg.doctor.fix import write_fixed

            files.append(str(write_fixed(source, survey, findings, output / "fixed")))
        show(_LOG, f"Written: {', '.join(files)}")
    return findings
