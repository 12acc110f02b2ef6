"""A modality that a third of the training cases lacks: take these cases with what they have, or leave them out.

python scripts/bench_missing.py --root BRATS2013_CROPS --work DIR [--steps 300] [--seeds 0 1 2] [--folds 3] [--ways ...]

ROOT has the crops of BraTS 2013, ``imagesTr/NAME_0000.nii.gz`` (FLAIR), ``NAME_0001.nii.gz`` (T1c) and ``labelsTr``.
Of each fold, cases are held out complete; from a third of the others one modality is withheld, each modality in turn.
Ways: ``complete`` trains on all cases before anything is withheld (the upper bound); ``left_out`` on those that lack
nothing; ``allow`` takes all by ``data.absent=allow`` with ``transform.channel_drop``; ``presence`` also lets the
network see which channels there are. All have the same steps, patches and network. Scores are the mean Dice of whole
tumour, core and enhancing tumour of the held-out cases, with both modalities and with either taken away
(``medseg-evaluate run=RUN without=[T1c]``), averaged over folds and withheld modalities, and the difference to
``left_out``, paired by seed, with Student's interval. Scores are kept in DIR/scores, so that the same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from medseg.hydra_app.compose import compose
from medseg.metrics.differences import paired
from medseg.training.evaluate_run import evaluate_run
from medseg.training.train import train

CHANNELS = ("FLAIR", "T1c")
WAYS = ("complete", "left_out", "allow", "presence")
HIDDEN: tuple[tuple[str, ...], ...] = ((), ("FLAIR",), ("T1c",))
"""What is taken away at the test."""
SETTINGS = (
    "data=volumes", "data.images=imagesTr", "data.label_folder=labelsTr", "data.channels=[FLAIR,T1c]",
    "data.labels={background: 0, whole: [1, 2, 3, 4], core: [1, 3, 4], enhancing: 4}",
    "data.regions_class_order=[2, 1, 4]", "plan.patch=[32,32,32]", "plan.batch_size=2", "model=unet",
    "model.base_features=8", "trainer.steps_per_epoch=50", "metric=overlap", "judged=last", "logger=csv",
    "callback={}", "test=false", "temperature_scaling=false",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        way: One of ``WAYS``.
        fold: Number of the fold.
        withheld: Modality that a third of the training cases lacks; empty where that makes no difference.
        seed: Of the training.
    """

    way: str
    fold: int
    withheld: str
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return "-".join(filter(None, [self.way, str(self.fold), self.withheld, str(self.seed)]))


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    """Every training, seed by seed."""
    for seed in args.seeds:
        for way in args.ways:
            for fold in range(args.folds):
                for withheld in CHANNELS if way in ("allow", "presence") else ("",):
                    yield Job(way, fold, withheld, seed)


def cases_of(root: Path) -> list[str]:
    """Names of the cases."""
    return sorted(path.name.removesuffix(".nii.gz") for path in (root / "labelsTr").glob("*.nii.gz"))


def make(root: Path, target: Path, job: Job, folds: int) -> list[str]:
    """Links to the files that a training may see; names of the cases that are held out."""
    cases = cases_of(root)
    held = [case for number, case in enumerate(cases) if number % folds == job.fold]
    others = [case for case in cases if case not in held]
    lacking = others[: max(1, round(len(others) / 3))]
    used = [case for case in cases if not (job.way == "left_out" and case in lacking)]
    for folder in ("imagesTr", "labelsTr"):
        (target / folder).mkdir(parents=True)
    for case in used:
        os.symlink(root / f"labelsTr/{case}.nii.gz", target / f"labelsTr/{case}.nii.gz")
        for number, channel in enumerate(CHANNELS):
            if not (case in lacking and channel == job.withheld):
                name = f"imagesTr/{case}_{number:04d}.nii.gz"
                os.symlink(root / name, target / name)
    return held


def scores(job: Job, args: argparse.Namespace) -> list[float]:
    """Scores of a training with each of ``HIDDEN`` taken away; those of an earlier command are read."""
    path = args.work / f"scores/{job.name}-{args.steps}-{args.folds}.json"
    if path.exists():
        return list(json.loads(path.read_text(encoding="utf-8")))
    folder = args.work / f"runs/{job.name}"
    shutil.rmtree(folder, ignore_errors=True)
    held = make(args.root.resolve(), folder / "data", job, args.folds)
    words = [*SETTINGS, f"data.root={folder}/data", f"cache_dir={args.work}/cache", f"run_dir={folder}/run"]
    words += [f"seed={job.seed}", f"trainer.max_steps={args.steps}", f"split.val_cases=[{','.join(held)}]"]
    if job.way in ("allow", "presence"):
        words += ["data.absent=allow", f"transform.channel_drop.p={args.drop}", f"presence={job.way == 'presence'}"]
    with redirect_stdout(StringIO()):
        train(compose("train", words))
        values = [score(folder, hidden) for hidden in HIDDEN]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")
    shutil.rmtree(folder)
    return values


def score(folder: Path, hidden: Sequence[str]) -> float:
    """Mean Dice of the held-out cases without some modalities."""
    output = folder / f"scores_{'_'.join(hidden)}"
    words = [f"run={folder}/run", "checkpoint=last", f"output={output}", f"without=[{','.join(hidden)}]"]
    return float(evaluate_run(compose("evaluate", words))["summary"]["dice"]["mean"])


def row(way: str, by_seed: np.ndarray, control: np.ndarray | None) -> str:
    """A line of the table: means over seeds, and paired differences to the control."""
    cells = [f"{value:.3f}" for value in by_seed.mean(0)]
    if control is None or way == "left_out":
        return f"| {way} | {' | '.join(cells)} |" + " |" * len(HIDDEN)
    apart = [difference(values) for values in (by_seed - control).T]
    return f"| {way} | {' | '.join(cells)} | {' | '.join(apart)} |"


def difference(values: np.ndarray) -> str:
    """Mean with Student's interval."""
    mean, interval = paired(values.tolist())
    return f"{mean:+.3f}" + (f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else "")


def main() -> None:
    """Train, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--drop", type=float, default=0.3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    args = parser.parse_args()
    found: dict[str, dict[int, list[list[float]]]] = {way: {} for way in args.ways}
    for job in jobs(args):
        found[job.way].setdefault(job.seed, []).append(scores(job, args))
    means = {way: np.array([np.mean(runs, axis=0) for runs in seeds.values()]) for way, seeds in found.items()}
    shown = ["both", *(f"without {hidden[0]}" for hidden in HIDDEN[1:])]
    print(f"Mean Dice after {args.steps} steps, mean of seeds {args.seeds} and {args.folds} folds\n")
    print(f"| training cases | {' | '.join(shown)} | {' | '.join(f'{name}, less left_out' for name in shown)} |")
    print("|---" * (1 + 2 * len(HIDDEN)) + "|")
    for way, by_seed in means.items():
        print(row(way, by_seed, means.get("left_out")))


if __name__ == "__main__":
    main()
