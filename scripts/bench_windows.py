"""Windows per second from one compressed GeoTIFF: plain rasterio, torchgeo, medseg from the file and from the store.

python scripts/bench_windows.py [--size 4000] [--window 256] [--rounds 15] [--windows 40] [--cache-mb 16]
    [--no-nodata] [--folder FOLDER]

Draws a scene of size x size x 5 uint16 (deflate, blocks of 256, smooth with noise, about 2:1) and reads random
windows of all bands in one process and one thread; the sides take turns window by window:

    rasterio          ds.read(window=) on an open handle: raw uint16
    torchgeo          windows of RandomGeoSampler, drawn beforehand, from a RasterDataset: raw float32
    Source.read       raw uint16, errors told, the window checked
    Source.read_valid and which cells hold data
    CaseReader.read     float32, channels by name, NaN refused
    StreamedCase.read    normalised: what training gets with loader.store=false
    StoredCase.read   the same from the patch store: what training gets with loader.store=true

All but torchgeo read the same windows. GDAL keeps decoded blocks for all sides in --cache-mb, by default much
less than the scene: windows of a data set that no memory holds. 1000 keeps this scene decoded. The store's files
and the GeoTIFF are in the system's page cache, unless memory is short.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torchgeo.datasets import RasterDataset
from torchgeo.samplers import RandomGeoSampler

from medseg.data.case import Case
from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.preprocessing.windows import prepared_windows
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.data.store.stored_case import StoredCase, write_case
from medseg.data.store.streamed_case import StreamedCase
from medseg.formats import geotiff
from medseg.geometry.box import Box
from medseg.labels import LabelTable
from medseg.runtime.cpu import keep_large_blocks
from medseg.sample import Channel, DataSpec

BANDS = ("B2", "B3", "B4", "B8", "B12")
SPEC = DataSpec(tuple(map(Channel, BANDS)), LabelTable.declare({"land": 0, "water": 1}, background=None), 2)
RULES = (Normalisation("standard", mean=2000.0, std=400.0),) * len(BANDS)
GOALS = (("StreamedCase.read", "rasterio", 0.95), ("StoredCase.read", "torchgeo", 2.0))


def draw(path: Path, size: int, nodata: int | None) -> None:
    """Waves and noise of 7 bits; no cell is ``nodata``."""
    settings: dict[str, Any] = {
        "driver": "GTiff", "height": size, "width": size, "count": len(BANDS), "dtype": "uint16", "nodata": nodata,
        "crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 399960, 0, -10, 5300040), "tiled": True,
        "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2, "photometric": "minisblack",
    }  # fmt: skip
    rng = np.random.default_rng(0)
    with rasterio.open(path, "w", **settings) as scene:
        for top in range(0, size, 256):
            height = min(256, size - top)
            r, c = np.ogrid[top : top + height, :size]
            smooth = [np.sin(r / (310 + 90 * b)) * np.cos(c / (270 - 50 * b)) * 600 + 2000 for b in range(len(BANDS))]
            cells = np.stack(smooth) + rng.normal(0, 20, (len(BANDS), height, size))
            scene.write(cells.astype(np.uint16), window=Window(0, top, size, height))
        for band, name in enumerate(BANDS, start=1):
            scene.set_band_description(band, name)


def sides(path: Path, folder: Path, args: argparse.Namespace) -> dict[str, list[Callable[[], Any]]]:
    """The reads of one round by side, each through a handle of its own: none finds what another has decoded."""
    rng = np.random.default_rng(1)
    starts = rng.integers(0, args.size - args.window + 1, (args.windows, 2)).tolist()
    boxes = [Box.at(start, (args.window, args.window)) for start in starts]
    tiles = [Window(col, row, args.window, args.window) for row, col in starts]

    def link(name: str) -> Path:
        os.link(path, folder / f"{name}.tif")
        return folder / f"{name}.tif"

    def opening(name: str) -> CaseReader:
        return CaseReader(Case("scene", (link(name),), None, "scene"), SPEC, ReadOptions(nonfinite="mask"))

    opened = opening("opened")
    preprocess, patch = Preprocess(None, RULES), (args.window, args.window)

    def stored(name: str, *, arrays: bool) -> StoredCase:
        windows, grid, trace = prepared_windows(opened, preprocess, patch)
        return write_case(folder / name, windows, grid, trace, SPEC.labels.targets, patch, arrays=arrays)

    filed = StreamedCase(stored("index", arrays=False), opening("filed"), preprocess)
    store = stored("cells", arrays=True)
    plain, dataset = rasterio.open(path), RasterDataset(str(link("torchgeo")))
    source, valid_too = geotiff.open(link("source")), geotiff.open(link("valid_too"))
    drawn = torch.Generator().manual_seed(1)
    queries = list(RandomGeoSampler(dataset, args.window, length=args.windows, generator=drawn))

    raw = plain.read(window=tiles[0])
    np.testing.assert_array_equal(source.read(boxes[0]), raw)
    np.testing.assert_allclose(filed.read(boxes[0]).image, (raw - 2000.0) / 400.0, atol=1e-5)
    np.testing.assert_array_equal(store.read(boxes[0]).image, filed.read(boxes[0]).image)
    assert dataset[queries[0]]["image"].shape == raw.shape
    return {
        "rasterio": [lambda t=t: plain.read(window=t) for t in tiles],
        "torchgeo": [lambda q=q: dataset[q] for q in queries],
        "Source.read": [lambda b=b: source.read(b) for b in boxes],
        "Source.read_valid": [lambda b=b: valid_too.read_valid(b) for b in boxes],
        "CaseReader.read": [lambda b=b: opened.read(b) for b in boxes],
        "StreamedCase.read": [lambda b=b: filed.read(b) for b in boxes],
        "StoredCase.read": [lambda b=b: store.read(b) for b in boxes],
    }


def spent(work: dict[str, list[Callable[[], Any]]], turn: int) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds a read of one round by side; every side works in the calling thread."""
    names, seconds = list(work), {name: np.zeros(2) for name in work}
    n = len(work[names[0]])
    for step in range(n):
        first = (step + turn) % len(names)
        for name in names[first:] + names[:first]:
            wall, cpu = time.perf_counter(), time.thread_time()
            work[name][step]()
            seconds[name] += time.perf_counter() - wall, time.thread_time() - cpu
    return {name: (wall / n, cpu / n) for name, (wall, cpu) in seconds.items()}


