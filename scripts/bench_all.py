"""Run the benchmark scripts with small budgets, to see that each works; figures need the budgets of their pages.

python scripts/bench_all.py [--data DIR] [--only bench_scene] [--list]

DIR has the data sets in the folders that ``FOLDERS`` names; without it, the scripts that need one are only listed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = Path(__file__).parent
SHORT = {
    "bench_cases": "--scenes 30",
    "bench_checkpoint": "2",
    "bench_doctor": "--sets hippocampus --cases 3 --output /dev/null",
    "bench_engine": "--cases 6 --side 24",
    "bench_evaluation": "--size 700 --window 256",
    "bench_ensemble": "--phantom 2",
    "bench_export": "--phantom 2 --most 1",
    "bench_hippocampus": "--minutes 0.05 --features 4 8 16",
    "bench_loader": "--rounds 1 --batches 2",
    "bench_loss_trainings": "--sets retina --ways dice_ce nacl --steps 2 --done /dev/null",
    "bench_losses": "--shape 12 10 --classes 3 --repeats 1 --only dice_ce cldice --sides 24 8 --output /dev/null",
    "bench_memory": "--patch 32 --models unet",
    "bench_metrics": "--side 32 --classes 2",
    "bench_missing": "--work runs/bench_missing --steps 2 --seeds 0 --folds 2 --ways left_out allow",
    "bench_partial": "--output runs/bench_partial --steps 2 --seeds 0 --cases 4 --sets hippocampus --ways less",
    "bench_polygons": "--size 300 --min-cells 2",
    "bench_predict": "--classes 5 --shape 96,96,80 --window 32 --members 2",
    "bench_published": "--sets burned_area --steps 2 --seeds 0",
    "bench_regimes": "--done /dev/null --sets hippocampus --methods control --steps 2 --seeds 0",
    "bench_scene": "--size 900 --rows 700 --window 256",
    "bench_scenes": "--experiment burned_area --minutes 0.1 --seeds 0 --only classical ours",
    "bench_sensors": "--steps 2 --seeds 0 --sets drawn --ways stacked gate",
    "bench_store_checks": "--cases 2 --side 48 --patch 24 --epochs 1 --steps 4 --rounds 1",
    "bench_tuning": "--experiment burned_area --steps 2 --seeds 0 --ways frozen --encoders timm:test_resnet",
    "bench_volume_encoders": "--sets hippocampus --steps 2 --seeds 0 --ways unet_3d",
    "bench_waiting": "--rounds 1 --steps 1 --threads 1",
    "bench_windows": "--size 1000 --rounds 1 --windows 2",
    "check_metrics": "--only instances centrelines",
    "check_resume": "--steps 30 --kill-after 12",
}
"""Budget of each script that is as short as can be."""
FOLDERS = {
    "bench_doctor": ".",
    "bench_hippocampus": "hippocampus",
    "bench_loader": "hippocampus",
    "bench_loss_trainings": ".",
    "bench_missing": "brats2013_crops",
    "bench_partial": ".",
    "bench_published": ".",
    "bench_regimes": ".",
    "bench_scenes": "s2_burned_area_california",
    "bench_tuning": "s2_burned_area_california",
    "bench_volume_encoders": ".",
}
"""Folder of the data that a script needs, below DIR."""


def command(name: str, data: str) -> list[str]:
    """Words of a script's short run, after ``python``; its path is relative to the repository."""
    root = ["--root", os.path.normpath(os.path.join(data, FOLDERS[name]))] if name in FOLDERS else []
    return [f"scripts/{name}.py", *root, *shlex.split(SHORT[name])]


def run(name: str, data: str) -> bool:
    """Run a script, with what it prints; whether it ended well."""
    began = time.perf_counter()
    root = str(SCRIPTS.parent)
    done = subprocess.run(
        [sys.executable, *command(name, data)], cwd=root, env=os.environ | {"PYTHONPATH": root}, check=False
    )
    result = "ok" if done.returncode == 0 else f"failed with {done.returncode}"
    print(f"{name}: {result}, {time.perf_counter() - began:.0f} s", flush=True)
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the data sets")
    parser.add_argument("--only", nargs="+", choices=list(SHORT), default=list(SHORT), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the commands, run nothing")
    given = parser.parse_args()
    failed = []
    for name in given.only:
        print(f"$ python {shlex.join(command(name, given.data or 'DIR'))}", flush=True)
        if given.list:
            continue
        if name in FOLDERS and not given.data:
            print(f"{name}: not run, needs --data DIR", flush=True)
        elif not run(name, given.data or ""):
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
