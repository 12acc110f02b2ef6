"""Time of reading a checkpoint, with and without its checksums.

python scripts/bench_checkpoint.py [MB]

Prints medians over 15 repetitions, in milliseconds, with the file in the page cache: reading the file into memory as
torch does by itself, reading it mapped and checked (``checkpoint.read``), and both again with the copy of its tensors
into a network that follows; and the checksums alone, by CRC-32 and by sha256.
"""

import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medseg import checkpoint
from medseg.data.preprocessing.normalise import Normalisation
from medseg.labels import LabelTable
from medseg.planning.plan import Plan
from medseg.runtime import integrity
from medseg.sample import Channel, DataSpec


def median(work: Callable[[], Any], repetitions: int = 15) -> float:
    """Milliseconds."""
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def sha256(state: dict[str, Any]) -> None:
    """Of all tensors."""
    for tensor in state.values():
        hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy()).digest()


def main(megabytes: int) -> None:
    """Write a checkpoint, read it in each way, print the medians."""
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Conv3d(96, 96, 3, bias=False) for _ in range(max(1, megabytes))))
    state = {f"network.{name}": tensor for name, tensor in net.state_dict().items()}
    size = sum(tensor.nbytes for tensor in state.values()) / 1e6
    spec = DataSpec((Channel("R"),), LabelTable.declare({"background": 0, "a": 1}), 2)
    plan = Plan((1.0, 1.0), (8, 8), 2, ((3, 3),), ((1, 1),), (Normalisation("zscore"),), masked=False)
    metadata = checkpoint.RunMetadata.of_new_run({}, spec, plan, cases={})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "best.ckpt"
        checkpoint.save({"state_dict": state, "medseg": metadata.to_dict()}, path)

        def plain() -> dict[str, Any]:
            return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]

        def unchecked() -> dict[str, Any]:
            return {name.removeprefix("network."): tensor for name, tensor in plain()["state_dict"].items()}

        rows = {
            "torch.load": median(plain),
            "checkpoint.read": median(lambda: checkpoint.read(path)),
            "torch.load, into a network": median(lambda: net.load_state_dict(unchecked())),
            "checkpoint.read, into a network": median(
                lambda: net.load_state_dict(dict(checkpoint.read(path).network_state))
            ),
            "CRC-32 alone": median(lambda: integrity.crc32(state)),
            "sha256 alone": median(lambda: sha256(state)),
        }
    print(f"{size:.0f} MB of tensors, {torch.get_num_threads()} thread(s)")
    for name, took in rows.items():
        print(f"{name:34}{took:8.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
