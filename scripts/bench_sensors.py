"""Two sensors against one: an encoder for each sensor, all channels in one encoder, and a sensor missing at the test.

python scripts/bench_sensors.py [--steps 200] [--seeds 0 1 2] [--sets drawn floods] [--ways one sum] [--root DIR]

Sets: ``drawn`` are scenes of which optical bands show one half of the classes, below clouds in part, and radar the
other half; ``height`` are colours with a height, without which roofs look like squares and trees like grass; ``floods``
is the chip of Sen1Floods11 that has Sentinel-2 (DIR, its folder), the left half to train and the right to validate.
Ways: ``one`` trains on each sensor alone; ``stacked`` gives all channels to one encoder; the others are fusions of
``model/encoder=joined``. All have the same steps, patches, decoder and ``test_resnet`` of timm, so that joined encoders
have twice the parameters. In training one of two sensors is left out of half of the patches. Scores are mean IoU of the
validation scenes, whole or with a sensor set to 0; with several seeds also the difference to the better single sensor,
paired by seed, with Student's interval.
"""

from __future__ import annotations

import argparse
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from omegaconf import OmegaConf
from rasterio.transform import from_origin
from scipy import ndimage

from medseg import checkpoint
from medseg.factory import split
from medseg.factory.dataset import build_dataset
from medseg.factory.instantiate import instantiate
from medseg.hydra_app.compose import compose
from medseg.metrics.differences import paired
from medseg.prediction import restore
from medseg.training.final_scores import evaluate_predictor
from medseg.training.train import train

SIDE = 128
GROUPS = {
    "drawn": {"s2": ["B2", "B3", "B4", "B8"], "s1": ["VV", "VH"]},
    "height": {"rgb": ["R", "G", "B"], "dsm": ["height"]},
    "floods": {"s2": ["B2", "B3", "B4", "B8", "B11"], "s1": ["VV", "VH"]},
}
"""Channels of each sensor."""
LABELS = {
    "drawn": "{background: 0, optical: 1, radar: 2, both: 3}",
    "height": "{background: 0, roof: 1, grass: 2, tree: 3}",
    "floods": "{background: 0, water: 1, ignore: -1}",
}