def report(found: dict[str, list[tuple[float, float]]]) -> None:
    def ratios(name: str, beside: str, clock: int) -> list[float]:
        return [b[clock] / a[clock] for a, b in zip(found[name], found[beside], strict=True)]

    print(
        f"{'':18}{'per s (least to most)':>24}{'CPU ms':>9}{'of rasterio: wall':>20}{'CPU':>7}{'of torchgeo: CPU':>19}"
    )
    for name, rounds in found.items():
        rate = [1 / wall for wall, _ in rounds]
        cpu = statistics.median(cpu for _, cpu in rounds) * 1e3
        beside = [
            statistics.median(ratios(name, *other)) for other in (("rasterio", 0), ("rasterio", 1), ("torchgeo", 1))
        ]
        told = f"{statistics.median(rate):.0f} ({min(rate):.0f} to {max(rate):.0f})"
        print(f"{name:18}{told:>24}{cpu:9.2f}{beside[0]:20.3f}{beside[1]:7.3f}{beside[2]:19.2f}")
    for name, beside, goal in GOALS:
        wall, cpu = (statistics.median(ratios(name, beside, clock)) for clock in (0, 1))
        met = "met" if min(wall, cpu) >= goal else "missed" if max(wall, cpu) < goal else "met by one clock only"
        print(f"goal: {name} at least {goal:g} of {beside}: {wall:.3f} by wall, {cpu:.3f} by CPU time: {met}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4000, help="rows and columns of the scene")
    parser.add_argument("--window", type=int, default=256, help="rows and columns of a window")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--windows", type=int, default=40, help="of each side in each round")
    parser.add_argument("--cache-mb", type=int, default=16, help="decoded blocks that GDAL keeps")
    parser.add_argument("--no-nodata", action="store_true", help="draw a scene without a nodata value")
    parser.add_argument("--folder", type=Path, help="where the scene and the store go; else a temporary folder")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    os.environ["GDAL_CACHEMAX"] = str(args.cache_mb)
    torch.set_num_threads(1)
    blosc2.set_nthreads(1)
    keep_large_blocks()  # as training does on a CPU; serves all sides
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        path = Path(name) / "scene.tif"
        draw(path, args.size, None if args.no_nodata else 0)
        work = sides(path, Path(name), args)
        raw = args.size**2 * len(BANDS) * 2
        print(f"{args.size} x {args.size} x {len(BANDS)} uint16, {raw / path.stat().st_size:.2f}:1, {args}")
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in work}
        for turn in range(args.rounds + 1):
            for side, seconds in spent(work, turn).items():
                if turn:  # the first warms up
                    found[side].append(seconds)
        report(found)


if __name__ == "__main__":
    main()
