"""Kill trainings, predictions and evaluations, give the same command again, and compare with runs left alone.

python scripts/kill_tests.py [--kills 50] [--seed 0] [--only train,volumes,scenes,evaluate,disk] [--folder FOLDER]

Each command runs once without interruption, on cases that the package draws, on one core. Then it is ended again and
again, by SIGKILL at random and at chosen moments (a case is drawn or prepared, a checkpoint is half-written, between
two checkpoints, while it judges) or by SIGTERM, and repeated (a training with ckpt_path=last). The repeated command
must exit with 0, give the same tensors, scores and label files, and leave no drafts. Half of the kills are of
trainings.
At the end, commands write into small and read-only file systems, if mounting is permitted.

Commands are forks of this process, which has imported what they need: the start of each takes no time.
Prints a table; exits with 1 if anything differed. What failed keeps its folder.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMON = [
    "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.deterministic=true", "logger=csv", "metric=overlap",
    "inference.overlap=0.25", "inference.flips=false", "callbacks.previews=null", "plan.batch_size=1",
    "model.base_features=4",
]  # fmt: skip
VOLUMES = [
    "data=phantom_volumes", "data.n_cases=6", "data.n_test=3", "data.n_folds=3", "data.shape=[24,28,20]",
    "data.steps_per_epoch=3", "plan.patch=[16,16,16]", "trainer.max_steps=9", *COMMON,
]  # fmt: skip
SCENES = [
    "data=phantom_scenes", "data.n_scenes=3", "data.n_test=2", "data.n_folds=3", "data.shape=[96,128]",
    "data.steps_per_epoch=2", "plan.patch=[32,32]", "trainer.max_steps=2", "test=false", *COMMON,
]  # fmt: skip
LIMIT = 600  # seconds that a command may take


@dataclass
class Tally:
    """What became of the kills of one command."""

    kills: int = 0
    equal: int = 0
    early: int = 0
    failures: list[str] = field(default_factory=list)


def start(command: str, words: Sequence[str], log: Path) -> int:
    """Fork a process that runs ``medseg-<command>``; its number."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.argv = [f"medseg-{command}", *words]
    code = 70
    try:
        importlib.import_module(f"medseg.{command}").main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int, until: Callable[[], bool] = lambda: False) -> int | None:
    """Exit code of a process (negative: its signal), or None as soon as ``until`` holds."""
    began = time.monotonic()
    while time.monotonic() - began < LIMIT:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if until():
            return None
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -99


def run(command: str, words: Sequence[str], log: Path) -> int | None:
    return ended(start(command, words, log))


def kill(command: str, words: Sequence[str], log: Path, number: int, when: Callable[[], bool]) -> int | None:
    """Send a signal when ``when`` holds; the exit code, None if the process had ended before."""
    pid = start(command, words, log)
    if ended(pid, when) is not None:
        return None
    os.kill(pid, number)
    return ended(pid)


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def there(folder: Path, pattern: str) -> Callable[[], bool]:
    return lambda: next(folder.glob(pattern), None) is not None


def says(log: Path, words: str) -> Callable[[], bool]:
    return lambda: log.exists() and words in log.read_text(errors="replace")


def drafts(*folders: Path) -> list[str]:
    """Hidden files and folders that were left behind."""
    return [str(path) for folder in folders for path in folder.rglob(".*")]


def unequal(one: Path, two: Path) -> list[str]:
    """Files of a folder that another lacks or has with other bytes; of GeoPackages, other features."""
    found = []
    names = {p.relative_to(one) for p in one.rglob("*") if p.is_file()}
    for name in sorted(names | {p.relative_to(two) for p in two.rglob("*") if p.is_file()}):
        pair = one / name, two / name
        if not all(path.is_file() for path in pair):
            found.append(f"{name} is missing")
        elif name.suffix == ".gpkg":
            import pyogrio

            features = [pyogrio.raw.read(path) for path in pair]
            if any(list(a) != list(b) for a, b in zip(features[0][2:3], features[1][2:3], strict=True)):
                found.append(f"{name} has other features")
        elif name.suffix != ".html" and not filecmp.cmp(*pair, shallow=False):
            found.append(f"{name} differs")
    return found


