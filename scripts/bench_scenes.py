"""The peers of experiment=burned_area and experiment=dubai, and a classical baseline, in one run.

Trains, one after the other on the same scenes, split and minutes: medseg as the experiment says, torchgeo's
SemanticSegmentationTask with the same network, crops and batch (random weights, its own loss, optimiser, schedule
and flips), and fits
what needs no network to the training scenes: for burned areas a threshold on NBR, for land cover in colour a
Gaussian of the colours of each class. All are judged by the same pooled scores on
scenes that none has seen. The peer is judged at its last step and at its best validation step.

    python scripts/bench_scenes.py --experiment burned_area --root DIR --minutes 12 --seeds 0 1 2
    python scripts/bench_scenes.py --experiment dubai --root DIR --minutes 12 --seeds 0
"""

import argparse
import csv
import json
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig
from torch.utils.data import DataLoader, Dataset
from torchgeo.trainers import SemanticSegmentationTask

from medseg.data.case import Case
from medseg.data.preprocessing.normalise import normalise
from medseg.factory import split
from medseg.factory.dataset import build_dataset
from medseg.factory.network import network
from medseg.factory.plan import build_plan
from medseg.geometry.box import Box
from medseg.hydra_app.compose import compose
from medseg.inference.sliding_window import sliding_window
from medseg.labels import IGNORE
from medseg.metrics import overlap, validation
from medseg.planning.plan import Plan
from medseg.runtime.cpu import keep_large_blocks
from medseg.runtime.verbosity import quiet_libraries
from medseg.sample import Sample
from medseg.training.train import train

IGNORED = 255
EPOCH = 100  # steps


class Crops(Dataset):
    """Random crops of scenes, by area, flipped at random: what RandomGeoSampler and torchgeo's transforms give."""

    def __init__(self, scenes: list[Sample], plan: Plan, seed: int) -> None:
        self.scenes, self.crop, self.batch = scenes, plan.patch, plan.batch_size
        self.area = np.array([s.valid.size for s in scenes], float)
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.batch * EPOCH

    def __getitem__(self, _: int) -> dict[str, torch.Tensor]:
        scene = self.scenes[self.rng.choice(len(self.scenes), p=self.area / self.area.sum())]
        start = [
            int(self.rng.integers(0, max(1, n - c + 1))) for n, c in zip(scene.valid.shape, self.crop, strict=True)
        ]
        window = Box.at(start, self.crop).clip(scene.valid.shape).slices
        image, label = scene.image[(slice(None), *window)], masked(scene)[window]
        short = [(0, c - n) for n, c in zip(label.shape, self.crop, strict=True)]
        image, label = np.pad(image, [(0, 0), *short]), np.pad(label, short, constant_values=IGNORED)
        axes = [a for a in (0, 1) if self.rng.random() < 0.5]
        image, label = np.flip(image, [a + 1 for a in axes]), np.flip(label, axes)
        return {"image": torch.from_numpy(image.copy()), "mask": torch.from_numpy(label.copy())}


def masked(scene: Sample) -> np.ndarray:
    label: Any = scene.label
    return np.where(scene.valid & (label != IGNORE), label, IGNORED).astype(np.int64)


