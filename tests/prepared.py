"""Scripts that prepare published datasets, run in this process."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

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
    """Run ``scripts/prepare_<dataset>.py``; raises ``SystemExit`` where it exits with an error."""
    script(f"prepare_{dataset}").main([str(source), str(target), *more])