def other_tensors(one: Path, two: Path) -> list[str]:
    """What differs between the checkpoints and scores of two runs."""
    import torch

    found = []
    for name in ("last", "best"):
        states = [torch.load(d / f"checkpoints/{name}.ckpt", weights_only=True) for d in (one, two)]
        parts = [s["state_dict"] | {"step": torch.tensor(s["global_step"])} for s in states]
        if set(parts[0]) != set(parts[1]) or any(not torch.equal(v, parts[1][k]) for k, v in parts[0].items()):
            found.append(f"{name}.ckpt differs")
    scores = [json.loads((d / "metrics.json").read_text()) for d in (one, two)]
    return found + (["metrics.json differs"] if scores[0] != scores[1] else [])


MOMENTS = {
    "drawing": "cache/phantom_volumes/.drawing_*",
    "preparing": "cache/store/*/.building-*",
    "within a checkpoint": "run/checkpoints/.*.ckpt.*",
    "between best and last": "run/checkpoints/best.ckpt",
    "judging": "100% step 9",
    "step 6": " step 6 ",
}
"""Moments of a training, and the file or the words of its output that appear then."""


def moment(name: str, own: Path) -> Callable[[], bool]:
    sign = MOMENTS[name]
    return there(own, sign) if "/" in sign else says(own / "log", sign)


def trainings(folder: Path, kills: int, rng: random.Random) -> Tally:
    tally, cache = Tally(), folder / "cache"
    began = time.monotonic()
    settled(folder, "train", [*VOLUMES, f"cache_dir={cache}", f"run_dir={folder}/reference"])
    whole = time.monotonic() - began
    for number in range(kills):
        own = folder / f"train{number}"
        own.mkdir()
        run_dir, log = own / "run", own / "log"
        chosen = rng.choice([*MOMENTS, "random", "random", "random", "SIGTERM", "SIGTERM"])
        fresh = chosen in ("drawing", "preparing") or rng.random() < 0.2
        words = [*VOLUMES, f"cache_dir={own / 'cache' if fresh else cache}", f"run_dir={run_dir}", "ckpt_path=last"]
        signum = signal.SIGTERM if chosen == "SIGTERM" else signal.SIGKILL
        codes = []
        for _ in range(2 if rng.random() < 0.25 else 1):
            when = moment(chosen, own) if chosen in MOMENTS else after(rng.uniform(0.05, 0.95) * whole)
            codes.append(kill("train", words, log, signum, when))
        tally.early += sum(code is None for code in codes)
        tally.kills += sum(code is not None for code in codes)
        told = [f"exit code {code}" for code in codes if signum == signal.SIGTERM and code not in (None, 0, 143)]
        code = run("train", words, log)
        told += [f"repeated: exit code {code}"] if code else other_tensors(folder / "reference", run_dir)
        noted(tally, own, f"{chosen}, {codes}", [*told, *drafts(run_dir, own / "cache" if fresh else run_dir)])
    return tally


def outputs(folder: Path, kind: str, command: str, words: Sequence[str], kills: int, rng: random.Random) -> Tally:
    """Kill a command with an ``output`` folder at random moments."""
    tally = Tally()
    began = time.monotonic()
    reference = folder / f"{kind}-reference"
    settled(folder, command, [*words, f"output={reference}"])
    whole = time.monotonic() - began
    for number in range(kills):
        own = folder / f"{kind}{number}"
        own.mkdir()
        settings = [*words, f"output={own}/out"]
        code = kill(command, settings, own / "log", signal.SIGKILL, after(rng.uniform(0.1, 1.0) * whole))
        if code is None:
            tally.early += 1
            shutil.rmtree(own)
            continue
        tally.kills += 1
        before = {p.name for p in own.glob("out/**/*") if p.is_file()}
        code = run(command, settings, own / "log")
        told = [f"repeated: exit code {code}"] if code else unequal(reference, own / "out")
        noted(tally, own, f"killed with {sorted(before)}", [*told, *drafts(own / "out")])
    return tally


def noted(tally: Tally, own: Path, how: str, told: Sequence[str]) -> None:
    if told:
        tally.failures.append(f"{own}: {how}: {'; '.join(told)}")
    else:
        tally.equal += 1
        shutil.rmtree(own)


