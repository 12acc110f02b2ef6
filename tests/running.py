"""The configuration of a command that is being run, with Hydra's own part."""

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from medseg.hydra_app.conf import conf_dir


def running(monkeypatch: pytest.MonkeyPatch, *words: str) -> DictConfig:
    """The configuration of ``medseg-train``; for the rest of the test it is that of the running command."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = hydra.compose("train", list(words), return_hydra_config=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    HydraConfig.instance().set_config(cfg)
    return cfg
