"""Partial labels: one network of cases that annotate different classes, against fewer cases and against all labels.

python scripts/bench_partial.py --root DIR --output DIR [--steps 600] [--seeds 0 1 2] [--sets brats]

DIR has the folders hippocampus and brats2013_crops. Sets: ``hippocampus`` (nnU-Net's layout, the classes anterior and
posterior), whose training cases annotate one structure each, in turns; ``brats`` (crops with four classes), of whose
training cases one annotates every class and the others some, in three folds of two validation cases. Ways, all with the
same steps, patches, network and seed:

- ``full``: every case with all its labels, the upper bound;
- ``marginal``: partial labels, ``data.annotated`` declared; ``ignore`` and ``exclusion`` are the same with
  ``loss.partial=ignore`` and ``loss=dice_ce_exclusion``;
- ``undeclared``: the same label files, read as if they annotated everything;
- ``less``: the complete cases alone; of hippocampus, where none is complete, a network for each half.

Validation cases have full labels, the same for all. Each run is a line of ``runs.jsonl`` in the output folder, and is
not repeated once it is there. Printed: mean Dice by class over validation cases, mean of seeds, and the differences to
``less`` and to ``full``, paired by seed, with Student's interval.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import nibabel
import numpy as np

from medseg.hydra_app.compose import compose
from medseg.metrics.differences import paired
from medseg.training.train import train

CLASSES = {
    "hippocampus": {"anterior": 1, "posterior": 2},
    "brats": {"necrosis": 1, "oedema": 2, "non-enhancing": 3, "enhancing": 4},
}
CHANNELS = {"hippocampus": ["MRI"], "brats": ["FLAIR", "T1c"]}
WITHHELD = (("oedema", "enhancing"), ("necrosis", "non-enhancing"), ("oedema", "necrosis"))
"""Classes of the three partial training cases of a fold of brats."""
FOLDERS = {"hippocampus": "hippocampus", "brats": "brats2013_crops"}
WAYS = ("full", "marginal", "ignore", "exclusion", "undeclared", "less")
WORDS = {
    "hippocampus": ["model=unet_small", "plan.batch_size=4", "transform.mirror.axes=[0]", "optimizer.lr=3e-3"],
    "brats": ["model=unet_small", "plan.batch_size=2", "plan.patch=[48,48,48]", "optimizer.lr=3e-3"],
}
LOSSES = {"ignore": ["loss.partial=ignore"], "exclusion": ["loss=dice_ce_exclusion"]}


@dataclass(frozen=True)
class Fold:
    """Cases of one split, and what the training cases annotate."""

    kind: str
    number: int
    annotated: Mapping[str, tuple[str, ...]]
    val: tuple[str, ...]


def ids(root: Path) -> list[str]:
    """Names of the cases."""
    return sorted(path.name.removesuffix(".nii.gz") for path in (root / "labelsTr").glob("*.nii.gz"))


def folds(kind: str, root: Path, most: int) -> Iterator[Fold]:
    """Splits of a set; of hippocampus one, with every second case of at most twice ``most`` for validation."""
    names = ids(root)
    if kind == "hippocampus":
        train_ids, val = names[: 2 * most : 2], names[1 : 2 * most : 2]
        yield Fold(kind, 0, {n: (("anterior", "posterior")[i % 2],) for i, n in enumerate(train_ids)}, tuple(val))
        return
    for number in range(3):
        val = names[2 * number : 2 * number + 2]
        first, *others = (name for name in names if name not in val)
        annotated = {first: tuple(CLASSES[kind])} | dict(zip(others, WITHHELD, strict=True))
        yield Fold(kind, number, annotated, tuple(val))


def write(root: Path, folder: Path, fold: Fold, way: str, classes: Sequence[str]) -> Path:
    """The files of a way in nnU-Net's layout; labels hold these classes alone, of training cases what they annotate."""
    values, full = CLASSES[fold.kind], way == "full"
    chosen = [name for name, own in fold.annotated.items() if way != "less" or set(classes) <= set(own)]
    for name in (*chosen, *fold.val):
        own = classes if full or name in fold.val else [c for c in fold.annotated[name] if c in classes]
        image = nibabel.load(root / f"labelsTr/{name}.nii.gz")
        label = np.asarray(image.dataobj).astype(np.uint8)
        kept_cells = np.isin(label, [values[c] for c in own])
        target = folder / f"labelsTr/{name}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.where(kept_cells, label, 0), image.affine), target)
        for channel in range(len(CHANNELS[fold.kind])):
            link = folder / f"imagesTr/{name}_{channel:04d}.nii.gz"
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to((root / "imagesTr" / link.name).resolve())
    declared = {
        "channel_names": {str(i): name for i, name in enumerate(CHANNELS[fold.kind])},
        "labels": {"background": 0} | {name: values[name] for name in classes},
        "file_ending": ".nii.gz",
    }
    if way in ("marginal", "ignore", "exclusion"):
        declared["annotated_classes"] = {name: list(own) for name, own in fold.annotated.items()}
    (folder / "dataset.json").write_text(json.dumps(declared))
    return folder


