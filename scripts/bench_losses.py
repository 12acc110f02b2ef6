"""Time and memory of every option of conf/loss, forward and backward, and of Betti matching, as Markdown tables.

python scripts/bench_losses.py [--shape 96 96 96] [--classes 14] [--batch 2] [--repeats 3] [--seconds 60]
    [--device cpu] [--only dice_ce lovasz] [--sides 256 64]

Each option runs in a process of its own with one thread, on logits of drawn structures [batch, classes, *shape], as a
network in training gives them: right in most cells, not sure of any. It repeats until --repeats or --seconds are
reached; the time is the median, and memory is what the peak of the process (on a GPU, of what is allocated) is above
that before the loss. Betti matching runs once on one structure of a square and of a cube with --sides cells: of such a
prediction, of one that is sure, and of noise; its seconds are those of the processor.
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
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from medseg.factory.instantiate import instantiate
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir
from medseg.labels import LabelTable
from medseg.losses.betti_matching import betti_matching

MIB = 1 << 20


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
    began = time.perf_counter()
    while len(forward) < args.repeats and (not forward or time.perf_counter() - began < args.seconds):
        logits.grad = None
        start = _now(args.device)
        total, _ = loss(logits, label, valid, further)
        middle = _now(args.device)
        total.backward()
        forward.append(middle - start)
        backward.append(_now(args.device) - middle)
    memory = (_peak(args.device) - before) / MIB
    return {"forward": statistics.median(forward), "backward": statistics.median(backward), "memory": memory}


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


def row(option: str, path: Path, given: list[str]) -> str:
    """A row of the table, from a process of its own."""
    words = [sys.executable, __file__, *given, "--one", option, "--input", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"| `{option}` | failed: {last} | | |"
    result = json.loads(done.stdout.splitlines()[-1])
    return f"| `{option}` | {result['forward']:.2f} | {result['backward']:.2f} | {result['memory']:.0f} |"


def matchings(square: int, cube: int) -> Iterator[str]:
    """Rows of Betti matching, of one structure."""
    for shape in ((square,) * 2, (cube,) * 3):
        label, logits = drawn(1, 2, shape)
        target, inside = label[0] == 1, (logits[:, 1] - logits[:, 0])[0]
        random = torch.from_numpy(np.random.default_rng(1).random(shape, dtype=np.float32))
        kinds = {"in training": inside.sigmoid(), "sure": (4 * inside).sigmoid(), "noise": random}
        for kind, prob in kinds.items():
            exact, rounded = (matching_seconds(prob, target, levels) for levels in (None, 256))
            yield f"| {' x '.join(map(str, shape))} | {kind} | {exact:.2f} | {rounded:.2f} |"


def matching_seconds(prob: torch.Tensor, target: torch.Tensor, levels: int | None) -> float:
    """Seconds of the processor, forward and backward."""
    start = time.process_time()
    betti_matching(prob[None].clone().requires_grad_(), target[None], levels=levels).sum().backward()
    return time.process_time() - start


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
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--input", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.one:
        print(json.dumps(measured(args.one, args.input, args)))
        return
    size = ", ".join(map(str, (args.batch, args.classes, *args.shape)))
    machine = torch.cuda.get_device_name() if args.device == "cuda" else f"{platform.machine()}, one thread"
    print(f"[{size}], {machine}, torch {torch.__version__.partition('+')[0]}")
    print(f"`{shlex.join(['python', 'scripts/bench_losses.py', *sys.argv[1:]])}`\n", flush=True)
    print("| loss | forward, s | backward, s | peak memory, MiB |\n|---|---|---|---|")
    given = ["--device", args.device, "--repeats", str(args.repeats), "--seconds", str(args.seconds)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batch.pt"
        torch.save(drawn(args.batch, args.classes, tuple(args.shape)), path)
        for option in args.only:
            print(row(option, path, given), flush=True)
    if find_spec("topolosses") is None:
        print("\nBetti matching: not run, needs topolosses")
        return
    torch.set_num_threads(1)
    print("\n| cells | probability | Betti matching, CPU s | with levels=256 |\n|---|---|---|---|")
    for line in matchings(*args.sides):
        print(line, flush=True)


if __name__ == "__main__":
    main()
