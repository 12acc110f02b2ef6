"""The import rule of the house, read from every import statement."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "medseg"

CONTRACT = {"errors", "labels", "geometry", "sample"}
ALLOWED = {
    "errors": set(),
    "runtime": {"errors"},
    "values": {"errors"},
    "integrity": {"errors"},
    "labels": {"errors", "values"},
    "files": {"runtime"},
    "wavelengths": set(),
    "watching": set(),
    "cpu": set(),
    "device": {"errors", "cpu"},
    "quiet": set(),
    "options": {"errors"},
    "space": {"errors"},
    "ranges": {"errors"},
    "overrides": set(),
    "local_paths": {"errors"},
    "command": {"errors", "options", "ranges", "overrides", "local_paths", "runtime"},
    "geometry": {"errors", "labels"},
    "sample": {"errors", "labels", "geometry", "values"},
    "formats": {"errors", "cpu", "labels", "geometry"},
    "weights": {"errors", "integrity", "labels", "sample"},
    "models": {"errors", "labels", "sample", "wavelengths", "weights"},
    "peft": {"errors", "models", "weights"},
    "losses": {"errors", "labels", "sample"},
    "metrics": {"errors", "files", "labels", "sample"},
    "transforms": CONTRACT,
    "inference": CONTRACT,
    "data": CONTRACT | {"cpu", "files", "formats", "runtime", "transforms", "wavelengths"},
    "planning": CONTRACT
    | {"files", "formats", "transforms", "data", "values", "watching"},  # the fingerprint crops as preprocessing does
    "methods": {"errors", "labels", "losses", "sample"},  # the mean of a loss over ranks
    "callbacks": CONTRACT
    | {
        "files",
        "formats",
        "metrics",
        "methods",
        "report",
        "runtime",
        "watching",
    },  # the method's budget; previews are drawn
    "report": CONTRACT | {"files", "formats", "metrics"},
    "prediction_record": {"errors", "files", "data"},
    "prediction_targets": {"errors", "formats", "data"},
    "prediction_jobs": {"errors", "formats", "data", "inference", "prediction_record", "watching"},
    "doctor": CONTRACT | {"files", "formats", "data", "planning", "report", "watching"},
}
COMMANDS = {
    "build",
    "settings",
    "instances",
    "laterality",
    "networks",
    "trainers",
    "initial",
    "folds",
    "restore",
    "stored",
    "trust",
    "scenes",
    "checkpoint",
    "judge",
    "evaluation",
    "comparison",
    "tracking",
    "training",
    "processes",
    "sweep",
    "announcement",
    "train",
    "predict",
    "evaluate",
    "plan",
    "check",
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Parts of medseg that a file imports, inside functions too; under TYPE_CHECKING as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return {name.split(".")[1] for name in found if name.startswith("medseg.")}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_file_imports_only_what_its_part_may(path: Path) -> None:
    part = part_of(path)
    others = imported(path) - {part} - {"__version__"}
    if part in COMMANDS:
        return
    if part == "__init__":
        assert others <= {"restore", "command", "errors", "inference"}, "load() alone may reach into the package"
        return
    assert others <= ALLOWED[part], f"{path} imports {others - ALLOWED[part]}"


def test_every_part_is_covered_by_the_rule() -> None:
    assert {part_of(p) for p in FILES} - {"__init__", "conf"} == set(ALLOWED) | COMMANDS


def test_no_module_is_named_like_the_standard_library() -> None:
    names = {p.stem for p in FILES if p.parent == PACKAGE} | {
        p.parent.name for p in FILES if p.parent.parent == PACKAGE
    }
    assert not names & set(sys.stdlib_module_names)
    assert not {p.stem for p in FILES} & {"utils", "common", "helpers", "base", "misc", "core"}


@pytest.mark.parametrize("module", ["train", "predict", "evaluate", "plan", "check", "command"])
def test_commands_do_not_import_torch_before_they_run(module: str) -> None:
    code = f"import sys, medseg.{module}; print([m for m in ('torch', 'lightning', 'monai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_trackers_are_imported_where_they_are_used_only(path: Path) -> None:
    """A training with logger=csv imports none of them, and works without the optional ones."""
    optional = {"wandb", "tensorboard", "mlflow"}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not optional & {name.partition(".")[0] for name in names}
