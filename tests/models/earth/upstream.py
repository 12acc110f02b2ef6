"""Names and shapes of the tensors of published files, written down compactly."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def conv(name: str, out: int, into: int, *cells: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into, *cells), f"{name}.bias": (out,)}


def block(name: str, width: int, *, projections: Iterable[str] = ("q", "k", "v")) -> dict[str, tuple[int, ...]]:
    """Of a transformer whose queries, keys and values are layers of their own, or ``qkv`` one of all."""
    found = norm(f"{name}.norm1", width) | norm(f"{name}.norm2", width)
    for one in projections:
        found |= linear(f"{name}.attn.{one}", len(one) * width, width)
    found |= linear(f"{name}.attn.proj", width, width)
    return found | linear(f"{name}.mlp.fc1", 4 * width, width) | linear(f"{name}.mlp.fc2", width, 4 * width)


def saved(path: Path, state: Mapping[str, object]) -> str:
    torch.save(dict(state), path)
    return str(path)
