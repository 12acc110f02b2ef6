"""What a metric is called on a page: its name as people write it, and its unit."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAMES = {
    "dice": "Dice", "iou": "IoU", "f1": "F1", "hd95": "HD95", "nsd": "NSD", "assd": "ASSD", "ece": "ECE", "auc": "AUC",
    "miou": "mean IoU", "boundary_iou": "boundary IoU", "volume_error": "absolute volume error",
}  # fmt: skip
_POWERS = {"2": "²", "3": "³", "": ""}


def title(metric: str) -> str:
    """Name and unit of a key of ``metrics.json``; one that is not known stays as it is.

    Example:
        >>> title("dice"), title("hd95_mm"), title("volume_error_px2"), title("mine")
        ('Dice', 'HD95, mm', 'absolute volume error, px²', 'mine')
    """
    plain, unit = _parted(metric)
    return _NAMES.get(plain, plain) + (f", {unit}" if unit else "")


def length_unit(metrics: Iterable[str]) -> str:
    """Unit of the lengths among these keys, empty if there are none.

    Example:
        >>> length_unit(["dice", "volume_error_mm3", "hd95_mm"]), length_unit(["dice"])
        ('mm', '')
    """
    return next((unit for unit in (_parted(m)[1] for m in metrics) if unit and unit.isalpha()), "")


def _parted(metric: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.+)_(mm|m|px)([23]?)", metric)
    return (found[1], found[2] + _POWERS[found[3]]) if found else (metric, "")
