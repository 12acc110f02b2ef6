"""A scene of any size through a small network: memory, time outside the network, seams, kill and continue.

python scripts/bench_scene.py [--size 20000] [--rows ROWS] [--window 512] [--overlap 0.5] [--batch 1]
    [--features 16] [--stages 4] [--precision fp32|bf16] [--fast] [--folder FOLDER]

Draws a scene of size x size x 4 uint16 (tiled GeoTIFF, deflate, a slanted footprint in nodata), predicts it in a
process of its own with a U-Net of random weights, and looks at what came out. Then, on its middle of
1,500 x 1,100 cells: the logits of streaming beside those in memory, a network that returns its input, and a run
that is killed (SIGKILL) and continued beside one that is not.

"outside" is the share of the wall time, from the first read to the finished file, in which the network did not
run. As reading goes on beside it on the same cores, "outside_of_cpu" is the share of the processor's time that
is left when that of as many windows, run with nothing beside them, is taken from the whole.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torch import Tensor, nn

from medseg import formats
from medseg.formats.sink import RasterSink, class_nodata
from medseg.formats.source import Source
from medseg.geometry.box import Box
from medseg.inference.sliding_window import slabs, window_batches
from medseg.inference.stream import Strip, stream
from medseg.inference.tiling import Tiling
from medseg.labels import LabelTable
from medseg.models.network import ModelSpec
from medseg.models.unet import UNet
from medseg.runtime.cpu import has_bf16, keep_large_blocks

TABLE = LabelTable.declare({"land": 0, "water": 1, "forest": 2, "field": 3, "town": 4}, background=None)
MEAN, STD = 3000.0, 1000.0
CROP = (1500, 1100)
GOALS = {"peak_rss_gb": 1.5, "outside": 0.10, "difference": 1e-5}


class Timed(nn.Module):
    """A network and the seconds spent in it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seconds, self.windows = network, 0.0, 0

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the network."""
        began = time.perf_counter()
        logits = self.network(image)
        self.seconds += time.perf_counter() - began
        self.windows += len(image)
        return logits


def draw(path: Path, rows: int, columns: int) -> None:
    """A scene of smooth bands, fields with sharp borders and noise, block row by block row."""
    settings: dict[str, Any] = {
        "driver": "GTiff", "height": rows, "width": columns, "count": 4, "dtype": "uint16", "nodata": 0,
        "crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 399960, 0, -10, 5300040), "tiled": True,
        "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2, "bigtiff": "if_safer",
        "num_threads": "all_cpus", "photometric": "minisblack",
    }  # fmt: skip
    rng = np.random.default_rng(0)
    fields = rng.integers(0, 2000, (4, 1 + rows // 150, 1 + columns // 90), dtype=np.uint16)
    with rasterio.Env(GDAL_CACHEMAX=128 << 20), rasterio.open(path, "w", **settings) as scene:
        for top in range(0, rows, 512):
            for left in range(0, columns, 2048):
                height, width = min(512, rows - top), min(2048, columns - left)
                r, c = np.ogrid[top : top + height, left : left + width]
                smooth = [np.sin(r / (310 + 90 * b)) * np.cos(c / (270 - 50 * b)) * 600 + 2000 for b in range(4)]
                cells = np.stack(smooth).astype(np.uint16) + fields[:, r // 150, c // 90]
                cells += rng.integers(0, 200, cells.shape, dtype=np.uint16)
                slant = 0.12 * columns
                cells[:, (c + 0.2 * r < slant) | (c - 0.2 * (rows - r) > columns - slant)] = 0
                cells[:, (r // 700 % 5 == 2) & (c // 300 % 7 == 3)] = 0
                scene.write(cells, window=Window(left, top, width, height))


def crop(source: Path, target: Path) -> None:
    """The middle of a scene, not aligned with its blocks."""
    with rasterio.open(source) as scene:
        window = Window((scene.width - CROP[1]) // 2 + 3, (scene.height - CROP[0]) // 2 + 5, CROP[1], CROP[0])
        kept = scene.profile | {"height": CROP[0], "width": CROP[1], "transform": scene.window_transform(window)}
        with rasterio.open(target, "w", **kept) as cut:
            cut.write(scene.read(window=window))


def ready(source: Source) -> Callable[[Box], tuple[np.ndarray, np.ndarray]]:
    """Reading for the network: bands normalised, nodata 0."""

    def read(box: Box) -> tuple[np.ndarray, np.ndarray]:
        cells, valid = source.read_valid(box)
        image = cells.astype(np.float32)
        image -= MEAN
        image /= STD
        image *= valid
        return image, valid

    return read


def build(asked: argparse.Namespace) -> tuple[UNet, Tiling]:
    torch.manual_seed(0)
    window = (asked.window,) * 2
    kernels, strides = ((3, 3),) * asked.stages, ((1, 1), *((2, 2),) * (asked.stages - 1))
    model_spec = ModelSpec(4, TABLE.n_outputs, window, (10.0, 10.0), kernels, strides)
    net = UNet(model_spec, base_features=asked.features, deep_supervision=False)
    return net, Tiling(window, asked.overlap, asked.batch, precision=asked.precision)


def predict(asked: argparse.Namespace, path: Path, target: Path) -> dict[str, Any]:
    """Runs in a process of its own, of which the memory is measured."""
    keep_large_blocks()
    net, tiling = build(asked)
    timed, source = Timed(net), formats.open(path)
    key = hashlib.sha256(repr((tiling, asked.features, asked.stages)).encode()).hexdigest()
    began, cpu = time.perf_counter(), time.process_time()
    with RasterSink(
        target, source.grid, dtype=TABLE.saved_dtype, nodata=class_nodata(TABLE), key=key, like=path
    ) as sink:
        resumed = sink.rows_done
        stream(ready(source), source.grid.shape, tiling, timed, TABLE, sink)
        streamed = time.perf_counter()
        sink.finish(labels=TABLE)
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    whole, alone = ended - began, seconds_alone(net, tiling)
    return {
        "resumed_at_row": resumed,
        "windows": timed.windows,
        "seconds": round(whole, 2),
        "network_seconds": round(timed.seconds, 2),
        "file_seconds": round(ended - streamed, 2),
        "outside": round(1 - timed.seconds / whole, 4),
        "cpu_seconds": round(cpu, 2),
        "outside_of_cpu": round(1 - timed.windows * alone / cpu, 4),
        "cpu_seconds_a_window_alone": round(alone, 4),
        "peak_rss_gb": round(peak / 2**20, 3),
    }


def seconds_alone(net: UNet, tiling: Tiling, repeats: int = 9) -> float:
    """Processor seconds of a window in the network, with nothing beside it; the median."""
    image, taken = torch.randn(tiling.batch_size, 4, *tiling.window), []
    with tiling.running(net, image.device) as run:
        for _ in range(repeats):
            began = time.process_time()
            run(image)
            taken.append((time.process_time() - began) / tiling.batch_size)
    return float(np.median(taken))


def in_own_process(asked: argparse.Namespace, path: Path, target: Path, *, kill_at: float | None = None) -> Any:
    """``predict`` in a process of its own; killed once a share of the rows is there, if asked."""
    settings = [f"--{name}={getattr(asked, name)}" for name in ("window", "overlap", "batch", "features", "stages")]
    command = [sys.executable, __file__, *settings, f"--precision={asked.precision}", "--child", str(path), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        if kill_at is not None:
            with rasterio.open(path) as scene:
                enough = kill_at * scene.height * scene.width
            part = target.with_name(f".{target.name}.part")
            while child.poll() is None and (not part.exists() or part.stat().st_size < enough):
                time.sleep(0.002)
            child.send_signal(signal.SIGKILL)
        written, _ = child.communicate()
    if kill_at is not None:
        return child.returncode
    if child.returncode:
        raise SystemExit(f"the prediction ended with {child.returncode}")
    return json.loads(written.splitlines()[-1])


def facts_of(path: Path) -> dict[str, Any]:
    """What rasterio, and gdalinfo if it is installed, say of a file."""
    with rasterio.open(path) as scene:
        model_spec = {
            "crs": str(scene.crs), "shape": scene.shape, "transform": list(scene.transform)[:6],
            "block": scene.block_shapes[0], "overviews": scene.overviews(1), "nodata": scene.nodata,
            "compression": scene.compression.name, "layout": scene.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"),
            "classes": scene.tags().get("CLASS_NAMES"), "megabytes": round(path.stat().st_size / 1e6, 1),
        }  # fmt: skip
    if program := shutil.which("gdalinfo"):
        told = json.loads(subprocess.run([program, "-json", path], capture_output=True, check=True).stdout)
        band = told["bands"][0]
        model_spec["gdalinfo"] = {
            "crs": told["coordinateSystem"]["wkt"].split('"')[1], "block": band["block"],
            "overviews": [o["size"] for o in band["overviews"]], "categories": band.get("categoryNames"),
        }  # fmt: skip
    return model_spec


def streamed_logits(path: Path, tiling: Tiling, network: nn.Module, n_outputs: int) -> Tensor:
    source = formats.open(path)
    shape = source.grid.shape
    tiles = {"window": tiling.window, "overlap": tiling.overlap, "batch_size": tiling.batch_size}
    boxes = [box for batch in window_batches(shape, **tiles) for box in batch]
    with tiling.running(network, torch.device("cpu")) as run, Strip(ready(source), shape, boxes) as strip:
        return torch.cat([rows for _, rows in slabs(strip.window, shape, run, **tiles, n_outputs=n_outputs)], dim=1)


def compare(asked: argparse.Namespace, path: Path) -> dict[str, float]:
    """Streaming beside the whole image in memory, and a network that returns its input, on valid cells."""
    source = formats.open(path)
    image, valid = ready(source)(Box.whole(source.grid.shape))
    net, tiling = build(asked)
    whole, rows = tiling.logits(torch.from_numpy(image), net), streamed_logits(path, tiling, net, TABLE.n_outputs)
    same = streamed_logits(path, Tiling(tiling.window, tiling.overlap), nn.Identity(), len(image))
    return {
        "logits": float((whole - rows)[:, valid].abs().max()),
        "probabilities": float((whole.softmax(0) - rows.softmax(0))[:, valid].abs().max()),
        "identity": float((same - torch.from_numpy(image))[:, valid].abs().max()),
    }


def kill_and_continue(asked: argparse.Namespace, path: Path, folder: Path) -> dict[str, Any]:
    whole, broken = folder / "whole.tif", folder / "broken.tif"
    in_own_process(asked, path, whole)
    code = in_own_process(asked, path, broken, kill_at=0.4)
    left = sorted(p.name for p in folder.glob("*broken*"))
    went_on = in_own_process(asked, path, broken)
    return {
        "killed_with": code,
        "left_behind": left,
        "continued_at_row": went_on["resumed_at_row"],
        "windows": went_on["windows"],
        "same_bytes": whole.read_bytes() == broken.read_bytes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20000, help="rows and columns")
    parser.add_argument("--rows", type=int, help="rows, if fewer than columns")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16" if has_bf16() else "fp32")
    parser.add_argument("--fast", action="store_true", help="size 2000")
    parser.add_argument("--folder", type=Path, help="where files go, and stay; else a temporary folder")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(predict(asked, *asked.child)))
        return
    columns = 2000 if asked.fast else asked.size
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="bench_scene."))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        scene, small = folder / f"scene_{asked.rows or columns}x{columns}.tif", folder / "crop.tif"
        if not scene.exists():
            building = scene.with_suffix(".building.tif")
            draw(building, asked.rows or columns, columns)
            os.replace(building, scene)
        crop(scene, small)
        result = {"scene": facts_of(scene), "run": in_own_process(asked, scene, folder / "classes.tif")}
        result["classes"] = facts_of(folder / "classes.tif")
        result["difference"] = compare(asked, small)
        result["killed"] = kill_and_continue(asked, small, folder)
        run, difference = result["run"], result["difference"]
        result["goals"] = {
            "memory": run["peak_rss_gb"] < GOALS["peak_rss_gb"],
            "outside": run["outside"] < GOALS["outside"],
            "same as in memory": max(difference["logits"], difference["identity"]) < GOALS["difference"],
            "kill and continue": result["killed"]["same_bytes"],
        }
        print(json.dumps(result, indent=1))
    finally:
        if asked.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
