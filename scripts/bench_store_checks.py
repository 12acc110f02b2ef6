"""What checksums cost when windows of volumes are read from the patch store.

python scripts/bench_store_checks.py [--cases 12] [--side 192] [--patch 96] [--epochs 5] [--steps 100] [--rounds 3]

Writes volumes of noise on a gradient (LZ4 gains a third) to a store, then reads random windows as a training does:
``steps`` times two windows an epoch, each from a random case. The sides take turns epoch by epoch: from the file
without comparison (as before there were checksums), mapped into memory without, and as it is, mapped with the
comparison of chunks. Each round opens all cases anew, as a training does. A chunk is compared once, when a window of
the process first touches it, so that the first epoch costs most: its ratio is printed by itself.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from medseg.data.preprocessing.preprocess import PreprocessTrace
from medseg.data.store import checked_array
from medseg.data.store.stored_case import StoredCase, write_case
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.sample import Sample

SIDES = ("from the file", "mapped", "mapped, checked")


def write(folder: Path, number: int, side: int, patch: int) -> StoredCase:
    """A volume of the store with smooth cells and some noise."""
    rng = np.random.default_rng(number)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    image = ramp[:, None, None] + ramp[None, :, None] * ramp[None, None, :] + rng.normal(0, 0.1, (side,) * 3)
    label = (image > 1).astype(np.int16)
    grid = Grid.regular((side,) * 3, (1.0,) * 3)
    rounded = np.round(image, 2).astype(np.float32)[None]
    sample = Sample(rounded, label, np.ones(grid.shape, bool), grid, f"case{number}", f"case{number}")
    windows = [(Box.whole(grid.shape), sample)]
    return write_case(
        folder / f"case{number}", windows, grid, PreprocessTrace.unmoved(grid), (("a", (1,)),), (patch,) * 3
    )


def opened(folder: Path, side: str) -> StoredCase:
    """A case whose arrays are open, mapped or not."""
    most, case = checked_array.MOST_MAPPED, StoredCase(folder)
    checked_array.MOST_MAPPED = 0 if side == SIDES[0] else most
    try:
        case.check()
    finally:
        checked_array.MOST_MAPPED = most
    return case


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, value in (("cases", 12), ("side", 192), ("patch", 96), ("epochs", 5), ("steps", 100), ("rounds", 3)):
        parser.add_argument(f"--{option}", type=int, default=value)
    args = parser.parse_args()
    compare = checked_array.CheckedArray._check
    spent: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as temporary:
        folders = [write(Path(temporary), n, args.side, args.patch).folder for n in range(args.cases)]
        for number in range(args.rounds):
            cases = {side: [opened(folder, side) for folder in folders] for side in SIDES}
            rng = np.random.default_rng(number)
            for side in SIDES:
                spent[side].append([])
            for epoch in range(args.epochs):
                draws = [
                    (rng.integers(args.cases), rng.integers(0, args.side - args.patch, 3))
                    for _ in range(2 * args.steps)
                ]
                for side in SIDES if (number + epoch) % 2 else reversed(SIDES):
                    checked_array.CheckedArray._check = compare if side == SIDES[2] else lambda self, window: None  # type: ignore[method-assign]
                    began = time.perf_counter()
                    for case, start in draws:
                        cases[side][case].read(Box.at(tuple(int(v) for v in start), (args.patch,) * 3))
                    spent[side][-1].append(time.perf_counter() - began)
    checked_array.CheckedArray._check = compare  # type: ignore[method-assign]
    windows = 2 * args.steps
    print(f"{args.cases} volumes of {args.side}^3, windows of {args.patch}^3, {windows} windows an epoch")
    print("side             first epoch, windows/s   later epochs, windows/s")
    for side in SIDES:
        first = statistics.median(epochs[0] for epochs in spent[side])
        later = statistics.median(t for epochs in spent[side] for t in epochs[1:])
        print(f"{side:<15}  {windows / first:>22.1f}   {windows / later:>23.1f}")
    for side in SIDES[1:]:
        for what, part in (("first epoch", slice(0, 1)), ("later epochs", slice(1, None))):
            ratios = [
                now / before
                for these, those in zip(spent[side], spent[SIDES[0]], strict=True)
                for now, before in zip(these[part], those[part], strict=True)
            ]
            print(f"{side}, {what}: {statistics.median(ratios):.3f} of the time (median of {len(ratios)} pairs)")
        total = sum(map(sum, spent[side])) / sum(map(sum, spent[SIDES[0]]))
        print(f"{side}, in all: {total:.3f} of the time over {args.epochs} epochs, first epochs included")


if __name__ == "__main__":
    main()
