"""What a case costs medseg-predict beside its network: many tiny scenes, predicted by one command.

python scripts/bench_cases.py [--scenes 5000] [--size 16]

A U-Net of two features is trained for one step on the drawn scenes of the package, then predicts the same tiny scene
under many names. Printed are the whole command, and the time of each tenth of the cases: were a case to cost more the
more there are, the last tenth would take longer than the first. The second command finds everything done.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", type=int, default=5000)
    parser.add_argument("--size", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "run"
        _command("train", "data=phantom_scenes", f"run_dir={run}", f"cache_dir={folder / 'cache'}",
                 "trainer.max_steps=1", "test=false", "model.base_features=2", "logger=csv")  # fmt: skip
        checkpoint = run / "checkpoints/best.ckpt"
        _write_scenes(folder / "in", checkpoint, args.scenes, args.size)
        words = ("predict", f"checkpoint={checkpoint}", f"input={folder / 'in'}", f"output={folder / 'out'}")
        print(
            f"{args.scenes} scenes of {args.size} x {args.size}\n\n| command | seconds | per case, ms |\n|---|---|---|"
        )
        for title in ("first", "again, all done"):
            seconds, lines = _command(*words)
            print(f"| {title} | {seconds:.1f} | {1000 * seconds / args.scenes:.1f} |")
            spent = [
                int(h) * 3600 + int(m) * 60 + int(s) for h, m, s in re.findall(r"(\d+):(\d\d):(\d\d) spent", lines)
            ]
            if spent:
                tenths = np.diff([0, *spent])
                print(f"|  of which each tenth | {', '.join(map(str, tenths))} | |")


def _command(name: str, *words: str) -> tuple[float, str]:
    """Seconds and output of a command."""
    began = time.monotonic()
    code = f"import sys; sys.argv[0] = 'medseg-{name}'; from medseg.cli.{name} import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.monotonic() - began, done.stdout + done.stderr


def _write_scenes(folder: Path, checkpoint: Path, count: int, size: int) -> None:
    from rasterio.crs import CRS

    import medseg
    from medseg import formats

    names = [channel.name for channel in medseg.load(checkpoint).spec.channels]
    folder.mkdir()
    affine = np.array([[0, 10.0, 500_005], [-10, 0, 5_000_000], [0, 0, 1]])
    image = np.random.default_rng(0).random((len(names), size, size)).astype(np.float32)
    first = folder / "scene_00000.tif"
    formats.write_image(first, image, medseg.Grid((size, size), affine, CRS.from_epsg(32633).to_wkt()), names=names)
    for number in range(1, count):
        shutil.copy(first, folder / f"scene_{number:05d}.tif")


if __name__ == "__main__":
    main()
