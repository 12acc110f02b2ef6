"""Time and memory of every option of conf/loss, forward and backward, and of Betti matching, as Markdown tables.

python scripts/bench_losses.py [--shape 96 96 96] [--classes 14] [--batch 2] [--repeats 3] [--seconds 60]
    [--limit 600] [--device cpu] [--only dice_ce lovasz] [--sides 256 64] [--output runs/bench_losses.jsonl]

Each row runs in a process of its own with one thread, which is ended after --limit seconds, and is a line of --output.
A row that is there already, of the same settings, is printed and not run; one that failed runs again, and one that was
ended runs again with a higher limit.

An option gets logits of drawn structures [batch, classes, *shape], as a network in training gives them: right in most
cells, not sure of any. It repeats until --repeats or --seconds are reached; the time is the median, and memory is what
the peak of the process (on a GPU, of what is allocated) is above that before the loss. Betti matching runs on one
structure of a square and of a cube with --sides cells: of such a prediction, of one that is sure, and of noise; its
seconds are those of the processor, the median too.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from medseg.factory.instantiate import instantiate
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir
from medseg.labels import LabelTable
from medseg.losses.betti_matching import betti_matching

MIB = 1 << 20
KINDS = ("in training", "sure", "noise")
"""Probabilities that Betti matching is measured on."""
Row = dict[str, Any]
"""Settings of a row, and its figures or why it has none, as a line of the output."""


def options() -> list[str]:
    """The options of loss, found by walking conf/loss."""
    return sorted(path.stem for path in (conf_dir() / "loss").glob("*.yaml"))


def drawn(batch: int, classes: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of smooth structures, and logits that are right in most cells."""
    rng = np.random.default_rng(0)
    fields = [[gaussian_filter(rng.standard_normal(shape), 4) for _ in range(classes)] for _ in range(batch)]
    scores = torch.from_numpy(np.array(fields, dtype=np.float32))
    scores = scores / scores.std()
    noise = torch.from_numpy(rng.standard_normal(scores.shape).astype(np.float32))
    return scores.argmax(dim=1), 3 * scores + noise


def measured(option: str, path: Path, args: argparse.Namespace) -> dict[str, float]:
    """Seconds of both passes and peak memory of one option, in this process."""
    torch.set_num_threads(1)
    label, logits = (part.to(args.device) for part in torch.load(path, weights_only=True))
    names = {f"class_{i}": i for i in range(logits.shape[1])}
    table = LabelTable.declare({"background": 0} | {name: i for name, i in names.items() if i})
    loss = instantiate(compose("train", [f"loss={option}"]).loss)(labels=table).to(args.device)
    valid, logits = torch.ones_like(label).bool(), logits.requires_grad_()
    further = {"progress": 1.0, "image": torch.zeros(len(label), 1, *label.shape[1:], device=args.device)}
    before, forward, backward = _reset_peak(args.device), [], []

    def once() -> None:
        logits.grad = None
        start = _now(args.device)
        total, _ = loss(logits, label, valid, further)
        middle = _now(args.device)
        total.backward()
        forward.append(middle - start)
        backward.append(_now(args.device) - middle)

    repeated(once, args)
    memory = (_peak(args.device) - before) / MIB
    return {"forward": statistics.median(forward), "backward": statistics.median(backward), "memory": memory}


def repeated(once: Callable[[], None], args: argparse.Namespace) -> None:
    """Do something --repeats times, or fewer if --seconds are over."""
    began = time.perf_counter()
    for number in range(args.repeats):
        if number and time.perf_counter() - began >= args.seconds:
            return
        once()


def _now(device: str) -> float:
    """Seconds, when the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _reset_peak(device: str) -> float:
    """Begin to measure peak memory; what is in use, in bytes."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _resident("VmRSS")


def _peak(device: str) -> float:
    """Peak memory since then, in bytes."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM")


def _resident(key: str) -> float:
    """Resident memory of this process, in bytes: now (VmRSS), or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def rows(args: argparse.Namespace) -> list[Row]:
    """Settings of every row: of the options, and of Betti matching."""
    size = {"shape": args.shape, "classes": args.classes, "batch": args.batch}
    same = {"device": args.device, "repeats": args.repeats, "seconds": args.seconds}
    losses: list[Row] = [{"loss": option, **size, **same} for option in args.only]
    shapes = [[args.sides[0]] * 2, [args.sides[1]] * 3] if find_spec("topolosses") else []
    return losses + [{"matching": kind, "shape": shape, **same} for shape in shapes for kind in KINDS]


