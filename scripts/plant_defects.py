"""Plant defects one at a time in a copy of the source, and tell which ones the tests notice.

python scripts/plant_defects.py [--only NAME ...] [--list] [--output FILE] [--sound] [--limit 180]

The tables are in defects_*.py. The tests that guard them run unchanged first; what fails there is no guard, and ends
the command. Every run of tests is a fork of this process, which has imported the libraries but not medseg. Only the
copy in a temporary folder is changed, so a command that is killed leaves nothing. Exit code 1 if fewer than 95 % are
noticed, 2 if the tables or the tests do not fit the source. FILE (JSON) is written after each defect.
"""

import argparse
import gc
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from defects import Defect

ROOT = Path(__file__).parents[1]
TABLES = sorted(path.stem for path in Path(__file__).parent.glob("defects_*.py"))
DEFECTS: tuple[Defect, ...] = tuple(chain.from_iterable(importlib.import_module(name).TABLE for name in TABLES))
LEAST = 0.95
"""Share of the defects that the tests have to notice."""
NOTICED = ("noticed", "crashed")
LIBRARIES = (
    "torch", "lightning.pytorch", "monai.networks.nets", "monai.losses", "monai.metrics", "timm", "transformers",
    "segmentation_models_pytorch", "torchgeo.models", "torchgeo.datasets", "peft", "torchmetrics", "wandb", "hydra",
    "omegaconf", "rasterio", "pyogrio", "shapely", "pyproj", "nibabel", "SimpleITK", "pydicom", "blosc2",
    "scipy.ndimage", "skimage", "matplotlib.pyplot", "PIL.Image", "safetensors.torch", "rich", "hypothesis",
    "beartype", "jaxtyping",
)  # fmt: skip
"""What medseg and its tests import, loaded once."""
ADVANCE = 1000
"""Seconds between the times of the changed files, so that no compiled module of another one is taken for theirs."""


@dataclass(frozen=True)
class Outcome:
    """What the tests made of one defect.

    Attributes:
        name: Of the defect.
        result: ``noticed``, ``crashed`` (a signal ended pytest), ``hung`` (over the limit of time), ``not noticed``, or
            ``tests could not run``.
        seconds: That it took.
        first: The first test that failed, or what pytest said last.
    """

    name: str
    result: str
    seconds: float
    first: str


def problems(table: Sequence[Defect], root: Path) -> list[str]:
    """What makes a table useless for a source: places that are not there once, names twice, tests that are gone."""
    names = [defect.name for defect in table]
    found = [f"{name}: named twice" for name in sorted({name for name in names if names.count(name) > 1})]
    for defect in table:
        path = root / defect.file
        times = path.read_text(encoding="utf-8").count(defect.old) if path.is_file() else 0
        if times != 1:
            found.append(f"{defect.name}: its text occurs {times} times in {defect.file}, expected once")
        for test in defect.tests:
            file, _, rest = test.partition("::")
            function = f"def {rest.rpartition('::')[2].partition('[')[0]}("
            if not (root / file).is_file() or (rest and function not in (root / file).read_text(encoding="utf-8")):
                found.append(f"{defect.name}: there is no test {test}")
    return found


def copied(root: Path, target: Path) -> Path:
    """The files that git knows, as they are in the working tree."""
    names = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    return target