def settled(folder: Path, command: str, words: Sequence[str]) -> None:
    """Run a command that must succeed."""
    if code := run(command, words, folder / "log"):
        sys.exit(f"medseg-{command} {shlex.join(words)} ended with {code}:\n{(folder / 'log').read_text()}")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path | None]:
    """A file system in memory; None where mounting is not permitted."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder if done.returncode == 0 else None
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def disks(folder: Path, predict: Sequence[str], evaluate: Sequence[str]) -> Tally:
    """Full and read-only disks: one line, exit code 2, and nothing half-written."""
    tally, cache = Tally(), folder / "cache"
    train = [*VOLUMES, "test=false"]
    cases: list[tuple[str, str, str, list[str]]] = [
        (f"run_dir, {options}", options, "train", [*train, f"cache_dir={cache}", "run_dir=DISK/run"])
        for options in ("size=16k", "size=100k", "size=400k", "ro")
    ]
    cases += [
        (f"cache_dir, {o}", o, "train", [*train, "cache_dir=DISK", f"run_dir={folder}/r"]) for o in ("size=300k", "ro")
    ]
    cases += [(f"predict, {o}", o, "predict", [*predict, "output=DISK/out"]) for o in ("size=4k", "ro")]
    cases += [(f"evaluate, {o}", o, "evaluate", [*evaluate, "output=DISK/out"]) for o in ("size=8k", "size=40k", "ro")]
    for name, options, command, words in cases:
        with mounted(folder / "disk", options) as disk:
            if disk is None:
                print("disk checks skipped: mounting is not permitted here")
                return tally
            tally.kills += 1
            code = run(command, [word.replace("DISK", str(disk)) for word in words], folder / "disk.log")
            lines = (folder / "disk.log").read_text().splitlines()
            told = [] if code == 2 else [f"exit code {code}"]
            told += ["a traceback"] if any("Traceback" in line for line in lines) else []
            told += [] if sum(line.startswith("error: ") for line in lines) == 1 else ["not one line"]
            told += [f"left {path}" for path in drafts(disk) if not path.endswith(".lock")]
            files = [p for p in disk.rglob("*") if p.is_file() and command == "evaluate"]
            told += [f"{len(files)} of 3 files"] if len(files) not in (0, 3) else []
            if told:
                tally.failures.append(f"{name}: {'; '.join(told)}: {lines[-1:]}")
            tally.equal += not told
        (folder / "disk").rmdir()
        shutil.rmtree(folder / "r", ignore_errors=True)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="train,volumes,scenes,evaluate,disk")
    parser.add_argument("--folder", type=Path, help="where everything is written; a temporary folder if not given")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    for module in ("announcement", "build", "evaluate", "evaluation", "judge", "predict", "restore", "scenes", "train"):
        importlib.import_module(f"medseg.{module}")
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="kill_tests_"))
    folder.mkdir(parents=True, exist_ok=True)
    rng, only, cache = random.Random(asked.seed), asked.only.split(","), f"cache_dir={folder / 'cache'}"
    for kind, words in (("volumes", VOLUMES), ("scenes", SCENES)):
        settled(folder, "train", [*words, cache, "test=false", f"run_dir={folder}/{kind}"])
    images = {
        k: next(folder.glob(f"cache/phantom_{k}/*/{d}")) for k, d in (("volumes", "imagesTs"), ("scenes", "images"))
    }
    labels = images["volumes"].parent / "labelsTs"
    predict: dict[str, list[str]] = {
        k: [f"checkpoint={folder}/{k}/checkpoints/best.ckpt", f"input={images[k]}", "device=cpu"] for k in images
    }
    predict["scenes"] += ["probabilities=true", "polygons=true"]
    settled(folder, "predict", [*predict["volumes"], f"output={folder}/predicted"])
    evaluate = [f"predictions={folder}/predicted", f"labels={labels}"]
    few = max(1, asked.kills // 6)
    parts: dict[str, Callable[[], Tally]] = {
        "train": lambda: trainings(folder, asked.kills - 3 * few, rng),
        "volumes": lambda: outputs(folder, "volumes", "predict", predict["volumes"], few, rng),
        "scenes": lambda: outputs(folder, "scenes", "predict", predict["scenes"], few, rng),
        "evaluate": lambda: outputs(folder, "evaluate", "evaluate", evaluate, few, rng),
        "disk": lambda: disks(folder, predict["volumes"], evaluate),
    }
    tallies: dict[str, Any] = {name: parts[name]() for name in only}
    print("| part | ended | as left alone | ended before the kill | failures |\n|---|---|---|---|---|")
    for name, tally in tallies.items():
        print(f"| {name} | {tally.kills} | {tally.equal} | {tally.early} | {len(tally.failures)} |")
    for tally in tallies.values():
        print(*tally.failures, sep="\n", end="\n" if tally.failures else "")
    failed = any(tally.failures for tally in tallies.values())
    if not failed and asked.folder is None:
        shutil.rmtree(folder)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
