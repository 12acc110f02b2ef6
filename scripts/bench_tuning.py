"""Encoders and ways of tuning on one data set: what learns, memory, seconds a step, score.

    python scripts/bench_tuning.py --experiment burned_area --root DIR [--steps 150] [--weights CHECKPOINT]
        [--encoders timm:resnet18 timm:convnext_atto timm:vit_tiny_patch16_224]
        [--ways scratch full frozen lora svfit nola sam_adapter side_tuning]

Every row is a training in a process of its own, with ``model=segmenter`` and ``model/decoder=unet`` on the data,
split, patch and optimiser of the experiment. ``scratch`` begins with random weights, every other way with those of
``--weights FAMILY:NAME=FILE`` where such are given for the encoder, else with random ones as well (then its score
tells nothing of the way, only its costs are of use). Memory is the largest resident set of the process; seconds
are the median of the steps after the fifth. Prints a table in Markdown and a line of JSON for each row.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS = ("scratch", "full", "frozen", "lora", "svfit", "nola", "sam_adapter", "side_tuning")
_SKIPPED = 5  # first steps, which allocate


def main() -> None:
    """Run every combination, or the one of ``--one``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="burned_area")
    parser.add_argument("--root", required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--encoders", nargs="+", default=["timm:resnet18", "timm:vit_tiny_patch16_224"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--weights", nargs="*", default=[], help="FAMILY:NAME=FILE")
    parser.add_argument("--decoder", default="unet")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(json.loads(asked.one))))
        return
    files = dict(pair.split("=", 1) for pair in asked.weights)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for encoder in asked.encoders:
            for way in asked.ways:
                overrides = overrides_of(asked, encoder, way, files.get(encoder), Path(scratch))
                row = {"encoder": encoder.partition(":")[2], "way": way} | apart(overrides)
                print(json.dumps(row), flush=True)
                rows.append(row)
    print(table(rows))


def overrides_of(asked: argparse.Namespace, encoder: str, way: str, file: str | None, scratch: Path) -> list[str]:
    """The training of one row."""
    family, _, name = encoder.partition(":")
    weights = [f"model.encoder.weights={file}"] if file and way != "scratch" else []
    return [
        f"experiment={asked.experiment}", f"data.root={asked.root}", "model=segmenter", f"model/encoder={family}",
        f"model.encoder.name={name}", f"model/decoder={asked.decoder}", f"peft={'full' if way == 'scratch' else way}",
        f"trainer.max_steps={asked.steps}", "trainer.max_time=null", "logger=csv", "callbacks.progress=null",
        f"cache_dir={scratch}/cache", f"run_dir={scratch}/{name}-{way}", *weights,
    ]  # fmt: skip


def apart(overrides: list[str]) -> dict[str, Any]:
    """One training in a process of its own; what it could not do is told in its row."""
    command = [sys.executable, __file__, "--root", "-", "--one", json.dumps(overrides)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        return {"refused": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def one(overrides: list[str]) -> dict[str, Any]:
    """Train, and tell what it took."""
    from lightning.pytorch import Callback
    from omegaconf import open_dict

    from medseg import quiet, train
    from medseg.command import compose

    class Watch(Callback):
        """Seconds of each step, and how many parameters learn."""

        seconds: list[float] = []
        learning = total = 0

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            parameters = list(pl_module.network.parameters())
            Watch.total = sum(p.numel() for p in parameters)
            Watch.learning = sum(p.numel() for p in parameters if p.requires_grad)

        def on_train_batch_start(self, *_: Any) -> None:
            self.began = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            Watch.seconds.append(time.perf_counter() - self.began)

    quiet.settle()
    cfg = compose("train", overrides)
    watch = sys.modules[__name__]
    watch.Watch = Watch  # type: ignore[attr-defined]
    with open_dict(cfg.callbacks):
        cfg.callbacks.watch = {"_target_": f"{__name__}.Watch"}
    result = json.loads((train.train(cfg) / "metrics.json").read_text())
    headline = "iou" if "iou" in result["summary"] else "dice"
    return {
        "learning": Watch.learning,
        "parameters": Watch.total,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "seconds": round(statistics.median(Watch.seconds[_SKIPPED:]), 3),
        headline: round(result["summary"][headline]["mean"], 4),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| encoder | way of tuning | learns, of all | peak memory | a step | score |", "|---|---|---|---|---|---|"]
    for row in rows:
        told = f"| {row['encoder']} | {row['way']} | "
        if "refused" in row:
            lines.append(f"{told}{row['refused']} | | | |")
            continue
        share = f"{row['learning'] / 1e6:.2f} M of {row['parameters'] / 1e6:.2f} M"
        score = row.get("iou", row.get("dice"))
        lines.append(f"{told}{share} | {row['peak_gib']:.2f} GiB | {row['seconds']:.2f} s | {score:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
