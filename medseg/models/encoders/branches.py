"""Branches of joined encoders: which channels each takes, and settings that do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medseg.errors import InputError, similar
from medseg.models.network import ModelSpec

KEY = "model.encoder.branches"
_ADD = f"+model/encoder@{KEY}.NAME=timm"


def _names(spec: ModelSpec) -> list[str]:
    """Of the channels of the image."""
    return [channel.name for channel in spec.channels] or [f"channel{i}" for i in range(spec.in_channels)]


def places_of(
    branches: Sequence[str], spec: ModelSpec, channels: Mapping[str, Sequence[str]]
) -> dict[str, tuple[int, ...]]:
    """Which channels of the image each branch takes.

    Args:
        branches: Names.
        spec: The channels of the image.
        channels: Names of those of each branch; one without an entry takes those that begin with its name and a dot.

    Raises:
        InputError: An unknown channel, a branch without any, or a channel in no branch.
    """
    places = {branch: _places(branch, _names(spec), channels.get(branch)) for branch in branches}
    _check_all_read(spec, places)
    return places


def _places(branch: str, names: Sequence[str], wanted: Sequence[str] | None) -> tuple[int, ...]:
    """Which channels of the image a branch takes.

    Raises:
        InputError: There is no such channel, or none of the branch's group.
    """
    if wanted is None:
        places = tuple(i for i, channel in enumerate(names) if channel.startswith(f"{branch}."))
        if not places:
            raise InputError(
                f"branch {branch} has no channels: none begins with {branch}., the data has {', '.join(names)}; "
                f"set model.encoder.channels={{{branch}: [...]}}"
            )
        return places
    if isinstance(wanted, str) or not wanted or len(set(wanted)) < len(wanted):
        raise InputError(
            f"model.encoder.channels.{branch}={wanted}: expected a list of different channels; the data has "
            f"{', '.join(names)}"
        )
    return tuple(_place(branch, names, channel) for channel in wanted)


def _place(branch: str, names: Sequence[str], channel: str) -> int:
    """Where a channel is in the image.

    Raises:
        InputError: There is none of this name.
    """
    if channel not in names:
        near = "".join(f"; did you mean {best}?" for best in similar(channel, names, n=1))
        raise InputError(f"model.encoder.channels.{branch}: got {channel}, the data has {', '.join(names)}{near}")
    return names.index(channel)


def check_names(
    branches: Mapping[str, object], settings: Mapping[str, Mapping[str, object]], shared: Mapping[str, str]
) -> None:
    """Raise where there is no branch, or a setting is of none.

    Args:
        branches: With encoders of their own.
        settings: By key, for each branch.
        shared: Branches without encoders, and those whose they use.

    Raises:
        InputError: Says which.
    """
    if not branches:
        raise InputError(f"model/encoder=joined: got no branch, expected one or more; add one by {_ADD}")
    for name, other in shared.items():
        if name in branches or other not in branches:
            raise InputError(
                f"model.encoder.shared={{{name}: {other}}}: expected a branch without an encoder, and one of "
                f"{', '.join(branches)} whose encoder it uses"
            )
    for key, values in settings.items():
        _check_known(key, values, [*branches, *shared])
    for name, value in settings["resolution"].items():
        if not isinstance(value, int) or value < 1:
            raise InputError(f"model.encoder.resolution.{name}={value}: expected a whole number of cells, 1 or more")


def _check_known(key: str, given: Mapping[str, object], branches: Sequence[str]) -> None:
    """Raise where a setting is of no branch.

    Raises:
        InputError: Names it.
    """
    for name in given:
        if name not in branches:
            raise InputError(
                f"model.encoder.{key}.{name}: there is no such branch, expected one of {', '.join(branches)}; add one "
                f"by {_ADD.replace('NAME', name)}"
            )


def _check_all_read(spec: ModelSpec, places: Mapping[str, Sequence[int]]) -> None:
    """Raise where a channel is in no branch.

    Raises:
        InputError: Names them.
    """
    taken = {i for own in places.values() for i in own}
    left = [channel.name for i, channel in enumerate(spec.channels) if i not in taken]
    if left:
        raise InputError(
            f"model/encoder=joined: {', '.join(left)} in no branch of {', '.join(places)}; add them to one by "
            f"model.encoder.channels, or leave them out of data.channels"
        )


def check_shared(shared: Mapping[str, str], places: Mapping[str, Sequence[int]], strides: Mapping[str, int]) -> None:
    """Raise where a branch does not fit the encoder of another.

    Raises:
        InputError: Other numbers of channels, or another resolution.
    """
    for name, other in shared.items():
        own, its = (f"{len(places[n])} channels at resolution {strides[n]}" for n in (name, other))
        if own != its:
            raise InputError(f"model.encoder.shared={{{name}: {other}}}: got {own}, expected those of {other}, {its}")
