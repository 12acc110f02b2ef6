"""An ensemble of folds, and what was selected, against each fold alone: paired on test cases that none has seen.

python scripts/bench_ensemble.py FOLDS [--selection selection.yaml] [--metric dice] [--root DIR]
python scripts/bench_ensemble.py --phantom 30

FOLDS is the folder of a cross-validation whose runs had a test set (``split.test_cases``, or that of the dataset). With
``--phantom``, two folds of so many steps are trained on the drawn volumes. Each run has scored the test cases at its
end (``metrics.json``); here these networks predict them together, with ``--selection`` also those of a
selection with its mirrors and post-processing. A difference is the mean over test cases of the score (mean over
classes) less that of the fold; its interval is Student's, over cases.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import OmegaConf

from medseg import checkpoint
from medseg.factory import split
from medseg.factory.dataset import build_dataset
from medseg.factory.instantiate import instantiate
from medseg.metrics.differences import paired
from medseg.metrics.score import WHOLE_CASE
from medseg.prediction import restore
from medseg.prediction.checkpoints import find_checkpoints, runs_of
from medseg.training.final_scores import evaluate_predictor


def by_case(rows: list[dict[str, Any]], metric: str) -> dict[str, float]:
    """Mean over the classes of each case, those without a value left out."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["class"] != WHOLE_CASE and row.get(metric) is not None:
            values.setdefault(row["case"], []).append(row[metric])
    return {case: float(np.mean(v)) for case, v in values.items()}


def judged(run: Path) -> Path:
    """The checkpoint that a run scored at its end."""
    name = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")).get("judged", "best")
    return run / "checkpoints" / f"{name}.ckpt"


def scored(named: Path | list[Path], metric: str, root: str | None) -> tuple[dict[str, float], float]:
    """Score of each test case by what ``checkpoint=named`` predicts, and the seconds that all took."""
    config: Any = OmegaConf.create(dict(checkpoint.read(find_checkpoints(named).paths[0]).metadata.config))
    if root is not None:
        config.data.root = root
    dataset = build_dataset(config)
    predictor, scores = restore.predictor(named), instantiate(config.metric)(labels=dataset.spec.labels)
    began = time.monotonic()
    evaluate_predictor(predictor.arrays, split.judged(config.split, dataset), dataset.open, scores, shown=0)
    return by_case(scores.result()["cases"], metric), time.monotonic() - began


def shown(mean: float, interval: list[float] | None) -> str:
    """A difference with its interval."""
    return f"{mean:+.4f}" + (f" [{interval[0]:+.4f}, {interval[1]:+.4f}]" if interval else "")


def phantom(folder: Path, steps: int) -> Path:
    """A cross-validation of two folds on the drawn volumes."""
    words = ["split.fold=0,1", "split.n_folds=2", "split.most_cases=2", f"trainer.max_steps={steps}", "logger=csv"]
    command = [sys.executable, "-c", "from medseg.cli.train import main; main()", "-m", "experiment=phantom"]
    subprocess.run([*command, *words, f"run_dir={folder}"], check=True, stdout=subprocess.DEVNULL)
    return folder


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folds", type=Path, nargs="?")
    parser.add_argument("--phantom", type=int)
    parser.add_argument("--selection", type=Path)
    parser.add_argument("--metric", default="dice")
    parser.add_argument("--root")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.phantom:
            args.folds = phantom(Path(folder) / "folds", args.phantom)
        elif args.folds is None:
            parser.error("name the folder of a cross-validation, or --phantom STEPS")
        report(args)


def report(args: argparse.Namespace) -> None:
    """Predict the test cases, and print the table."""
    together = {"ensemble": scored([judged(run) for run in runs_of(args.folds)], args.metric, args.root)}
    if args.selection:
        together["selection"] = scored(args.selection, args.metric, args.root)
    folds = {}
    for run in runs_of(args.folds):
        result = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        folds[run.name] = by_case(result["cases"], args.metric)
    names = list(together)
    n = len(next(iter(folds.values())))
    print(f"{args.metric} of {n} test cases, mean over classes\n")
    print("| | mean |" + "".join(f" {name} less this |" for name in names))
    print("|---|---|" + "---|" * len(names))
    for name, own in folds.items():
        cells = []
        for scores, _ in together.values():
            cells.append(shown(*paired([scores[case] - own[case] for case in sorted(own)])))
        print(f"| fold {name} | {np.mean(list(own.values())):.4f} | " + " | ".join(cells) + " |")
    for name, (scores, seconds) in together.items():
        print(f"| {name}, {seconds:.0f} s | {np.mean(list(scores.values())):.4f} |" + " |" * len(names))


if __name__ == "__main__":
    main()
