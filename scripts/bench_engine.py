"""Engines of medseg-predict on the same cases: their time, and what is left after a worker was killed.

python scripts/bench_engine.py [--root HIPPOCAMPUS] [--cases 40] [--steps 1] [--side 64]

A small network is trained for some steps on images of the hippocampus, or without --root on volumes that the package
draws (--side voxels an axis). Then medseg-predict works on the cases in one process, in two, by two workers of Dask,
and by two workers of Dask of which one is killed by SIGKILL when half of the label files are there. All have to write
equal files, and none may be missing; otherwise the script ends with 1.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ENGINES = {
    "engine=local": (),
    "engine=local, 2 processes": ("engine.processes=2",),
    "engine=dask, 2 workers": ("engine=dask", "engine.workers=2"),
    "engine=dask, 2 workers, one killed": ("engine=dask", "engine.workers=2"),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="hippocampus in nnU-Net's layout")
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--steps", type=int, default=1, help="of the training")
    parser.add_argument("--side", type=int, default=64, help="of drawn volumes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = [f"data.root={args.root}"] if args.root else _drawn(folder, args.cases, args.side)
        checkpoint, images = _trained(folder, data, hippocampus=bool(args.root), steps=args.steps)
        _choose(images, folder / "in", args.cases)
        print(f"{args.cases} cases, {_machine()}\n\n| engine | seconds | label files |\n|---|---|---|")
        results = {title: _predict(title, words, checkpoint, folder) for title, words in ENGINES.items()}
    first = next(iter(results.values()))
    for title, found in results.items():
        if len(found) != args.cases or found != first:
            sys.exit(
                f"{title}: {len(found)} of {args.cases} label files, equal to those of the first: {found == first}"
            )
    print("\nThe label files of all are equal.")


def _drawn(folder: Path, cases: int, side: int) -> list[str]:
    shape = f"data.shape=[{side},{side},{side}]"
    return [f"data.root={folder / 'drawn'}", f"data.n_cases={max(cases, 3)}", "data.n_test=0", shape]


def _trained(folder: Path, data: list[str], *, hippocampus: bool, steps: int) -> tuple[Path, Path]:
    """A checkpoint, and the folder of the images."""
    recipe = ["experiment=hippocampus"] if hippocampus else ["data=phantom_volumes"]
    words = [*recipe, *data, "model=unet_tiny", "debug=smoke", "split.n_folds=3", "test=false", "logger=csv"]
    words += [f"trainer.max_steps={steps}", f"trainer.steps_per_epoch={steps}"]
    words += [f"run_dir={folder / 'run'}", f"cache_dir={folder / 'cache'}"]
    _end(_start("train", *words))
    root = Path(data[0].partition("=")[2])
    return folder / "run/checkpoints/best.ckpt", root / "imagesTr"


def _choose(images: Path, target: Path, cases: int) -> None:
    target.mkdir()
    paths = sorted(images.glob("*.nii.gz"))
    if len(paths) < cases:
        sys.exit(f"{images}: got {len(paths)} images, expected {cases}; give --cases {len(paths)}")
    for path in paths[:cases]:
        (target / path.name).symlink_to(path.resolve())


def _predict(title: str, words: tuple[str, ...], checkpoint: Path, folder: Path) -> dict[str, bytes]:
    """The label files, by name; prints a row of the table."""
    output = folder / re.sub(r"\W+", "-", title)
    began = time.monotonic()
    command = _start("predict", f"checkpoint={checkpoint}", f"input={folder / 'in'}", f"output={output}", *words)
    if "killed" in title:
        _kill_a_worker(command, output, len(list((folder / "in").iterdir())) // 2)
    _end(command)
    seconds = time.monotonic() - began
    found = {path.name: path.read_bytes() for path in sorted(output.glob("*.nii.gz"))}
    stored = json.loads((output / "predictions.json").read_text(encoding="utf-8"))["cases"]
    unfinished = [name for name, entry in stored.items() if entry["unfinished"]]
    if unfinished or stored.keys() != found.keys():
        sys.exit(f"{title}: the record and the label files differ; unfinished are {unfinished}")
    print(f"| {title} | {seconds:.1f} | {len(found)} |", flush=True)
    return found


def _kill_a_worker(command: subprocess.Popen[str], output: Path, half: int) -> None:
    """Kill a worker while it works, once half of the label files are there."""
    while command.poll() is None and len(list(output.glob("*.nii.gz"))) < half:
        time.sleep(0.02)
    workers = [p for p in psutil.Process(command.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
    if not workers:
        sys.exit("no worker is left to be killed; take more cases")
    workers[0].kill()


def _start(name: str, *words: str) -> subprocess.Popen[str]:
    code = f"import sys; sys.argv[0] = 'medseg-{name}'; from medseg.cli.{name} import main; main()"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([sys.executable, "-c", code, *words], text=True, **pipes)  # type: ignore[call-overload]


def _end(command: subprocess.Popen[str]) -> None:
    printed, _ = command.communicate()
    if command.returncode:
        sys.exit(printed[-3000:])


def _machine() -> str:
    return f"{len(psutil.Process().cpu_affinity() or [])} cores of {platform.processor() or platform.machine()}"


if __name__ == "__main__":
    main()
