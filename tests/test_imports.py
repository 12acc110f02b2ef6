"""The import rule of the house, read from every import statement."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "medseg"

ALLOWED = {
    "_version": set(),
    "errors": set(),
    "geometry": {"errors"},
    "runtime": {"errors"},
    "facts": {"errors", "runtime"},
    "engine": {"_version", "errors", "runtime"},
    "hydra_app": {"errors", "runtime"},
    "labels": {"errors", "runtime"},
    "formats": {"errors", "geometry", "labels", "runtime"},
    "topology": {"errors"},
    "losses": {"errors", "labels", "topology"},
    "metrics": {"errors", "labels", "runtime", "topology"},
    "sample": {"errors", "facts", "geometry", "labels", "runtime"},
    "viz": {"geometry", "labels", "sensors"},
    "inference": {"errors", "facts", "geometry", "labels", "runtime", "sample"},
    "loggers": {"errors", "runtime", "viz"},
    "methods": {"checkpoint", "errors", "labels", "losses", "sample", "transforms"},
    "report": {"errors", "metrics", "runtime"},
    "sensors": {"errors", "sample"},
    "transforms": {"errors", "geometry", "labels", "sample"},
    "weights": {"errors", "runtime", "sample", "sensors"},
    "callbacks": {"errors", "geometry", "loggers", "methods", "runtime", "sample", "viz"},
    "data": {"engine", "errors", "facts", "formats", "geometry", "labels", "runtime", "sample", "sensors"},
    "models": {"errors", "facts", "sample", "sensors", "weights"},
    "evaluation": {
        "_version",
        "data",
        "engine",
        "errors",
        "factory",
        "formats",
        "geometry",
        "hydra_app",
        "labels",
        "metrics",
        "report",
        "runtime",
        "viz",
    },
    "finetuning": {"errors", "models", "runtime"},
    "planning": {"data", "errors", "labels", "runtime", "sample", "weights"},
    "checkpoint": {"_version", "errors", "planning", "runtime", "sample"},
    "doctor": {
        "data",
        "errors",
        "formats",
        "geometry",
        "labels",
        "planning",
        "report",
        "runtime",
        "sample",
        "sensors",
        "viz",
    },
    "factory": {
        "callbacks",
        "checkpoint",
        "data",
        "doctor",
        "engine",
        "errors",
        "finetuning",
        "hydra_app",
        "inference",
        "labels",
        "loggers",
        "losses",
        "methods",
        "metrics",
        "models",
        "planning",
        "runtime",
        "sample",
        "transforms",
        "weights",
    },
    "prediction": {
        "_version",
        "checkpoint",
        "data",
        "engine",
        "errors",
        "facts",
        "factory",
        "formats",
        "geometry",
        "inference",
        "labels",
        "runtime",
        "sample",
        "weights",
    },
    "export": {
        "_version",
        "checkpoint",
        "data",
        "errors",
        "facts",
        "formats",
        "geometry",
        "inference",
        "labels",
        "prediction",
        "runtime",
        "sample",
        "sensors",
        "weights",
    },
    "training": {
        "callbacks",
        "checkpoint",
        "data",
        "errors",
        "evaluation",
        "factory",
        "finetuning",
        "geometry",
        "hydra_app",
        "inference",
        "labels",
        "loggers",
        "methods",
        "metrics",
        "planning",
        "prediction",
        "report",
        "runtime",
        "sample",
        "viz",
    },
    "sweeps": {
        "callbacks",
        "checkpoint",
        "data",
        "errors",
        "factory",
        "hydra_app",
        "labels",
        "metrics",
        "prediction",
        "report",
        "runtime",
        "training",
    },
    "selection": {
        "checkpoint",
        "data",
        "errors",
        "factory",
        "geometry",
        "inference",
        "labels",
        "metrics",
        "prediction",
        "runtime",
        "sample",
        "sweeps",
        "training",
    },
    "cli": {
        "data",
        "doctor",
        "errors",
        "evaluation",
        "export",
        "factory",
        "hydra_app",
        "planning",
        "prediction",
        "runtime",
        "selection",
        "sweeps",
        "training",
    },
}
"""The rooms of the package, from those that import nothing, and the rooms that each one imports."""


def room_of(path: Path) -> str:
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


@pytest.mark.parametrize("room", sorted({room_of(path) for path in FILES} - {"__init__"}))
def test_a_room_imports_exactly_what_the_table_says(room: str) -> None:
    found = {other: path for path in FILES if room_of(path) == room for other in imported(path)}
    others = {other: path for other, path in found.items() if other not in (room, "__version__")}
    more = {other: str(path) for other, path in others.items() if other not in ALLOWED[room]}
    assert not more, f"{room} imports {more}; import from lower rooms, or argue for another line of ALLOWED"
    assert not ALLOWED[room] - others.keys(), f"{room} imports no {ALLOWED[room] - others.keys()} any more: tighten"


def test_rooms_import_no_circle() -> None:
    waiting = {room: set(others) for room, others in ALLOWED.items()}
    while free := [room for room, others in waiting.items() if not others & waiting.keys()]:
        for room in free:
            del waiting[room]
    assert not waiting, f"a circle among {sorted(waiting)}"


def test_no_module_is_named_like_the_standard_library() -> None:
    names = {p.stem for p in FILES if p.parent == PACKAGE} | {
        p.parent.name for p in FILES if p.parent.parent == PACKAGE
    }
    assert not names & set(sys.stdlib_module_names)
    assert not {p.stem for p in FILES} & {"utils", "common", "helpers", "base", "misc", "core"}


@pytest.mark.parametrize(
    "module",
    [f"cli.{c}" for c in ("train", "predict", "evaluate", "plan", "check", "prepare", "select", "export")]
    + ["hydra_app.app"],
)
def test_commands_do_not_import_torch_before_they_run(module: str) -> None:
    code = f"import sys, medseg.{module}; print([m for m in ('torch', 'lightning', 'monai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_prediction_imports_neither_lightning_nor_pandas() -> None:
    """Which take 270 and 100 MB and five seconds of the start of each worker; nothing of them is needed there."""
    loaded = "[m for m in ('lightning', 'pandas') if m in sys.modules]"
    code = f"import sys, medseg.prediction.jobs, medseg.prediction.checkpoints; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_optional_libraries_are_imported_where_they_are_used_only(path: Path) -> None:
    """A training with logger=csv, and engine=local, import none of them."""
    optional = {"wandb", "tensorboard", "mlflow", "dask", "distributed", "dask_jobqueue"}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not optional & {name.partition(".")[0] for name in names}
