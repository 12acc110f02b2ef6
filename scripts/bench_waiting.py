"""A training step on a CPU whose idle threads spin, as OpenMP's default is, or sleep, as medseg asks for.

    python scripts/bench_waiting.py [--rounds 5] [--steps 10] [--threads N]

On the machine as it is, and beside one process that is busy; each step is that of a small U-Net on two patches of
40 x 56 x 40 in bfloat16 where the CPU has it. Rounds alternate; printed are medians over rounds of the median step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

POLICIES = {"default": {}, "passive": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}}
PATCH = (40, 56, 40)


def seconds(steps: int) -> float:
    """Median duration of a step in this process."""
    import torch
    from monai.networks.nets.basic_unet import BasicUNet

    from medseg.runtime.cpu import has_bf16

    torch.manual_seed(0)
    network = BasicUNet(3, 1, 3, features=(8, 16, 32, 64, 128, 8)).to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    patches = torch.randn(2, 1, *PATCH).contiguous(memory_format=torch.channels_last_3d)
    spent = []
    for _ in range(steps + 3):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
            loss = network(patches).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent[3:])


def measured(asked: argparse.Namespace, settings: dict[str, str]) -> float:
    """The same in a process with these settings."""
    names = {name for policy in POLICIES.values() for name in policy}
    environment = {name: value for name, value in os.environ.items() if name not in names} | settings
    command = [sys.executable, "-W", "ignore", __file__, "--child", "--steps", str(asked.steps)]
    environment["OMP_NUM_THREADS"] = str(asked.threads)
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Read the arguments, measure in rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(seconds(asked.steps))
        return
    print(f"| {asked.threads} threads | {' | '.join(POLICIES)} | default / passive |\n|---|---|---|---|")
    for n_busy in (0, 1):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_busy)]
        try:
            rounds = [{name: measured(asked, own) for name, own in POLICIES.items()} for _ in range(asked.rounds)]
        finally:
            for process in busy:
                process.kill()
                process.wait()
        medians = [statistics.median(one[name] for one in rounds) for name in POLICIES]
        ratio = statistics.median(one["default"] / one["passive"] for one in rounds)
        place = "beside a busy process" if n_busy else "as the machine is"
        print(f"| {place} | {' | '.join(f'{value:.3f} s' for value in medians)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
