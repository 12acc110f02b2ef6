"""Build the wheel without network, install it alone, and use it from an empty folder.

python scripts/check_wheel.py [--output dist]

Every console command shows its help, one trains on the phantom for a few steps, one predicts with the checkpoint, and
one evaluates. The libraries are those of this Python; the package is that of the wheel only.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRAINING = "debug=smoke experiment=phantom run_dir=run logger=csv plan.patch=[16,16,16] callback={} test=false"


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Output of a command; ends this one if it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    shown = shlex.join([Path(command[0]).name, *command[1:]])
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{shown}: exit code {done.returncode}")
    print(f"ok, {time.perf_counter() - began:5.1f} s: {shown}", flush=True)
    return done.stdout


def build(output: Path) -> Path:
    """The wheel, in ``output``, where an earlier one of this package is removed."""
    for earlier in output.glob("medseg-*.whl"):
        earlier.unlink()
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(output.resolve())], ROOT, {})
    (wheel,) = output.glob("medseg-*.whl")
    return wheel.resolve()


def install(wheel: Path, target: Path) -> None:
    """Only the wheel, into a folder that was not there."""
    words = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", "--target"]
    run([sys.executable, "-m", "pip", *words, str(target), str(wheel)], target.parent, {})


def use(installed: Path, folder: Path) -> None:
    """The commands of the installed wheel, in an empty folder."""
    environment = {
        "PYTHONPATH": str(installed), "HOME": str(folder), "MEDSEG_CACHE": str(folder / "cache"),
        "WANDB_MODE": "offline",
    }  # fmt: skip
    place = run([sys.executable, "-c", "import medseg; print(medseg.__file__)"], folder, environment).strip()
    if Path(place) != installed / "medseg/__init__.py":
        sys.exit(f"got medseg from {place}, expected {installed}; leave the folder of the repository off PYTHONPATH")
    commands = sorted(path for path in (installed / "bin").glob("medseg-*"))
    for command in commands:
        run([str(command), "--help"], folder, environment)
    train, predict, evaluate = (str(installed / f"bin/medseg-{name}") for name in ("train", "predict", "evaluate"))
    run([train, *shlex.split(TRAINING)], folder, environment)
    images = next((folder / "cache").rglob("imagesTs"))
    checkpoint = "checkpoint=run/checkpoints/last.ckpt"
    run([predict, checkpoint, f"input={images}", "output=predictions"], folder, environment)
    labels = images.with_name("labelsTs")
    run([evaluate, "predictions=predictions", f"labels={labels}", "output=scores"], folder, environment)
    if not (folder / "scores/report.html").is_file():
        sys.exit("medseg-evaluate wrote no report.html")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder of the wheel")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    wheel = build(given.output)
    with tempfile.TemporaryDirectory() as temporary:
        installed, folder = Path(temporary, "installed"), Path(temporary, "empty")
        folder.mkdir()
        install(wheel, installed)
        use(installed, folder)
    print(f"{wheel.relative_to(ROOT) if wheel.is_relative_to(ROOT) else wheel}: sound")


if __name__ == "__main__":
    main()