def run_tests(tests: Iterable[str], copy: Path, limit: float, *more: str) -> tuple[int | None, str]:
    """Run tests in a fork; the exit code of pytest (None: over the limit), and what it printed.

    Args:
        tests: As pytest names them.
        copy: Folder of the source.
        limit: Seconds that they may take.
        more: Options of pytest.
    """
    log = copy.parent / "log"
    log.touch()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _run_here([*more, *tests], copy, log)
    deadline = time.monotonic() + limit
    with suppress(PermissionError, ProcessLookupError):  # the fork does so too; whoever is first
        os.setpgid(pid, pid)
    try:
        while not (ended := _has_ended(pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what tests have started, too
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if ended else None, log.read_text(errors="replace")


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _run_here(words: list[str], copy: Path, log: Path) -> None:
    """In the fork: pytest on the copy, whose packages come first."""
    code = 70
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with suppress(PermissionError):
            os.setpgid(0, 0)
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115  until the end
        os.chdir(copy)
        sys.path[:] = [str(copy), *(path for path in sys.path if path != str(Path(__file__).parent))]
        os.environ |= {"PYTHONPATH": str(copy), "TMPDIR": str(copy.parent)}
        tempfile.tempdir = None
        import pytest

        basis = copy.parent / "pytest"
        plugins = [word for name in ("cacheprovider", "xdist", "anyio") for word in ("-p", f"no:{name}")]
        usual = ["-q", *plugins, f"--basetemp={basis}", "-W", "ignore:Module already imported"]
        code = int(pytest.main([*usual, *words]))
    except BaseException as error:
        print(repr(error))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def pass_unchanged(table: Sequence[Defect], copy: Path, limit: float) -> bool:
    """Whether all tests of a table pass on the copy as it is; prints what pytest says."""
    tests = list(dict.fromkeys(test for defect in table for test in defect.tests))
    code, said = run_tests(tests, copy, 3 * limit)
    print(f"unchanged: {len(tests)} files and tests: {said.strip().splitlines()[-1:] or code}", flush=True)
    if code != 0:
        print(said[-4000:], file=sys.stderr)
    return code == 0


def plant(defect: Defect, number: int, copy: Path, limit: float) -> Outcome:
    """Plant one defect, run its tests and take it out again."""
    path = copy / defect.file
    sound, stat = path.read_text(encoding="utf-8"), path.stat()
    began = time.monotonic()
    try:
        path.write_text(sound.replace(defect.old, defect.new))
        changed = stat.st_mtime + ADVANCE * (number + 1)
        os.utime(path, (changed, changed))
        code, said = run_tests(defect.tests, copy, limit, "-x")
    finally:
        path.write_text(sound)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    crashed = code is not None and code < 0
    result = {0: "not noticed", 1: "noticed", None: "hung"}.get(code, "crashed" if crashed else "tests could not run")
    return Outcome(defect.name, result, round(time.monotonic() - began, 1), first_line(said))


def first_line(said: str) -> str:
    """The first test that failed by pytest's summary; without one, its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return (failed or lines[-1:] or [""])[0][:200]


def load() -> None:
    """Import the libraries; not medseg, which every fork imports anew."""
    os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true", "MPLBACKEND": "Agg"}
    for library in ("pytest", "pytest_timeout", *LIBRARIES):
        with suppress(ImportError):
            importlib.import_module(library)
    sys.modules["torch"].set_num_threads(1)
    gc.freeze()  # what is loaded is not looked through in every fork
    if any(name.partition(".")[0] == "medseg" for name in sys.modules):
        sys.exit("medseg is imported already: forks would not see what is planted")


def show(outcomes: Sequence[Outcome]) -> float:
    """Print the summary; the share that was noticed."""
    counts = {result: sum(o.result == result for o in outcomes) for result in dict.fromkeys(o.result for o in outcomes)}
    share = sum(o.result in NOTICED for o in outcomes) / max(1, len(outcomes))
    print(f"\n{len(outcomes)} defects: {', '.join(f'{n} {result}' for result, n in counts.items())} ({share:.1%})")
    for outcome in outcomes:
        if outcome.result not in NOTICED:
            print(f"{outcome.result}: {outcome.name}: {outcome.first}")
    return share


def chosen(only: Sequence[str]) -> list[Defect]:
    """The defects of these names; all without any."""
    if unknown := sorted(set(only) - {defect.name for defect in DEFECTS}):
        sys.exit(f"there is no defect {', '.join(unknown)}; --list names all")
    return [defect for defect in DEFECTS if not only or defect.name in only]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these defects instead of all")
    parser.add_argument("--list", action="store_true", help="print the tables and end")
    parser.add_argument("--output", type=Path, help="JSON file of the outcomes")
    parser.add_argument("--sound", action="store_true", help="do not run the tests unchanged first")
    parser.add_argument("--limit", type=float, default=180, help="seconds that the tests of one defect may take")
    given = parser.parse_args(words)
    table = chosen(given.only)
    if given.list:
        for defect in table:
            print(f"{defect.name:34} {defect.file:36} {defect.claim}")
        return 0
    if found := problems(table, ROOT):
        print("\n".join(found), file=sys.stderr)
        return 2
    load()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # which removes the copy
    with tempfile.TemporaryDirectory(prefix="defects-") as folder:
        copy = copied(ROOT, Path(folder) / "source")
        if not given.sound and not pass_unchanged(table, copy, given.limit):
            return 2
        outcomes: list[Outcome] = []
        for number, defect in enumerate(table):
            outcomes.append(plant(defect, number, copy, given.limit))
            last = outcomes[-1]
            print(f"{last.result:20} {last.seconds:6.1f} s  {last.name:34} {last.first[:90]}", flush=True)
            if given.output:
                write(given.output, outcomes)
    gc.unfreeze()  # libraries complain of what is left at the end
    share, spent = show(outcomes), os.times()
    print(f"{(spent.children_user + spent.children_system) / 60:.1f} minutes of CPU time in tests")
    return int(share < LEAST)


def write(path: Path, outcomes: Sequence[Outcome]) -> None:
    """The outcomes so far, as JSON."""
    share = sum(o.result in NOTICED for o in outcomes) / len(outcomes)
    content: dict[str, Any] = {"share": share, "outcomes": [asdict(outcome) for outcome in outcomes]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