def stored(path: Path) -> list[Row]:
    """The rows of an output; none without one."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def finished(row: Row, before: list[Row], limit: float) -> Row | None:
    """The stored row of the same settings that need not run again."""
    for line in before:
        if line.items() >= row.items() and ("figures" in line or line.get("over", 0) >= limit):
            return line
    return None


def run(row: Row, path: Path, limit: float) -> Row:
    """A row with its figures, from a process of its own."""
    words = [sys.executable, __file__, "--one", json.dumps(row), "--input", str(path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return row | {"over": limit}
    if done.returncode:
        return row | {"failed": (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]}
    return row | {"figures": json.loads(done.stdout.splitlines()[-1])}


def printed(row: Row) -> str:
    """A row of the table."""
    columns = (
        {"forward": ".2f", "backward": ".2f", "memory": ".0f"} if "loss" in row else {"exact": ".2f", "256": ".2f"}
    )
    begin = f"`{row['loss']}`" if "loss" in row else f"{' x '.join(map(str, row['shape']))} | {row['matching']}"
    if "figures" in row:
        cells = [format(row["figures"][name], form) for name, form in columns.items()]
    else:
        reason = f"failed: {row['failed']}" if "failed" in row else f"more than {row['over']:g} s"
        cells = [reason, *[""] * (len(columns) - 1)]
    return f"| {begin} | {' | '.join(cells)} |"


def matching(row: Row, args: argparse.Namespace) -> dict[str, float]:
    """Seconds of the processor of Betti matching, forward and backward, without and with rounding."""
    torch.set_num_threads(1)
    shape = tuple(row["shape"])
    label, logits = drawn(1, 2, shape)
    inside = (logits[:, 1] - logits[:, 0])[0]
    random = torch.from_numpy(np.random.default_rng(1).random(shape, dtype=np.float32))
    prob = dict(zip(KINDS, (inside.sigmoid(), (4 * inside).sigmoid(), random), strict=True))[row["matching"]]
    figures = {}
    for name, levels in (("exact", None), ("256", 256)):
        seconds: list[float] = []
        repeated(partial(matching_seconds, prob, label[0] == 1, levels, seconds), args)
        figures[name] = statistics.median(seconds)
    return figures


def matching_seconds(prob: torch.Tensor, target: torch.Tensor, levels: int | None, seconds: list[float]) -> None:
    """Append seconds of the processor, forward and backward."""
    start = time.process_time()
    betti_matching(prob[None].clone().requires_grad_(), target[None], levels=levels).sum().backward()
    seconds.append(time.process_time() - start)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[96, 96, 96], help="cells along each axis")
    parser.add_argument("--classes", type=int, default=14, help="with the background")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60, help="after which an option is not repeated")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", nargs="+", metavar="OPTION", default=options(), help="options; all without it")
    parser.add_argument("--sides", type=int, nargs=2, default=[256, 64], help="of the square and the cube for matching")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which the process of a row is ended")
    parser.add_argument("--output", type=Path, default=Path("runs/bench_losses.jsonl"), help="a line for each row")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--input", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def one(row: Row, path: Path) -> dict[str, float]:
    """The figures of a row, in this process."""
    args = argparse.Namespace(**row)
    return measured(row["loss"], path, args) if "loss" in row else matching(row, args)


def main() -> None:
    args = arguments()
    if args.one:
        print(json.dumps(one(json.loads(args.one), args.input)))
        return
    size = ", ".join(map(str, (args.batch, args.classes, *args.shape)))
    machine = torch.cuda.get_device_name() if args.device == "cuda" else f"{platform.machine()}, one thread"
    print(f"[{size}], {machine}, torch {torch.__version__.partition('+')[0]}")
    print(f"`{shlex.join(['python', 'scripts/bench_losses.py', *sys.argv[1:]])}`\n", flush=True)
    print("| loss | forward, s | backward, s | peak memory, MiB |\n|---|---|---|---|", flush=True)
    before, every = stored(args.output), rows(args)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, args.output.open("a") as lines:
        path = Path(folder) / "batch.pt"
        for number, row in enumerate(every):
            if "matching" in row and "loss" in every[number - 1]:
                print("\n| cells | probability | Betti matching, CPU s | with levels=256 |\n|---|---|---|---|")
            result = finished(row, before, args.limit)
            if result is None:
                if "loss" in row and not path.exists():
                    torch.save(drawn(args.batch, args.classes, tuple(args.shape)), path)
                result = run(row, path, args.limit)
                lines.write(json.dumps(result) + "\n")
                lines.flush()
            print(printed(result), flush=True)
    if find_spec("topolosses") is None:
        print("\nBetti matching: not run, needs topolosses")


if __name__ == "__main__":
    main()
