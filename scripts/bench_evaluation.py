"""Memory and time of the final scores of a training on one large scene.

python scripts/bench_evaluation.py [--size 12000] [--window 512]

A scene of noise (four bands, uint16) and its label are written as GeoTIFF, predicted by windows without overlap, scored
and drawn, as at the end of a training, in a process of its own whose peak resident memory is read from the kernel. The
network is a convolution of one cell with random weights: what is measured is what is held around it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from bench_predict import measured

BANDS = ("B2", "B3", "B4", "B8")
METRICS = ("iou", "f1", "precision", "recall", "miou", "accuracy", "boundary_iou")


def write_scene(folder: Path, size: int) -> None:
    """``image.tif`` and ``label.tif``, a few rows at a time; fields of 64 cells have one of three classes."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff", "width": size, "height": size, "tiled": True, "blockxsize": 512, "blockysize": 512,
        "crs": "EPSG:32633", "transform": from_origin(5e5, 4.2e6, 10, 10),
    }  # fmt: skip
    with (
        rasterio.open(folder / "image.tif", "w", count=4, dtype="uint16", **profile) as image,
        rasterio.open(folder / "label.tif", "w", count=1, dtype="uint8", **profile) as label,
    ):
        for row in range(0, size, 512):
            rows = min(512, size - row)
            window = Window(0, row, size, rows)
            fields = rng.integers(0, 3, (-(-rows // 64), -(-size // 64)), dtype=np.uint8)
            image.write(rng.integers(0, 4000, (4, rows, size), dtype=np.uint16), window=window)
            label.write(np.kron(fields, np.ones((64, 64), np.uint8))[:rows, :size], 1, window=window)


def evaluate(folder: Path, window: int) -> None:
    """Predict, score and draw the scene."""
    import torch
    from torch import nn

    from medseg.data.case import Case
    from medseg.data.preprocessing.normalise import Normalisation
    from medseg.data.preprocessing.preprocess import Preprocess
    from medseg.data.reading.open_case import CaseReader
    from medseg.data.reading.options import ReadOptions
    from medseg.inference.predictor import Predictor
    from medseg.inference.tiling import Tiling
    from medseg.labels import LabelTable
    from medseg.metrics.accumulate import CaseScores
    from medseg.sample import Channel, DataSpec
    from medseg.training.final_scores import evaluate_predictor

    labels = LabelTable.declare({"background": 0, "a": 1, "b": 2})
    spec = DataSpec(tuple(map(Channel, BANDS)), labels, 2)
    torch.manual_seed(0)
    prepare = Preprocess(None, (Normalisation("standard", 2000.0, 1000.0),) * 4)
    predictor = Predictor(nn.Conv2d(4, 3, 1), prepare=prepare, tiling=Tiling((window,) * 2, 0.0), spec=spec)
    scores = CaseScores(labels, metrics=METRICS, pooled=True)
    case = Case("scene", (folder / "image.tif",), folder / "label.tif", "scene")
    evaluate_predictor(predictor, [case], lambda one: CaseReader(one, spec, ReadOptions(bands=BANDS)), scores)
    scores.result()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=12_000)
    parser.add_argument("--window", type=int, default=512)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_scene(Path(folder), args.size)
        found = measured(evaluate, Path(folder), args.window)
    shown = found if isinstance(found, str) else f"{found[0]:.0f} s, {found[1]:.2f} GiB at the peak"
    print(f"{args.size} x {args.size} cells of four bands, three classes: {shown}")


if __name__ == "__main__":
    main()
