"""Stored: the values of a plan in a file, each checked against the limits of preprocessing and networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import prod
from typing import Any

from medseg.data.preprocessing.normalise import Normalisation
from medseg.errors import InputError
from medseg.runtime.values import listed, mapped, number, text, truth, whole

KEYS = ("spacing", "patch", "batch_size", "kernels", "strides", "normalisation", "masked")
"""Keys that a plan needs."""
_MOST_CELLS = 100_000
_MOST_IN_PATCH = 1 << 28
_MOST_BATCH = 1_000_000
_WIDEST = 1001
"""Cells of the largest kernel or stride."""


def fields_of(stored: object) -> dict[str, Any]:
    """The fields of a ``Plan`` from the result of ``Plan.to_dict``, which may have been edited.

    Raises:
        InputError: A key that is missing, another kind of value, one out of range, or another number of axes or
            stages than the others; names the key.
    """
    held = mapped(stored, "plan", KEYS)
    spacing = tuple(number(v, "spacing", above=0, most=1e9) for v in listed(held["spacing"], "spacing", (2, 3)))
    ndim = (len(spacing),)
    strides = listed(held["strides"], "strides")
    kernels = listed(held["kernels"], "kernels", (len(strides),))
    patch = tuple(whole(v, "patch", 1, _MOST_CELLS) for v in listed(held["patch"], "patch", ndim))
    if prod(patch) > _MOST_IN_PATCH:
        raise InputError(f"patch={list(patch)}: expected at most {_MOST_IN_PATCH} cells in all")
    reasons = held.get("reasons")
    return {
        "spacing": spacing,
        "patch": patch,
        "batch_size": whole(held["batch_size"], "batch_size", 1, _MOST_BATCH),
        "kernels": _stages(kernels, "kernels", ndim),
        "strides": _stages(strides, "strides", ndim),
        "normalisation": tuple(_rule(r) for r in listed(held["normalisation"], "normalisation")),
        "masked": truth(held["masked"], "masked"),
        "native": truth(held.get("native", False), "native"),  # older plans are of volumes
        "reasons": {} if reasons is None else {k: str(v) for k, v in mapped(reasons, "reasons").items()},
    }


def _stages(stored: list[object], key: str, ndim: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(whole(v, key, 1, _WIDEST) for v in listed(stage, key, ndim)) for stage in stored)


def _rule(stored: object) -> Normalisation:
    names = [f.name for f in fields(Normalisation) if f.name != "own"]
    held: Mapping[str, Any] = mapped(stored, "normalisation", ["scheme"], names)
    numbers: dict[str, Any] = {
        name: number(value, f"normalisation.{name}", finite=name not in ("low", "high"))
        for name, value in held.items()
        if name != "scheme"
    }
    return Normalisation(text(held["scheme"], "normalisation.scheme"), **numbers)