class Whole(Dataset):
    """Whole scenes, cut to what the encoder's stride allows, for the task's own validation."""

    def __init__(self, scenes: list[Sample]) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        scene = self.scenes[index]
        rows, columns = (n // 32 * 32 for n in scene.valid.shape)
        image = np.ascontiguousarray(scene.image[:, :rows, :columns])
        return {"image": torch.from_numpy(image), "mask": torch.from_numpy(masked(scene)[:rows, :columns])}


def read(cfg: DictConfig, cases: list[Case], plan: Plan) -> list[Sample]:
    source = build_dataset(cfg)
    scenes = [source.read(case) for case in cases]
    for scene in scenes:
        scene.image = normalise(scene.image, scene.valid, plan.normalisation)
    return scenes


def scores(predicted: list[np.ndarray], scenes: list[Sample], labels: Any) -> dict[str, float]:
    tables = [overlap.confusion_matrix(p, s.label, s.valid, labels) for p, s in zip(predicted, scenes, strict=True)]
    return {k: round(v, 4) for k, v in validation.validation_scores(tables, labels, pooled=True).items() if "iou" in k}


def peer(cfg: DictConfig, seed: int, minutes: float, folder: Path) -> dict[str, Any]:
    source = build_dataset(cfg)
    train_cases, val_cases = split.halves(cfg.split, source)
    planned = build_plan(cfg, source, train_cases)
    labels = source.spec.labels
    facts = {"in_channels": len(source.spec.channels), "num_classes": labels.n_classes, "task": "multiclass"}
    task = SemanticSegmentationTask(model="unet", backbone=cfg.model.encoder, ignore_index=IGNORED, **facts)
    seed_everything(seed, verbose=False)
    task.model = network(cfg.model, planned, source.spec)  # with the decoder's widths too
    val = read(cfg, val_cases, planned)
    best = ModelCheckpoint(
        folder, "best", monitor="val_MulticlassJaccardIndex", mode="max", enable_version_counter=False
    )
    trainer = Trainer(
        max_epochs=-1, max_time=timedelta(minutes=minutes), accelerator="cpu", logger=False, callbacks=[best],
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    crops = DataLoader(Crops(read(cfg, train_cases, planned), planned, seed), batch_size=planned.batch_size)
    trainer.fit(task, crops, DataLoader(Whole(val), batch_size=1))
    found: dict[str, Any] = {"steps": trainer.global_step}
    last = task.state_dict()
    for name, state in {
        "last": last,
        "best": torch.load(best.best_model_path, weights_only=False)["state_dict"],
    }.items():
        task.load_state_dict(state)
        task.eval()
        with torch.no_grad():
            blended = [sliding_window(torch.from_numpy(s.image), task, window=planned.patch) for s in val]
        found[name] = scores([logits.argmax(0).numpy() for logits in blended], val, labels)
    return found


def ours(cfg: DictConfig) -> dict[str, Any]:
    run_dir = train(cfg)
    result = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    found = {f"iou/{name}": round(by["iou"]["mean"], 4) for name, by in result["classes"].items()}
    with (run_dir / "metrics.csv").open() as stream:
        steps = max(int(row["step"]) for row in csv.DictReader(stream) if row["step"])
    return {"steps": steps, cfg.judged: found | {"miou": round(result["summary"]["miou"]["mean"], 4)}}


def threshold(cfg: DictConfig) -> dict[str, Any]:
    """The value of NBR that separates burned from unburned cells of the training scenes with the largest IoU."""
    source = build_dataset(cfg)
    parts = [[source.read(case) for case in cases] for cases in split.halves(cfg.split, source)]
    names = [c.name for c in source.spec.channels]
    nir, swir = names.index("B8"), names.index("B12")

    def index(scene: Sample) -> np.ndarray:
        return (scene.image[nir] - scene.image[swir]) / np.maximum(scene.image[nir] + scene.image[swir], 1)

    def of(cut: float, scenes: list[Sample]) -> dict[str, float]:
        return scores([(index(s) < cut).astype(np.int16) for s in scenes], scenes, source.spec.labels)

    cut = max(np.linspace(-0.6, 0.4, 101), key=lambda value: of(value, parts[0])["iou/burned"])
    return {"cut": round(float(cut), 3), "train": of(cut, parts[0]), "last": of(cut, parts[1])}


def colours(cfg: DictConfig) -> dict[str, Any]:
    """A Gaussian of the channels for each class, fitted to the training scenes (quadratic discriminant analysis)."""
    source = build_dataset(cfg)
    labels = source.spec.labels
    train_scenes, val_scenes = ([source.read(case) for case in part] for part in split.halves(cfg.split, source))
    known = [masked(scene) != IGNORED for scene in train_scenes]
    cells = np.concatenate([s.image[:, k] for s, k in zip(train_scenes, known, strict=True)], axis=1)
    classes = np.concatenate([masked(s)[k] for s, k in zip(train_scenes, known, strict=True)])
    models = []
    for index in range(labels.n_classes):
        own = cells[:, classes == index].astype(np.float64)
        covariance = np.cov(own) + 1e-6 * np.eye(len(own))
        offset = np.log(own.shape[1] / len(classes)) - np.linalg.slogdet(covariance)[1] / 2
        models.append((own.mean(axis=1), np.linalg.inv(covariance), offset))

    def predicted(scene: Sample) -> np.ndarray:
        centred = [scene.image.reshape(len(scene.image), -1) - mean[:, None] for mean, _, _ in models]
        chances = [o - ((inv @ c) * c).sum(axis=0) / 2 for c, (_, inv, o) in zip(centred, models, strict=True)]
        return np.argmax(chances, axis=0).reshape(scene.valid.shape)

    return {"last": scores([predicted(scene) for scene in val_scenes], val_scenes, labels)}


@quiet_libraries()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", choices=("burned_area", "dubai"), required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--only", nargs="+", choices=("ours", "torchgeo", "classical"), default=["classical", "torchgeo", "ours"]
    )
    asked = parser.parse_args()
    keep_large_blocks()
    clock = str(timedelta(minutes=asked.minutes)).rjust(8, "0")
    with tempfile.TemporaryDirectory() as scratch:
        for seed in asked.seeds:
            given = [
                f"experiment={asked.experiment}", f"data.root={asked.root}", f"seed={seed}", "logger=csv",
                f"run_dir={scratch}/{seed}", f"cache_dir={scratch}/cache", f"trainer.max_time=00:{clock}",
                "trainer.max_steps=-1", "callback.progress=null",
            ]  # fmt: skip
            cfg = compose("train", given)
            runs = {"torchgeo": lambda c=cfg, s=seed: peer(c, s, asked.minutes, Path(scratch) / f"peer{s}"),
                    "ours": lambda c=cfg: ours(c)}  # fmt: skip
            if seed == asked.seeds[0]:
                classical = threshold if asked.experiment == "burned_area" else colours
                runs = {"classical": lambda c=cfg, fit=classical: fit(c)} | runs
            for name in [n for n in asked.only if n in runs]:
                began = time.monotonic()
                found = runs[name]()
                print(
                    json.dumps({"who": name, "seed": seed, "seconds": round(time.monotonic() - began)} | found),
                    flush=True,
                )


if __name__ == "__main__":
    main()
