"""Memory and time of the polygons of a speckled map.

python scripts/bench_polygons.py [--size 4000] [--share 0.5] [--min-cells 0] [--simplify 0]

Each cell of a map is of one class with the given probability, else background: as many small areas as can be. The map
is outlined in a process of its own, whose peak resident memory is read from the kernel.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_predict import measured


def write_map(path: Path, size: int, share: float) -> None:
    """A GeoTIFF of noise, a few rows at a time."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    place = from_origin(5e5, 4.2e6, 10, 10)
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=1, dtype="uint8", crs="EPSG:32633", transform=place
    ) as target:
        for row in range(0, size, 256):
            rows = min(256, size - row)
            target.write((rng.random((rows, size)) < share).astype(np.uint8), 1, window=Window(0, row, size, rows))


def outline(path: Path, settings: dict[str, float]) -> None:
    """Write the polygons."""
    from medseg.formats.polygons import PolygonOptions, polygons
    from medseg.labels import LabelTable

    began = time.process_time()
    table = LabelTable.declare({"background": 0, "spot": 1})
    polygons(path, path.with_suffix(".gpkg"), table, PolygonOptions(**settings))
    print(f"{time.process_time() - began:.0f} s of processor time")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=4000)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--min-cells", type=int, default=0)
    parser.add_argument("--simplify", type=float, default=0)
    args = parser.parse_args()
    given = {"min_cells": args.min_cells, "simplify_m": args.simplify}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.tif"
        write_map(path, args.size, args.share)
        seen = measured(outline, path, {key: value for key, value in given.items() if value})
        count = 0
        if not isinstance(seen, str):
            import pyogrio

            count = pyogrio.read_info(path.with_suffix(".gpkg"))["features"]
    shown = seen if isinstance(seen, str) else f"{seen[0]:.0f} s, {seen[1]:.2f} GiB at the peak"
    print(f"{args.size} x {args.size} cells, {count} polygons: {shown}")


if __name__ == "__main__":
    main()
