"""What methods for few labels bring on real data next to their control: equal steps, labels, split, patches and seeds.

    python scripts/bench_regimes.py --root DIR --done FILE [--sets hippocampus burned_area] [--steps 300]
        [--seeds 0 1 2] [--methods NAME ...] [--overrides KEY=VALUE ...] [--table]

DIR has the data sets in the folders that SETS names. The trainings are ``experiment=regimes/SET``, the control, and
``experiment=regimes/SET_METHOD``. FILE holds a line of JSON for each training that is done; a command that was stopped
goes on after them. Prints for each set the score at the last step on the validation cases, its difference to the
control, paired by case (mean over seeds and classes) and by seed, with Student's intervals, and over the last third of
the steps the mean share of cells that count (``train/confident``) or are disputed (``train/disagreement``). Trainings
with --overrides are rows of their own. --table prints the tables of what is done and trains nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench_loss_trainings import Set, trained
from bench_published import shown

EXPERIMENTS = Path(__file__).parents[1] / "conf" / "experiment" / "regimes"
CONTROL = "control"
SETS = {
    "hippocampus": Set("hippocampus", (), "dice", ("nsd",)),
    "burned_area": Set("s2_burned_area_california", (), "iou", ("boundary_iou",)),
}
SHARES = ("train/confident", "train/disagreement")


def methods(name: str) -> dict[str, str]:
    """The experiment of each method for a set, the control first."""
    paths = sorted(EXPERIMENTS.glob(f"{name}_*.yaml"))
    return {CONTROL: f"regimes/{name}"} | {path.stem.removeprefix(f"{name}_"): f"regimes/{path.stem}" for path in paths}


def shares(path: Path, steps: int) -> dict[str, float]:
    """Mean of each share over the last third of the steps, from ``metrics.csv``."""
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) >= steps * 2 // 3]
    series = {name: [float(row[name]) for row in rows if row.get(name)] for name in SHARES}
    return {name: float(np.mean(values)) for name, values in series.items() if values}


def run(name: str, method: str, seed: int, asked: argparse.Namespace, cache: str) -> dict[str, Any]:
    """One training; what it scored, and its shares."""
    data = SETS[name]
    words = [
        f"experiment={methods(name)[method]}", f"metric.metrics=[{','.join((data.score, *data.further))}]",
        f"data.root={asked.root / data.folder}", f"trainer.max_steps={asked.steps}",
        f"trainer.steps_per_epoch={asked.steps}", f"seed={seed}", "trainer.max_time=null", "logger=csv",
        "callback.progress=null", f"cache_dir={cache}", *asked.overrides,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        outcome = trained(words, data, Path(folder) / "run")
        log = Path(folder) / "run" / "metrics.csv"
        return outcome | {"shares": shares(log, asked.steps) if log.is_file() else {}}


def table(name: str, rows: list[dict[str, Any]], steps: int) -> None:
    """Print what is done of a set."""
    done = [row for row in rows if row["set"] == name and row["steps"] == steps]
    control = {row["seed"]: row for row in done if row["method"] == CONTROL and not row["overrides"]}
    print(f"\n{name}, {steps} steps, seeds {sorted(control)}\n")
    columns = (SETS[name].score, "less control, by case", "by seed", *SETS[name].further, "share", "s")
    print(f"| method | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for method, overrides in dict.fromkeys((row["method"], tuple(row["overrides"])) for row in done):
        own = [row for row in done if (row["method"], tuple(row["overrides"])) == (method, overrides)]
        title = " ".join((method, *overrides))
        fine = [row for row in own if "scores" in row and row["seed"] in control]
        if not fine:
            print("".join(f"| {title} | {row['refused']} |\n" for row in own[:1] if "refused" in row), end="")
            continue
        print(f"| {' | '.join([title, *cells(fine, control, name)])} |")


def cells(fine: list[dict[str, Any]], control: dict[int, dict[str, Any]], name: str) -> list[str]:
    """The columns of a method."""
    apart = np.array(
        [[row["cases"][case] - control[row["seed"]]["cases"][case] for case in row["cases"]] for row in fine]
    )
    scores = [f"{np.mean([row['scores'][key] for row in fine]):.3f}" for key in (SETS[name].score, *SETS[name].further)]
    means = {key: np.mean([row["shares"][key] for row in fine]) for key in fine[0]["shares"]}
    share = ", ".join(f"{key.removeprefix('train/')} {mean:.2f}" for key, mean in means.items())
    same = fine[0] is control[fine[0]["seed"]]
    differences = ["", ""] if same else [shown(list(apart.mean(0))), shown(list(apart.mean(1)))]
    return [scores[0], *differences, *scores[1:], share, f"{np.median([row['seconds'] for row in fine]):.0f}"]


def main() -> None:
    """Read the arguments, run every training that is not done, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--done", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--methods", nargs="+", metavar="NAME")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--overrides", nargs="*", default=[])
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    rows = [json.loads(line) for line in asked.done.read_text().splitlines()] if asked.done.is_file() else []
    jobs = [
        (name, method, seed)
        for seed in asked.seeds
        for name in asked.sets
        for method in methods(name)
        if not asked.methods or method in asked.methods
    ]
    with tempfile.TemporaryDirectory() as cache:
        for name, method, seed in () if asked.table else jobs:
            row = {
                "set": name, "method": method, "seed": seed, "steps": asked.steps, "overrides": asked.overrides,
            }  # fmt: skip
            if any(row.items() <= done.items() for done in rows):
                continue
            rows.append(row | run(name, method, seed, asked, cache))
            with asked.done.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    for name in asked.sets:
        table(name, rows, asked.steps)


if __name__ == "__main__":
    main()
