"""Devices and their precision: what this machine has, and the fastest safe arithmetic on it."""

from __future__ import annotations

import torch

from medseg.errors import InputError
from medseg.runtime.cpu import has_bf16


def short_precision(precision: str) -> str:
    """Precision of inference after a training in Lightning's ``precision``.

    Example:
        >>> short_precision("bf16-mixed"), short_precision("32-true")
        ('bf16', 'fp32')
    """
    return {"bf16": "bf16", "16": "fp16"}.get(str(precision).split("-")[0], "fp32")


def precision_of(device: str) -> str:
    """The fastest safe precision of a device: ``bf16-mixed``, ``16-mixed`` or ``32-true``."""
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if device == "cpu" and has_bf16() else "32-true"


def device_of(wish: str) -> str:
    """``cuda`` or ``cpu`` for ``auto``, else the wish itself.

    Raises:
        InputError: A device that this machine lacks.
    """
    if wish in ("auto", "gpu", "cuda"):
        if torch.cuda.is_available():
            return "cuda"
        if wish != "auto":
            raise InputError(f"device {wish!r}: this machine shows no CUDA device to torch; choose auto or cpu")
        return "cpu"
    return wish
