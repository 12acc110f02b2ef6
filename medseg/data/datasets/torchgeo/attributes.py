"""What the classes of torchgeo say about bands, classes and colours, each in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard


def band_names(dataset: object, n_channels: int) -> tuple[str, ...]:
    """Names of the bands of a sample or file; three unnamed ones are red, green and blue, else empty.

    Example:
        >>> band_names(None, 3), band_names(None, 4)
        (('R', 'G', 'B'), ())
    """
    for part in _parts(dataset):
        for attribute in ("bands", "all_bands", "band_names"):
            names = _words(getattr(part, attribute, None))
            if len(names) == n_channels:
                return names
    return ("R", "G", "B") if n_channels == 3 else ()


def class_values(dataset: object) -> dict[str, int]:
    """Value by class name: the place in the list of classes; empty if there is none."""
    for part in reversed(_parts(dataset)):  # of an intersection, the masks come last
        names = _words(getattr(part, "classes", None))
        if names:
            return {name: value for value, name in enumerate(names)}
    return {}


def colour_by_value(dataset: object) -> dict[int, tuple[int, ...]]:
    """RGB by value; empty if the dataset has none in numbers of 0 to 255."""
    for part in reversed(_parts(dataset)):
        for attribute in ("cmap", "colormap"):
            by_value = _colours(getattr(part, attribute, None))
            if by_value and all(len(c) == 3 and all(isinstance(v, int) for v in c) for c in by_value.values()):
                return by_value
    return {}


def _colours(value: Any) -> dict[Any, tuple[Any, ...]]:
    """The first three numbers of each colour of a mapping or a list; empty for anything else."""
    mapping = dict(enumerate(value)) if _is_list(value) else value
    entries = mapping.items() if isinstance(mapping, dict) else ()
    return {key: tuple(colour)[:3] for key, colour in entries if _is_list(colour)}


def _parts(dataset: Any) -> list[Any]:
    return [dataset, *getattr(dataset, "datasets", [])]


def _words(value: object) -> tuple[str, ...]:
    return tuple(value) if _is_list(value) and all(isinstance(name, str) for name in value) else ()


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)
