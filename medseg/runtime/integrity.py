"""Integrity: checksums of what a checkpoint holds, kept in it, so that a bit that flips on a disk is noticed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medseg.errors import InputError

KEY = "crc32"
"""Key of a checkpoint under which the checksums stand, one for each of its other keys."""
_MOST_NODES = 5_000_000
_PLAIN = (str, bytes, bool, int, float, complex, type(None))


def add(checkpoint: Mapping[str, object]) -> dict[str, object]:
    """A checkpoint with the CRC-32 of each of its entries; tensors are not copied."""
    entries = {key: value for key, value in checkpoint.items() if key != KEY}
    return {**entries, KEY: {key: crc32(value) for key, value in entries.items()}}


def check(checkpoint: Mapping[str, object], source: str, only: Sequence[str] | None = None) -> None:
    """Refuse a checkpoint whose entries are not those that were written.

    It costs 0.4 s for each GB of tensors on one core (``scripts/bench_checkpoint.py``); sha256 takes 0.7 s. CRC-32
    finds every error of up to 32 bits in a row. It guards against broken disks and copies, not against people.

    Args:
        checkpoint: As read; one without checksums, from before there were any, passes.
        source: For the message.
        only: Keys that are looked at; None for all.

    Raises:
        InputError: Names the entries that have changed.
    """
    sums = checkpoint.get(KEY)
    if not isinstance(sums, Mapping):
        return
    entries = {*sums, *checkpoint} if only is None else {*only}
    changed = [str(key) for key in sums if key in entries and not _is(checkpoint, key, sums[key])]
    changed += [str(key) for key in checkpoint if key in entries - {*sums, KEY}]
    if changed:
        raise InputError(
            f"{source}: damaged since it was written ({', '.join(changed)[:80]} differs from its checksum); copy it "
            "again from where it was made, or take another checkpoint of the run"
        )


def _is(checkpoint: Mapping[str, object], key: str, checksum: object) -> bool:
    """Whether an entry is there and has this checksum."""
    return key in checkpoint and crc32(checkpoint[key]) == checksum


def crc32(value: object) -> int:
    """CRC-32 of a nested value: of the bytes, type and shape of tensors, of plain values and their order.

    Other objects count by the name of their type alone.

    Raises:
        InputError: More entries than any training writes.

    Example:
        >>> crc32({"a": torch.zeros(2)}) == crc32({"a": torch.zeros(1, 2)})
        False
    """
    total, count = 0, 0
    waiting: list[object] = [value]
    while waiting:
        count += 1
        if count + len(waiting) > _MOST_NODES:
            raise InputError("a checkpoint of more entries than any training writes, or one that holds itself")
        node = waiting.pop()
        if isinstance(node, Tensor):
            total = _of_tensor(node, total)
        elif isinstance(node, Mapping):
            total = zlib.crc32(f"mapping {len(node)}".encode(), total)
            waiting += [part for pair in node.items() for part in pair]
        elif isinstance(node, (list, tuple)):
            total = zlib.crc32(f"list {len(node)}".encode(), total)
            waiting += node
        else:
            total = zlib.crc32(_written(node).encode("utf-8", "backslashreplace"), total)
    return total


def _written(value: object) -> str:
    plain = type(value) in _PLAIN and not (
        isinstance(value, int) and abs(value) >> 1000
    )  # Python prints no larger ones
    return repr(value) if plain else type(value).__name__


def _of_tensor(tensor: Tensor, total: int) -> int:
    total = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), total)
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or not tensor.numel():
        return total
    dense = tensor.detach().cpu().contiguous().reshape(-1)
    cells: Any = dense.view(torch.uint8).numpy()
    return zlib.crc32(cells, total)
