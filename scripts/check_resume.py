"""Kill a training with SIGKILL, resume it, and compare its weights with those of one left alone.

python scripts/check_resume.py [--steps 60] [--kill-after 8]
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from medseg import checkpoint

SETTINGS = [
    "experiment=phantom", "data.n_cases=10", "data.shape=[32,36,28]", "trainer.steps_per_epoch=10",
    "plan.patch=[24,24,24]",
    "model.base_features=8", "logger=csv", "test=false", "trainer.accelerator=cpu", "trainer.deterministic=true",
]  # fmt: skip


def command(folder: Path, name: str, steps: int, *more: str) -> list[str]:
    run = [f"run_dir={folder}/{name}", f"cache_dir={folder}/cache", f"trainer.max_steps={steps}"]
    return [sys.executable, "-c", "from medseg.cli.train import main; main()", *SETTINGS, *run, *more]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--kill-after", type=int, default=25, help="optimiser steps, as metrics.csv shows them")
    asked = parser.parse_args()
    if not 10 <= asked.kill_after < asked.steps:
        parser.error(
            f"--kill-after {asked.kill_after}: expected 10 (the first checkpoint) or more, and less than --steps"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run(command(folder, "whole", asked.steps), check=True, stdout=subprocess.DEVNULL)
        victim = subprocess.Popen(command(folder, "killed", asked.steps), stdout=subprocess.DEVNULL)
        log = folder / "killed" / "metrics.csv"
        while victim.poll() is None and steps_logged(log) < asked.kill_after:
            time.sleep(0.05)
        victim.send_signal(signal.SIGKILL)
        print(f"killed at step {steps_logged(log)} or later, exit code {victim.wait()}")
        subprocess.run(command(folder, "killed", asked.steps, "ckpt_path=last"), check=True, stdout=subprocess.DEVNULL)
        one, two = (
            dict(checkpoint.read(folder / name / "checkpoints" / "last.ckpt").network_state)
            for name in ("whole", "killed")
        )
    equal = sum(torch.equal(one[name], two[name]) for name in one)
    print(f"{equal} of {len(one)} tensors are equal bit for bit after {asked.steps} steps")
    sys.exit(0 if equal == len(one) and len(one) else 1)


def steps_logged(log: Path) -> int:
    lines = log.read_text(encoding="utf-8").splitlines()[1:] if log.exists() else []
    return max((int(line.split(",")[1]) for line in lines if line), default=-1)


if __name__ == "__main__":
    main()