def smooth(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Smooth noise of mean 0 and variance 1."""
    field = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), scale, mode="wrap")
    return (field - field.mean()) / field.std()


def write(path: Path, bands: np.ndarray, names: list[str]) -> None:
    """A GeoTIFF of cells of 10 m, on ground of its own for each name."""
    place = 1e5 * (zlib.crc32(path.name.encode()) % 1000)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "height": bands.shape[1], "width": bands.shape[2], "count": len(bands)}
    with rasterio.open(
        path, "w", **profile, dtype=bands.dtype, crs="EPSG:32633", transform=from_origin(place, 0, 10, 10)
    ) as file:
        file.write(bands)
        file.descriptions = names


def drawn(folder: Path, rng: np.random.Generator, name: str) -> None:
    """A scene of four classes: whether optical bands see something, below clouds or not, and whether radar does."""
    optical, radar = smooth(rng, 5) > 0.2, smooth(rng, 5) > 0.2
    texture = np.stack([smooth(rng, 1) for _ in range(4)]) * 0.05
    s2 = 0.2 + 0.15 * optical * np.array([0.2, 0.5, 1.0, -1.0])[:, None, None] + texture
    s2 = np.where(smooth(rng, 8) > 0.8, 0.9, s2)  # clouds
    speckle = rng.gamma(4, 0.25, (2, SIDE, SIDE))
    s1 = 10 * np.log10((0.02 + 0.06 * radar * np.array([1.0, 0.4])[:, None, None]) * speckle)
    write(folder / "s2" / f"{name}.tif", s2.astype(np.float32), GROUPS["drawn"]["s2"])
    write(folder / "s1" / f"{name}.tif", s1.astype(np.float32), GROUPS["drawn"]["s1"])
    write(folder / "masks" / f"{name}.tif", (optical + 2 * radar).astype(np.uint8)[None], ["label"])


def height(folder: Path, rng: np.random.Generator, name: str) -> None:
    """A scene of squares and roofs of one colour, grass and trees of another; the height tells them apart."""
    green, raised = smooth(rng, 6) > 0, smooth(rng, 6) > 0.3
    colour = np.where(green, np.array([60, 120, 50])[:, None, None], np.array([130, 125, 120])[:, None, None])
    rgb = np.clip(colour + 12 * np.stack([smooth(rng, 1)] * 3), 0, 255)
    relief = 100 + 6 * smooth(rng, 20)
    dsm = relief + raised * (6 + 2 * smooth(rng, 2)) + 0.3 * rng.standard_normal((SIDE, SIDE))
    write(folder / "rgb" / f"{name}.tif", rgb.astype(np.uint8), GROUPS["height"]["rgb"])
    write(folder / "dsm" / f"{name}.tif", dsm.astype(np.float32)[None], GROUPS["height"]["dsm"])
    write(folder / "masks" / f"{name}.tif", (raised + 2 * green).astype(np.uint8)[None], ["label"])


def floods(folder: Path, root: Path) -> None:
    """The chip of Spain in tiles of 128 x 128; names of its right half begin with ``val``."""
    chip = "Spain_7370579"
    files = {"s1": (["VV", "VH"], [1, 2]), "s2": (GROUPS["floods"]["s2"], [2, 3, 4, 8, 12]), "masks": (["label"], [1])}
    for kind, (names, bands) in files.items():
        with rasterio.open(root / kind / f"{chip}.tif") as file:
            cells = file.read(bands)
        for row in range(0, cells.shape[1], SIDE):
            for column in range(0, cells.shape[2], SIDE):
                part = "val" if column >= cells.shape[2] // 2 else "train"
                tile = cells[:, row : row + SIDE, column : column + SIDE]
                write(folder / kind / f"{part}_{row}_{column}.tif", tile, names)


def make(kind: str, folder: Path, root: Path | None) -> Path:
    """The files of a set."""
    if kind == "floods":
        if root is None:
            raise SystemExit("--sets floods needs --root, the folder of sen1floods11_sample")
        floods(folder, root)
        return folder
    rng = np.random.default_rng(0)
    for i in range(24):
        {"drawn": drawn, "height": height}[kind](folder, rng, f"{'val' if i >= 12 else 'train'}_{i:02d}")
    return folder


def words_of(kind: str, way: str, sensors: list[str]) -> list[str]:
    """The overrides of a training on some sensors."""
    groups = {name: GROUPS[kind][name] for name in sensors}
    channels = [f"{name}.{band}" for name, bands in groups.items() for band in bands]
    words = [
        "data=rasters", f"data.labels={LABELS[kind]}", f"data.images={{{', '.join(f'{n}: {n}' for n in groups)}}}",
        f"data.channels=[{','.join(channels)}]", "split.val_cases=[val*]", "transform=scene", "metric=scene",
        "model=encoder_decoder", "model/decoder=unet", "model.decoder.base_features=16", "plan.patch=[64,64]",
        "plan.batch_size=8", "optimizer.lr=2e-3", "judged=last", "logger=csv", "callback.previews=null",
        "trainer.steps_per_epoch=50",
    ]  # fmt: skip
    if len(groups) > 1:
        words += ["transform.group_drop.p=0.5"]  # then one of the two
    if way in ("one", "stacked"):
        return [*words, "model/encoder=timm", "model.encoder.name=test_resnet"]
    words += ["model/encoder=joined", f"model/encoder/fusion={way}"]
    for name in groups:
        at = f"model.encoder.branches.{name}"
        words += [f"+model/encoder@{at}=timm", f"{at}.name=test_resnet"]
    return words


def without(network: torch.nn.Module, places: list[int]) -> AbstractContextManager[None]:
    """Inside, the network sees 0 in these channels."""

    def hide(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        image = args[0].clone()
        image[:, places] = 0
        return (image, *args[1:])

    @contextmanager
    def hidden() -> Iterator[None]:
        handle = network.register_forward_pre_hook(hide)
        yield
        handle.remove()

    return hidden()


def score(run: Path, missing: str | None) -> float:
    """Mean IoU of the validation scenes, without a sensor."""
    file = run / "checkpoints/last.ckpt"
    predictor = restore.predictor(file).arrays
    cfg: Any = OmegaConf.create(dict(checkpoint.read(file).metadata.config))
    dataset = build_dataset(cfg)
    places = [i for i, c in enumerate(dataset.spec.channels) if c.name.startswith(f"{missing}.")]
    table = instantiate(cfg.metric)(labels=dataset.spec.labels)
    with without(predictor.network, places):
        evaluate_predictor(predictor, split.labelled_halves(cfg.split, dataset)[1], dataset.open, table, shown=0)
    return float(table.result()["summary"]["miou"]["mean"])


def trained(folder: Path, kind: str, way: str, sensors: list[str], seed: int, steps: int) -> list[float]:
    """Scores of a training with all that it was trained on, and of two sensors without each."""
    run = folder / f"runs/{way}-{'-'.join(sensors)}-{seed}"
    words = [*words_of(kind, way, sensors), f"data.root={folder}", f"seed={seed}", f"trainer.max_steps={steps}"]
    with redirect_stdout(StringIO()):
        train(compose("train", [*words, f"run_dir={run}", f"cache_dir={folder}/cache"]))
        return [score(run, missing) for missing in [None, *(sensors if len(sensors) > 1 else [])]]


def table(kind: str, args: argparse.Namespace, folder: Path) -> None:
    """Train on a set, and print what comes of it."""
    names = list(GROUPS[kind])
    runs = {f"{name} alone": ("one", [name]) for name in names} if "one" in args.ways else {}
    runs |= {way: (way, names) for way in args.ways if way != "one"}
    print(f"{kind}: mean IoU after {args.steps} steps, mean of seeds {args.seeds}\n")
    print(f"| encoder | {' and '.join(names)} | {' | '.join(f'without {n}' for n in names)} | less the better sensor |")
    print("|---|---|---|---|---|", flush=True)
    alone: list[np.ndarray] = []
    for label, (way, sensors) in runs.items():
        found = np.array([trained(folder, kind, way, sensors, seed, args.steps) for seed in args.seeds])
        if way == "one":
            alone.append(found[:, 0])
        best = max(alone, key=np.mean, default=None) if way != "one" else None
        apart = "" if best is None else difference(found[:, 0] - best)
        cells = [f"{value:.3f}" for value in found.mean(0)] + [""] * (3 - found.shape[1])
        print(f"| {label} | {' | '.join(cells)} | {apart} |", flush=True)
    print()


def difference(values: np.ndarray) -> str:
    """Mean with Student's interval."""
    mean, interval = paired(values.tolist())
    return f"{mean:+.3f}" + (f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else "")


def main() -> None:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", default=["drawn", "height"], choices=list(GROUPS))
    ways = ["one", "stacked", "sum", "concatenation", "gate", "cross_attention"]
    parser.add_argument("--ways", nargs="+", default=ways, choices=ways)
    parser.add_argument("--root", type=Path)
    args = parser.parse_args()
    for kind in args.sets:
        with tempfile.TemporaryDirectory() as folder:
            table(kind, args, make(kind, Path(folder), args.root))


if __name__ == "__main__":
    main()
