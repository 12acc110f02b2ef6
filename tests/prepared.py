"""Scripts as modules, and medseg-prepare run in this process."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from medseg.cli.prepare import prepare as run_prepare

SCRIPTS = Path(__file__).parents[1] / "scripts"


def script(name: str) -> ModuleType:
    """``scripts/<name>.py`` as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def prepare(dataset: str, source: Path, target: Path, *more: str) -> None:
    """Run ``medseg-prepare``; raises ``InputError`` for bad input."""
    assert run_prepare([dataset, str(source), str(target), *more]) == 0
