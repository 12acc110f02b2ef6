"""How deep in an encoder each parameter lies, for rates that fall with depth and stages that thaw one by one."""

from __future__ import annotations

import re
from collections.abc import Iterable

_REPEATED = re.compile(r"(block|layer|stage|level|resblock)s?[_\d]*$|^down$")


def depths(names: Iterable[str]) -> dict[str, int]:
    """Number of the layer that each parameter belongs to, from 0 (all that comes before the first block).

    Blocks are found by their names: ``blocks.3``, ``layers.0.blocks.1``, ``layer2.0``, ``stages_1.blocks.0``. They
    count in the order in which the network has them. What comes after a block and is in none (a last norm) counts
    with the one before it.

    Args:
        names: Names of the parameters, in the order of the network.

    Example:
        >>> depths(["stem.weight", "layer1.0.conv1.weight", "layer1.1.conv1.weight", "layer2.0.downsample.0.weight"])
        {'stem.weight': 0, 'layer1.0.conv1.weight': 1, 'layer1.1.conv1.weight': 2, 'layer2.0.downsample.0.weight': 3}
    """
    order: dict[str, int] = {}
    by_name: dict[str, int] = {}
    for name in names:
        block = _block(name)
        if block is not None:
            order.setdefault(block, len(order) + 1)
        by_name[name] = len(order) if block is None else order[block]
    return by_name


def _block(name: str) -> str | None:
    parts = name.split(".")
    ends = [i for i in range(1, len(parts)) if parts[i].isdigit() and _REPEATED.search(parts[i - 1])]
    if ends:
        return ".".join(parts[: ends[-1] + 1])
    return next((part for part in parts[:-1] if re.search(r"(block|layer|stage)s?_?\d+$", part)), None)
