"""The name and unit of a metric as a page shows them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from medseg.metrics.metric import Metric
from medseg.metrics.registry import builtin

_POWERS = {"2": "²", "3": "³", "": ""}


def title(key: str, metrics: Sequence[Metric] = ()) -> str:
    """Name and unit of a key of ``metrics.json``; a key that is no metric stays as it is.

    Args:
        key: Such as ``hd95_mm``.
        metrics: Metrics other than those of the package.

    Example:
        >>> title("dice"), title("hd95_mm"), title("volume_error_px2"), title("mine")
        ('Dice', 'HD95, mm', 'absolute volume error, px²', 'mine')
    """
    titles = {name: cls.title for name, cls in builtin().items()} | {m.name: m.title for m in metrics}
    if key in titles:
        return titles[key]
    name, unit = _split_unit(key)
    return titles.get(name, name) + (f", {unit}" if unit else "")


def length_unit(keys: Iterable[str]) -> str:
    """Unit of the lengths among these keys, empty if there are none.

    Example:
        >>> length_unit(["dice", "volume_error_mm3", "hd95_mm"]), length_unit(["dice"])
        ('mm', '')
    """
    return next((unit for unit in (_split_unit(key)[1] for key in keys) if unit and unit.isalpha()), "")


def _split_unit(key: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.+)_(mm|m|px)([23]?)", key)
    return (match[1], match[2] + _POWERS[match[3]]) if match else (key, "")
