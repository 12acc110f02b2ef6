"""Kill trainings, predictions and evaluations, give the same command again, and compare with runs left alone.

python scripts/kill_tests.py [--kills 50] [--seed 0] [--only train,volumes,scenes,evaluate,disk] [--folder FOLDER]

Each command runs once without interruption, on cases that the package draws, on one core. Then it is ended again and
again, by SIGKILL at random and at chosen moments (a case is drawn or prepared, a checkpoint is half-written, between
two checkpoints, while it judges) or by SIGTERM, and repeated (a training with ckpt_path=last). The repeated command
must exit with 0, give the same tensors, scores and label files, and leave no drafts. Half of the kills are of
trainings.
At the end, commands write into full and read-only disks (disk_tests.py).

Commands are forks of this process, which has imported what they need: the start of each takes no time.
Prints a table; exits with 1 if anything differed. What failed keeps its folder.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from disk_tests import disks
from forked_commands import VOLUMES, Tally, drafts, ended, evaluation, load, prediction, run, settled, start


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
        elif name.name == "predictions.json":
            if _without_databases(pair[0]) != _without_databases(pair[1]):
                found.append(f"{name} differs")
        elif name.suffix != ".html" and not filecmp.cmp(*pair, shallow=False):
            found.append(f"{name} differs")
    return found


def _without_databases(record: Path) -> Any:
    """What a prediction wrote down, without the digests of GeoPackages, which hold the time of their writing."""
    held = json.loads(record.read_text(encoding="utf-8"))
    for case in held["cases"].values():
        case["outputs"].get("polygons", {}).pop("sha256", None)
    return held


def other_tensors(one: Path, two: Path) -> list[str]:
    """What differs between the checkpoints and scores of two runs."""
    import torch

    found = []
    for name in ("last", "best"):
        states = [torch.load(d / f"checkpoints/{name}.ckpt", weights_only=True) for d in (one, two)]
        parts = [s["state_dict"] | {"step": torch.tensor(s["global_step"])} for s in states]
        if set(parts[0]) != set(parts[1]) or any(not torch.equal(v, parts[1][k]) for k, v in parts[0].items()):
            found.append(f"{name}.ckpt differs")
    scores = [json.loads((d / "metrics.json").read_text(encoding="utf-8")) for d in (one, two)]
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
    for number in range(3 * kills):  # some end before they are killed
        if tally.kills == kills:
            break
        own = folder / f"{kind}{number}"
        own.mkdir()
        settings = [*words, f"output={own}/out"]
        code = kill(command, settings, own / "log", signal.SIGKILL, after(rng.uniform(0.02, 0.7) * whole))
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
    print(f"{own.name}: {how}: {'; '.join(told) or 'as left alone'}", flush=True)
    if told:
        tally.failures.append(f"{own}: {how}: {'; '.join(told)}")
    else:
        tally.equal += 1
        shutil.rmtree(own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="train,volumes,scenes,evaluate,disk")
    parser.add_argument("--folder", type=Path, help="where everything is written; a temporary folder if not given")
    asked = parser.parse_args()
    load()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="kill_tests_"))
    folder.mkdir(parents=True, exist_ok=True)
    rng, only = random.Random(asked.seed), asked.only.split(",")
    few = max(1, asked.kills // 6)
    parts: dict[str, Callable[[], Tally]] = {
        "train": lambda: trainings(folder, max(1, asked.kills - 3 * few), rng),
        "volumes": lambda: outputs(folder, "volumes", "predict", prediction(folder, "volumes"), few, rng),
        "scenes": lambda: outputs(folder, "scenes", "predict", prediction(folder, "scenes"), few, rng),
        "evaluate": lambda: outputs(folder, "evaluate", "evaluate", evaluation(folder), few, rng),
        "disk": lambda: disks(folder, prediction(folder, "volumes"), evaluation(folder)),
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
