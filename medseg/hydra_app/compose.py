"""Configurations, composed from ``conf/`` and overrides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from medseg.errors import InputError
from medseg.hydra_app.conf import composed, conf_dirs
from medseg.hydra_app.current import with_current_classes
from medseg.hydra_app.explain import explain
from medseg.hydra_app.groups import check_groups
from medseg.hydra_app.overrides import with_open_mappings
from medseg.hydra_app.retired import check_retired


def compose(config_name: str, overrides: Sequence[str], *, config_dir: str | Path | None = None) -> DictConfig:
    """Compose ``conf/<config_name>.yaml`` outside of a command, as in a notebook.

    Args:
        config_name: Without ``.yaml``.
        overrides: As on the command line.
        config_dir: Folder with further options, as ``--config-dir`` takes it.

    Raises:
        InputError: In one line, what a command would print.
    """
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise InputError(
                f"config_dir={config_dir}: no such folder; expected one with options such as data/mine.yaml"
            )
        overrides = [f"hydra.searchpath=['file://{Path(config_dir).resolve()}']", *overrides]
    folders = [*conf_dirs(), *([Path(config_dir)] if config_dir is not None else [])]
    check_groups(overrides, folders, config_name)
    try:
        words = with_open_mappings(overrides, folders, partial(composed, config_name))
        cfg = with_current_classes(composed(config_name, words))
        check_retired(cfg, folders[1:])
        return cfg
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error, config_name, overrides)) from error
