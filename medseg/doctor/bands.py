"""Names of the bands of files, by which the doctor shows them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from medseg.data.case import Case
from medseg.data.layout.dates import shown
from medseg.data.layout.image_groups import names_in_file, names_within
from medseg.data.reading.options import ReadOptions
from medseg.formats.source import Source
from medseg.sample import DataSpec
from medseg.sensors.formula import Formula


def bands_wanted(spec: DataSpec) -> list[str]:
    """Names of the bands that the channels are, or are computed from."""
    names = [c.name for c in spec.channels if not c.formula]
    names += [name for c in spec.channels if c.formula for name in Formula.parse(c.formula).names]
    return list(dict.fromkeys(names))


def named_bands(
    sources: Sequence[Source], case: Case, spec: DataSpec, reading: ReadOptions
) -> dict[tuple[int, int], str]:
    """Names of the bands that are looked at, by (file, channel): those that the dataset uses, or else all."""
    wanted = bands_wanted(spec)
    places = [(number, channel) for number, source in enumerate(sources) for channel in range(source.n_channels)]
    days = case.days or (None,)
    each = len(places) // len(days)
    if case.image_groups:
        names = [_names_in_groups(*part, spec, reading) for part in _by_date(sources, case)]
    else:
        names = [_names_of_a_date(sources, wanted, reading, each)] * len(days)
    every = set(chain.from_iterable(names))
    used = set(wanted) & every or every
    dated = [(name, _on(name, day, case)) for day, own in zip(days, names, strict=False) for name in own]
    return {place: title for place, (name, title) in zip(places, dated, strict=False) if name in used}


def _by_date(sources: Sequence[Source], case: Case) -> list[tuple[Sequence[Source], Sequence[str]]]:
    """Image files of each date with their image groups; the same ones for all where each file has every date."""
    if case.in_file or not case.days:
        return [(sources[: len(case.image_groups)], case.image_groups)] * max(1, len(case.days))
    by_path = dict(zip(case.images, sources, strict=False))
    parts = [case.of_date(number) for number in range(len(case.days))]
    return [([by_path[path] for path in paths if path in by_path], groups) for paths, groups in parts]


def _on(name: str, day: int | None, case: Case) -> str:
    """A band of one date; its name where there are no dates."""
    if day is None:
        return name
    return f"{name} of {day if case.in_file else shown(day)}"


def _names_of_a_date(sources: Sequence[Source], wanted: Sequence[str], reading: ReadOptions, each: int) -> list[str]:
    """Names of the ``each`` bands of a date: of the options or the files, else of the dataset, else numbers."""
    stated = [source.names[channel] for source in sources if source.names for channel in range(source.n_channels)]
    names = list(reading.bands) or stated[:each]
    if len(names) == each and not set(wanted).isdisjoint(names):
        return names
    return list(wanted) if each == len(wanted) else [f"channel {n}" for n in range(each)]


def _names_in_groups(
    sources: Sequence[Source], groups: Sequence[str], spec: DataSpec, reading: ReadOptions
) -> list[str]:
    """Names of the bands of the files of image groups, with their group in front."""
    wanted, by_position = bands_wanted(spec), not any(c.formula for c in spec.channels)
    names: list[str] = []
    for group, source in zip(groups, sources, strict=False):  # files that can't be read have no source
        own = names_within(reading.bands, group, reading.image_groups) or source.names
        titles = names_in_file(group, own, source.n_channels, wanted, by_position=by_position)
        names += titles or [f"{group} channel {n}" for n in range(source.n_channels)]
    return names
