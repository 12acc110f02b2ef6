"""Engines: who works on the cases of a command."""

from __future__ import annotations

from omegaconf import DictConfig

from medseg.engine.engine import Engine
from medseg.engine.local import LocalEngine
from medseg.factory.instantiate import instantiate


def build_engine(settings: DictConfig | None) -> Engine:
    """An engine that was seen to be able to work.

    Args:
        settings: ``cfg.engine``; None, as in configurations of earlier versions, works in this process.

    Raises:
        InputError: Unknown settings, a package that is missing, or a cluster that does not answer.
    """
    engine: Engine = LocalEngine() if settings is None else instantiate(settings, _convert_="all")
    engine.check()
    return engine