def parts_of(fold: Fold, way: str) -> list[list[str]]:
    """The classes of each network of a way: one network of all, or of hippocampus's halves one each."""
    every = list(CLASSES[fold.kind])
    return [[name] for name in every] if (way, fold.kind) == ("less", "hippocampus") else [every]


def scored(args: argparse.Namespace, fold: Fold, way: str, seed: int) -> dict[str, float]:
    """Dice of each class after the trainings of a way."""
    scores: dict[str, float] = {}
    for number, classes in enumerate(parts_of(fold, way)):
        place = args.output / fold.kind / f"{fold.number}-{way}-{number}"
        root = write(args.root / FOLDERS[fold.kind], place / "data", fold, way, classes)
        run = place / f"run-{seed}-{args.steps}"
        words = [
            "data=nnunet", f"data.root={root}", f"split.val_cases=[{','.join(fold.val)}]", f"seed={seed}",
            f"trainer.max_steps={args.steps}", f"trainer.steps_per_epoch={min(args.steps, 100)}", "metric=overlap",
            "logger=csv", "callback.previews=null", "judged=last", "temperature_scaling=false", f"run_dir={run}",
            f"cache_dir={place}/cache", *WORDS[fold.kind], *LOSSES.get(way, []), *args.words,
        ]  # fmt: skip
        if not (run / "metrics.json").exists():
            with redirect_stdout(StringIO()):
                train(compose("train", [*words, *(["ckpt_path=last"] if run.exists() else [])]))
        by_class = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["classes"]
        scores |= {name: by_class[name]["dice"]["mean"] for name in classes}
    return scores


def run(args: argparse.Namespace) -> list[dict[str, object]]:
    """The lines of all runs; those that are not there yet are trained, and added one by one."""
    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "runs.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {json.dumps(line["run"]): line for line in lines}
    for kind in args.sets:
        for fold in folds(kind, args.root / FOLDERS[kind], args.cases):
            for seed in args.seeds:
                for way in args.ways:
                    key = [kind, way, fold.number, seed, args.steps, args.cases, args.words]
                    if json.dumps(key) not in done:
                        line = {"run": key, "dice": scored(args, fold, way, seed)}
                        with file.open("a") as lines_file:
                            lines_file.write(json.dumps(line) + "\n")
                        done[json.dumps(key)] = line
    return list(done.values())


def by_seed(lines: Sequence[Mapping[str, object]], args: argparse.Namespace, kind: str, way: str) -> np.ndarray:
    """Dice ``[seed, class]`` of a way, mean over folds."""
    own = [
        line
        for line in lines
        if [line["run"][i] for i in (0, 1, 4, 5, 6)] == [kind, way, args.steps, args.cases, args.words]
    ]
    rows = []
    for seed in args.seeds:
        values = [[line["dice"][name] for name in CLASSES[kind]] for line in own if line["run"][3] == seed]
        rows.append(np.mean(np.array(values, dtype=float), axis=0))
    return np.array(rows)


def difference(values: np.ndarray) -> str:
    """Mean with Student's interval."""
    mean, interval = paired(values.tolist())
    return f"{mean:+.3f}" + (f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else "")


def table(lines: Sequence[Mapping[str, object]], args: argparse.Namespace, kind: str) -> str:
    """A Markdown table of a set."""
    scores = {way: by_seed(lines, args, kind, way) for way in args.ways}
    head = ["labels", *CLASSES[kind], "mean", "less `less`", "less `full`"]
    rows = [f"{kind}: Dice after {args.steps} steps, mean of seeds {args.seeds}", "", f"| {' | '.join(head)} |"]
    rows.append("|---" * len(head) + "|")
    for way, values in scores.items():
        apart = [
            difference(values.mean(1) - scores[other].mean(1)) if other in scores and other != way else ""
            for other in ("less", "full")
        ]
        cells = [f"{value:.3f}" for value in [*values.mean(0), values.mean()]]
        rows.append(f"| {way} | {' | '.join([*cells, *apart])} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Train what is not there yet, and print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", type=int, default=40, help="training cases of hippocampus, and validation cases")
    parser.add_argument("--sets", nargs="+", default=list(CLASSES), choices=list(CLASSES))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--words", nargs="*", default=[], help="further words of medseg-train")
    args = parser.parse_args()
    lines = run(args)
    for kind in args.sets:
        print(table(lines, args, kind))


if __name__ == "__main__":
    main()
