"""What each loss brings on real data next to Dice and cross-entropy: the same network, steps, patches and seeds.

    python scripts/bench_loss_trainings.py --root DIR --done FILE [--sets hippocampus retina ...] [--steps 300]
        [--seeds 0] [--ways NAME ...] [--table]

DIR has the data sets in the folders that SETS names. The ways are the options of ``conf/loss``, and, added to Dice and
cross-entropy, the terms that are part of none. Those that read features of the encoder are for the set
``burned_area_encoder``, whose network declares them; elsewhere their row is the reason of the refusal. FILE holds a
line of JSON for each training that is done; a command that was stopped goes on after them. Prints the table of each
set: the score at the last step on the validation cases, its difference to ``dice_ce`` paired by case (mean over seeds
and classes) with Student's interval, further scores, and the calibration error of probabilities before a temperature is
fitted. --table prints the tables of what is done and trains nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bench_published import by_case, shown

LOSSES = Path(__file__).parents[1] / "conf" / "loss"
CONTROL = "dice_ce"


@dataclass(frozen=True)
class Set:
    """A data set.

    Attributes:
        folder: Below the root.
        words: Settings of every training.
        score: What losses are compared by.
        further: Other scores, in the metric's names.
    """

    folder: str
    words: tuple[str, ...]
    score: str
    further: tuple[str, ...]


TOPOLOGY = ("betti_error", "betti_matching_error")
SETS = {
    "hippocampus": Set(
        "hippocampus", ("experiment=hippocampus", "split.n_labelled=20", "plan.batch_size=2"), "dice", ("nsd", "hd95"),
    ),
    "retina": Set("retina_drive", ("experiment=retina",), "dice", TOPOLOGY),
    "membranes": Set("em_isbi2012", ("experiment=membranes",), "dice", TOPOLOGY),
    "burned_area": Set("s2_burned_area_california", ("experiment=burned_area_few",), "iou", ("boundary_iou",)),
    "burned_area_encoder": Set(
        "s2_burned_area_california", ("experiment=burned_area_few", "model=encoder_decoder"), "iou", ("boundary_iou",),
    ),
}  # fmt: skip


def ways() -> dict[str, str]:
    """The word that chooses each loss: an option, or a term next to Dice and cross-entropy."""
    options = {path.stem: f"loss={path.stem}" for path in sorted(LOSSES.glob("*.yaml"))}
    used = {term for option in options for term in terms_of(option)}
    alone = [path.stem for path in sorted(LOSSES.glob("term/*.yaml")) if path.stem not in used]
    return {CONTROL: options.pop(CONTROL)} | options | {t: f"loss/term=[dice,cross_entropy,{t}]" for t in alone}


def terms_of(option: str) -> list[str]:
    """Terms that an option adds up."""
    entries = yaml.safe_load((LOSSES / f"{option}.yaml").read_text(encoding="utf-8")).get("defaults", [])
    return [term for entry in entries if isinstance(entry, dict) for term in entry.get("term", [])]


def trained(words: list[str], data: Set, run_dir: Path) -> dict[str, Any]:
    """One training in a process of its own; what a loss refuses is a row as well, with the reason."""
    began = time.monotonic()
    command = [sys.executable, "-c", "from medseg.cli.train import main; main()", *words, f"run_dir={run_dir}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.startswith("error:")] or [done.stderr[-500:]]
        return {"refused": reason[-1]}
    result = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    summary = result["summary"]
    names = [name for name in (data.score, *data.further) if name in summary or f"{name}_mm" in summary]
    return {
        "scores": {name: summary.get(name, summary.get(f"{name}_mm"))["mean"] for name in names},
        "cases": by_case(result, data.score),
        "ece": result.get("calibration", {}).get("ece", {}).get("before"),
        "seconds": round(time.monotonic() - began),
    }


def words_of(data: Set, way: str, asked: argparse.Namespace, cache: str) -> list[str]:
    """Settings of a training but its seed."""
    metrics = ",".join(dict.fromkeys((data.score, *(name for name in data.further))))
    return [
        *data.words, ways()[way], f"metric.metrics=[{metrics}]", f"data.root={asked.root / data.folder}", "judged=last",
        f"trainer.max_steps={asked.steps}", f"trainer.steps_per_epoch={asked.steps}", "trainer.max_time=null",
        "logger=csv", "callback.progress=null", f"cache_dir={cache}",
    ]  # fmt: skip


def table(name: str, rows: list[dict[str, Any]], steps: int) -> None:
    """Print what is done of a set."""
    data = SETS[name]
    done = [row for row in rows if row["set"] == name and row["steps"] == steps]
    control = {row["seed"]: row for row in done if row["way"] == CONTROL}
    print(f"\n{name}, {steps} steps, seeds {sorted(control)}\n")
    print(f"| loss | {data.score} | less {CONTROL} | {' | '.join(data.further)} | calibration error |")
    print("|---" * (4 + len(data.further)) + "|")
    for way in ways():
        own = [row for row in done if row["way"] == way and row["seed"] in control]
        fine = [row for row in own if "scores" in row]
        if not fine:
            print("".join(f"| {way} | {row['refused']} |\n" for row in own[:1]), end="")
            continue
        cases = sorted(control[fine[0]["seed"]]["cases"])
        apart = [
            float(np.mean([row["cases"][case] - control[row["seed"]]["cases"][case] for row in fine]))
            for case in cases
            if all(case in row["cases"] for row in fine)
        ]
        means = [np.mean([row["scores"][key] for row in fine]) for key in (data.score, *data.further)]
        errors = [row["ece"] for row in fine if row["ece"] is not None]
        cells = [f"{value:.3f}" for value in means] + [f"{np.mean(errors):.4f}" if errors else ""]
        cells.insert(1, "" if way == CONTROL else shown(apart))
        print("| " + " | ".join([way, *cells]) + " |")


def main() -> None:
    """Read the arguments, run every training that is not done, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--done", type=Path, required=True, help="file of lines of trainings that were done before")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--ways", nargs="+", choices=list(ways()), default=list(ways()), metavar="WAY")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings of every training")
    parser.add_argument("--table", action="store_true", help="print the tables, train nothing")
    asked = parser.parse_args()
    rows = [json.loads(line) for line in asked.done.read_text("utf-8").splitlines()] if asked.done.exists() else []
    done = {(row["set"], row["way"], row["seed"], row["steps"]) for row in rows}
    jobs = [(name, way, seed, asked.steps) for seed in asked.seeds for name in asked.sets for way in asked.ways]
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, way, seed, steps) in enumerate(job for job in jobs if job not in done and not asked.table):
            words = [*words_of(SETS[name], way, asked, f"{scratch}/cache"), *asked.overrides, f"seed={seed}"]
            row = {"set": name, "way": way, "seed": seed, "steps": steps}
            row |= trained(words, SETS[name], Path(scratch) / str(number))
            if way == CONTROL and "refused" in row:
                raise SystemExit(row["refused"])
            rows.append(row)
            with asked.done.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    for name in asked.sets:
        table(name, rows, asked.steps)


if __name__ == "__main__":
    main()
