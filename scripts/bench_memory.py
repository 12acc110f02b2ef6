"""What a training step needs: the estimate from a network's shapes against the measured peak of a process.

    python scripts/bench_memory.py [--patch 64] [--batch 2] [--models unet swin_unetr ...]

Each network makes one step in float32 on the CPU, in a process of its own: forward pass, backward pass, AdamW. Printed
are the growth of its peak resident memory above that before the step, and what the planner counts: the bytes that the
backward pass reads, with value, gradient and two averages of each parameter. Last, the estimate in half precision.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

MODELS = ("unet", "residual_unet", "segresnet", "swin_unetr", "unetr", "mednext")


def measured(name: str, patch: int, batch: int) -> tuple[float, float, float]:
    """Growth of the peak, what is counted, and the estimate, in GB."""
    import torch

    from medseg.factory.network import _made
    from medseg.hydra_app.compose import compose
    from medseg.models.network import ModelSpec
    from medseg.planning.activations import need_of
    from medseg.planning.rules import topology
    from medseg.sample import Channel

    torch.manual_seed(0)
    shape = (patch,) * 3
    stages = topology((1.0, 1.0, 1.0), shape)
    spec = ModelSpec(1, 4, shape, (1.0, 1.0, 1.0), stages.kernels, stages.strides, (Channel("MR"),))
    model = compose("train", [f"model={name}", "data=phantom_volumes"]).model
    net = _made(spec, model)
    optimizer = torch.optim.AdamW(net.parameters())
    image = torch.randn(batch, 1, *shape)
    before = peak()
    logits = net(image)
    logits = logits if isinstance(logits, torch.Tensor) else logits[0]
    logits.square().mean().backward()
    optimizer.step()
    growth = peak() - before
    need = need_of(net, 1, shape)
    if need is None:
        raise SystemExit(f"{name} reads values in its forward pass")
    return growth, need.kept * batch / 1e9 + need.parameters * 12e-9, need.gb(batch)


def peak() -> float:
    """Largest resident memory so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Read the arguments, measure each network, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--child", choices=MODELS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(*measured(asked.child, asked.patch, asked.batch))
        return
    print("| network | measured, GB | counted, GB | measured / counted | planned for (half precision), GB |")
    print("|---|---|---|---|---|")
    for name in asked.models:
        words = ["--child", name, "--patch", str(asked.patch), "--batch", str(asked.batch)]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, *words], capture_output=True, text=True, check=True
        )
        growth, counted, planned = map(float, done.stdout.split()[-3:])
        print(f"| `{name}` | {growth:.2f} | {counted:.2f} | {growth / counted:.2f} | {planned:.2f} |", flush=True)


if __name__ == "__main__":
    main()
