"""Processor seconds of single metrics on a drawn volume of organs, and the peak memory of the process.

python scripts/bench_metrics.py [--side 256] [--classes 14] [--only lesion_f1 cldice]

Organs are ellipsoids that are predicted two voxels off along each axis; every metric is measured by itself, pooled.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch  # noqa: F401  the import is no cost of a metric
from jaxtyping import Int

from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.registry import builtin


def organs(side: int, classes: int, shift: int) -> Int[np.ndarray, "d h w"]:
    """A label map of ellipsoids, shifted along each axis; the same ones in each call."""
    rng, index = np.random.default_rng(0), np.zeros((side,) * 3, dtype=np.int16)
    axes = np.ogrid[:side, :side, :side]
    for number in range(1, classes + 1):
        centre, radius = rng.integers(side // 6, side - side // 6, 3), rng.integers(side // 21, side // 6, 3)
        inside = sum(((axis - c - shift) / r) ** 2 for axis, c, r in zip(axes, centre, radius, strict=True)) < 1
        index[inside] = number
    return index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256, help="voxels along each axis")
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--only", nargs="+", choices=list(builtin()), metavar="METRIC")
    given = parser.parse_args()
    names = given.only or [name for name in builtin() if name != "betti_matching_error"]
    label, pred = (organs(given.side, given.classes, shift) for shift in (0, 2))
    table = LabelTable.declare({"background": 0} | {f"organ_{k}": k for k in range(1, given.classes + 1)})
    prob = None
    if any(builtin()[name].needs_prob for name in names):
        prob = np.full((given.classes + 1, *label.shape), 0.3 / given.classes, dtype=np.float32)
        np.put_along_axis(prob, label[None].astype(np.int64), 0.7, axis=0)
    print(f"{(label > 0).sum()} voxels of organs\n\n| metric | processor seconds | peak, GiB |\n|---|---|---|")
    for name in names:
        scores, began = CaseScores(table, metrics=[name], pooled=True, resamples=1), time.process_time()
        scores.add("case", pred, label, label >= 0, spacing=(1.0,) * 3, unit="mm", prob=prob)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| `{name}` | {time.process_time() - began:.1f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
