"""What weights were trained on, beside the data that they will see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights.bands import colour, partners
from medseg.weights.pretrained import Pretrained
from medseg.weights.report import some

_RATIO = 3.0
"""Times that standard deviations may differ before the unit is doubted: contrasts of scanners and scenes differ by
two, units (reflectance x 10,000, 8 bits of 12) by ten and more."""
_OFFSET = 3.0
"""Standard deviations that means may differ before an offset is suspected."""
_COLOURS = ("R", "G", "B")


def trained_channels(found: Pretrained, count: int, wanted: Sequence[Channel]) -> tuple[tuple[Channel, ...], str]:
    """Channels of the weights; as good as can be guessed where the file does not say.

    Without a word of the file: three are red, green and blue if the data is spectral (has colours or
    wavelengths); as many as the data has are those of the data, in order; any other number are nameless.

    Args:
        found: The weights.
        count: Channels of their kernel.
        wanted: Those of the data.

    Returns:
        As many as ``count``, and a line that warns of a guess; empty if there is none.

    Raises:
        InputError: The user names another number of channels.
    """
    if len(found.channels) == count:
        return found.channels, ""
    if found.stated:
        raise InputError(
            f"model.encoder.trained_on has {len(found.channels)} channels, the first kernel of {found.source} takes "
            f"{count}; name each of them, in order"
        )
    guessed, taken = _guessed_channels(count, wanted)
    if found.channels:
        return guessed, f"the weights name {len(found.channels)} channels, but their kernel takes {count}; {taken}"
    return guessed, f"the weights do not say which channels they were trained on; {taken}"


def _guessed_channels(count: int, wanted: Sequence[Channel]) -> tuple[tuple[Channel, ...], str]:
    """As ``trained_channels`` says, and in words what they are taken as."""
    spectral = any(c.wavelength_nm is not None or colour(c) for c in wanted)
    if count == len(_COLOURS) and spectral:
        return tuple(Channel(name) for name in _COLOURS), "taken as red, green, blue"
    if count == len(wanted):
        return tuple(wanted), f"taken as those of the data, in order ({_names(wanted, 5)})"
    return tuple(Channel(f"number {i + 1}") for i in range(count)), f"{count} without names"


def compare(
    found: Pretrained,
    wanted: Sequence[Channel],
    statistics: Mapping[str, Sequence[float]] | None,
    *,
    by_name: bool = True,
) -> tuple[str, ...]:
    """Lines that warn of channels, units and offsets in which the data differs from what weights were trained on.

    Only channels that are the same by name are compared.

    Args:
        found: The weights; nothing is said of what they do not tell.
        wanted: Channels of the data.
        statistics: ``mean`` and ``std`` of each, in raw values; None to compare names only.
        by_name: Whether channels are placed by name, so that another order does no harm.

    Raises:
        InputError: Statistics of another number of channels.
    """
    same = partners(found.channels, wanted)
    lines = _order(found.channels, wanted, same, by_name)
    if statistics is None:
        return tuple(lines)
    mean, std = statistics.get("mean", ()), statistics.get("std", ())
    if {len(mean), len(std)} != {len(wanted)}:
        raise InputError(f"got {len(mean)} means and {len(std)} stds for {len(wanted)} channels")
    known = len(found.mean) == len(found.std) == len(found.channels) > 0 and found.scale is not None
    if not known:
        return tuple(lines)
    off, moved = _differing(found, wanted, same, mean, std)
    return (*lines, *_units(found, same, off, moved))


def _differing(
    found: Pretrained,
    wanted: Sequence[Channel],
    same: Sequence[int | None],
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[list[str], list[str]]:
    """Channels whose standard deviation is far from that of the weights, and those whose mean is, with both values."""
    scale = found.scale or 1.0
    off, moved = [], []
    for channel, i, own_mean, own_std in zip(wanted, same, mean, std, strict=True):
        if i is None or not (own_std > 0 and found.std[i] > 0 and isfinite(own_std)):
            continue
        raw_mean, raw_std = found.mean[i] * scale, found.std[i] * scale
        if not 1 / _RATIO <= own_std / raw_std <= _RATIO:
            off.append(f"{channel.name} {own_std:.4g} instead of {raw_std:.4g}")
        elif abs(own_mean - raw_mean) > _OFFSET * raw_std:
            moved.append(f"{channel.name} {own_mean:.4g} instead of {raw_mean:.4g}")
    return off, moved


def preparation(found: Pretrained) -> str:
    """How images were prepared for the weights, in words; empty if the file does not say.

    Example:
        >>> preparation(Pretrained({}, "f", (Channel("R"),), (0.485,), (0.229,), 255.0))
        'R: raw values / 255, minus 0.485, by 0.229'
    """
    names = ", ".join(c.name for c in found.channels)
    return ": ".join(filter(None, [names, found.normalisation or _steps(found)]))


def _steps(found: Pretrained) -> str:
    """Scale, mean and std in words; empty if the file has none of them."""
    if not (found.mean or found.std or found.scale):
        return ""
    steps = [f"raw values / {found.scale:g}" if found.scale not in (None, 1.0) else "raw values"]
    if found.mean:
        steps.append(f"minus {_listed(found.mean)}")
    if found.std:
        steps.append(f"by {_listed(found.std)}")
    return ", ".join(steps)


def _order(
    trained: Sequence[Channel], wanted: Sequence[Channel], same: Sequence[int | None], by_name: bool
) -> list[str]:
    """Channels that the data lacks, and another order."""
    lines = []
    lacking = [c for i, c in enumerate(trained) if i not in same]
    matched = [i for i in same if i is not None]
    if lacking and matched:
        lines.append(f"the weights were trained with {_names(lacking, 5)} too, which the data lacks")
    elif lacking:
        lines.append(
            f"no channel in common by name: the weights were trained on {_names(trained, 5)}, the data has "
            f"{_names(wanted, 5)}"
        )
    if matched != sorted(matched):
        way = "they are placed by name" if by_name else "set model.encoder.adapt=auto to place them by name"
        lines.append(
            f"the data's order ({_names(wanted, 13)}) is not that of the weights ({_names(trained, 13)}); {way}"
        )
    return lines


def _names(channels: Sequence[Channel], most: int) -> str:
    return some([c.name for c in channels], most)


def _units(found: Pretrained, same: Sequence[int | None], off: Sequence[str], moved: Sequence[str]) -> list[str]:
    """A line for stds that tell of another unit, one for means that tell of an offset."""
    scale = found.scale or 1.0
    way = "medseg normalises by the data's own, which fixes a factor, but not another quantity; "
    if all(i is not None for i in same):
        mean, std = (
            ",".join(f"{values[i] * scale:.4g}" for i in same if i is not None) for values in (found.mean, found.std)
        )
        schemes = ",".join(["standard"] * len(same))
        way += (
            "for data in the unit of the weights, to normalise as they were: "
            f"plan.normalisation=[{schemes}] plan.mean=[{mean}] plan.std=[{std}]"
        )
    else:
        way += "check the unit of the data"
    lines = []
    if off:
        lines.append(f"std of the data is far from that of the weights, as if in another unit: {some(off)}; {way}")
    if moved:
        lines.append(f"mean of the data is far from that of the weights, as if by an offset: {some(moved)}; {way}")
    return lines


def _listed(values: Sequence[float]) -> str:
    shown = ", ".join(f"{v:.4g}" for v in values[:4])
    return shown + (f" … ({len(values)})" if len(values) > 4 else "")
