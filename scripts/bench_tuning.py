"""Encoders and ways of tuning on one data set: what learns, memory, seconds a step, score.

    python scripts/bench_tuning.py --experiment burned_area_few --pretrain burned_area_mae --root DIR [--steps 150]
        [--encoders timm:resnet18 timm:vit_tiny_patch16_224] [--seeds 0 1 2]
        [--ways scratch full frozen linear_probe lora svfit nola sam_adapter side_tuning]

Every training is a process of its own, with ``model=encoder_decoder`` and ``model/decoder=unet`` (``linear`` for the
linear probe) on the data, split, patch and optimiser of the experiment. ``scratch`` begins with random weights, every
other way with those that the experiment of ``--pretrain`` gave the same encoder beforehand, or with those of
``--weights FAMILY:NAME=FILE``. With neither they are random as well: the score then tells nothing of the way, only
its costs are of use. Memory is the largest resident set of the process, scores and seconds (the median of the steps
after the fifth) are medians over the seeds. Prints a line of JSON for each training and a table in Markdown.
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

WAYS = ("scratch", "full", "frozen", "linear_probe", "lora", "svfit", "nola", "sam_adapter", "side_tuning")
_SKIPPED = 5  # first steps, which allocate


def main() -> None:
    """Run every combination, or the one of ``--one``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="burned_area")
    parser.add_argument("--root", required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--encoders", nargs="+", default=["timm:resnet18", "timm:vit_tiny_patch16_224"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--pretrain", help="an experiment, trained once for each encoder")
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
            name = encoder.partition(":")[2]
            if asked.pretrain:
                run_dir = Path(scratch) / f"{name}-pretrained"
                print(json.dumps({"encoder": name, "way": asked.pretrain} | apart(
                    [*common(asked.pretrain, encoder, asked, run_dir), f"seed={asked.seeds[0]}"]
                )), flush=True)  # fmt: skip
                files[encoder] = str(run_dir / "checkpoints" / "last.ckpt")
            for way in asked.ways:
                found = []
                for seed in asked.seeds:
                    given = overrides_of(asked, encoder, way, files.get(encoder), Path(scratch), seed)
                    found.append({"encoder": name, "way": way, "seed": seed} | apart(given))
                    print(json.dumps(found[-1]), flush=True)
                rows.append(middle(found))
    print(table(rows))


def common(experiment: str, encoder: str, asked: argparse.Namespace, run_dir: Path) -> list[str]:
    """What pretraining and tuning of an encoder share."""
    family, _, name = encoder.partition(":")
    return [
        f"experiment={experiment}", f"data.root={asked.root}", "model=encoder_decoder", f"model/encoder={family}",
        f"model.encoder.name={name}", f"model/decoder={asked.decoder}", "logger=csv", "callback.progress=null",
        f"cache_dir={run_dir.parent}/cache", f"run_dir={run_dir}",
    ]  # fmt: skip


def overrides_of(
    asked: argparse.Namespace, encoder: str, way: str, file: str | None, scratch: Path, seed: int
) -> list[str]:
    """One training."""
    weights = [f"model.encoder.weights={file}"] if file and way != "scratch" else []
    run_dir = scratch / f"{encoder.partition(':')[2]}-{way}-{seed}"
    if way == "linear_probe":
        asked = argparse.Namespace(**vars(asked) | {"decoder": "linear"})
    return [
        *common(asked.experiment, encoder, asked, run_dir), f"finetuning={'full' if way == 'scratch' else way}",
        f"seed={seed}", f"trainer.max_steps={asked.steps}", "trainer.max_time=null", *weights,
    ]  # fmt: skip


def middle(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of an encoder and a way: medians over the seeds, all scores, or the first refusal."""
    refused = [row for row in found if "refused" in row]
    if refused:
        return refused[0]
    merged = {key: statistics.median(row[key] for row in found) for key in ("peak_gib", "seconds", "score")}
    return found[0] | merged | {"scores": sorted(row["score"] for row in found)}


def apart(overrides: list[str]) -> dict[str, Any]:
    """One training in a process of its own; what the package refuses is told in its row, any other failure ends all."""
    command = [sys.executable, __file__, "--root", "-", "--one", json.dumps(overrides)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        _, refusal, why = done.stderr.strip().rpartition("\nmedseg.errors.InputError: ")
        if not refusal:
            raise RuntimeError(done.stderr)
        return {"refused": why}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def one(overrides: list[str]) -> dict[str, Any]:
    """Train, and tell what it took."""
    from lightning.pytorch import Callback
    from omegaconf import open_dict

    from medseg.hydra_app.compose import compose
    from medseg.metrics.summary import primary_metric
    from medseg.training import train

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

    cfg = compose("train", overrides)
    watch = sys.modules[__name__]
    watch.Watch = Watch  # type: ignore[attr-defined]
    with open_dict(cfg.callback):
        cfg.callback.watch = {"_target_": f"{__name__}.Watch"}
    scored = train.train(cfg) / "metrics.json"
    result = json.loads(scored.read_text(encoding="utf-8")) if scored.exists() else None  # pretraining has none
    return {
        "learning": Watch.learning,
        "parameters": Watch.total,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "seconds": round(statistics.median(Watch.seconds[_SKIPPED:]), 3),
        "score": round(result["summary"][primary_metric(result)]["mean"], 4) if result else None,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| encoder | way of tuning | parameters that learn | peak memory, GiB | a step, s | score |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        told = f"| {row['encoder']} | {row['way']} | "
        if "refused" in row:
            lines.append(f"{told}{row['refused']} | | | |")
            continue
        spread = f" ({row['scores'][0]:.3f} to {row['scores'][-1]:.3f})" if len(row["scores"]) > 1 else ""
        lines.append(
            f"{told}{row['learning']:,} | {row['peak_gib']:.2f} | {row['seconds']:.2f} | {row['score']:.3f}{spread} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
