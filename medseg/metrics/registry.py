"""Metrics by name: those of the package, found by walking its modules, and one's own by their class paths."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any

import medseg.metrics
from medseg.errors import InputError, nearest
from medseg.metrics.metric import Metric

Entry = Metric | str | Mapping[str, Any]
"""A metric; the name of one of the package, or the class path of one's own; or ``_target_`` with settings."""
_TARGET = "_target_"
_RESERVED = ("case", "class")
"""Columns of ``cases.csv`` that are no metrics."""


@cache
def builtin() -> Mapping[str, type[Metric]]:
    """Every metric of the package by its name, in alphabetical order."""
    classes: dict[str, type[Metric]] = {}
    for module in iter_modules(medseg.metrics.__path__, f"{medseg.metrics.__name__}."):
        for value in vars(import_module(module.name)).values():
            if _is_metric(value) and value.__module__ == module.name:
                classes[value.name] = value
    return MappingProxyType(dict(sorted(classes.items())))


def setting_keys() -> dict[str, str]:
    """Keys of the configuration that are settings of metrics of the package, each with the name of such a metric."""
    return {f.metadata["key"]: name for name, cls in builtin().items() for f in fields(cls) if "key" in f.metadata}


def resolve(entries: Sequence[Entry], settings: Mapping[str, object]) -> tuple[Metric, ...]:
    """The metrics of a configuration, each once.

    Args:
        entries: The list ``metrics``.
        settings: Keys next to it: those of ``setting_keys``, for the metrics of the package; and names of such metrics,
            which are added to the list if true.

    Raises:
        InputError: No metric, an unknown name or key (the message has the nearest ones), a class that is no metric,
            two metrics of one name with different settings, or a metric that can't be measured here.
    """
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Iterable):
        raise InputError(f"metrics: got {entries}, expected a list of names, such as [dice, hd95]")
    _check_keys(settings)
    configured = {name: _configured(cls, settings) for name, cls in builtin().items()}
    switched_on = [key for key, value in settings.items() if key in builtin() and value]
    listed: dict[str, Metric] = {}
    for entry in (*entries, *switched_on):
        metric = _metric(entry, configured)
        if listed.setdefault(metric.name, metric) != metric:
            raise InputError(f"metrics: {metric.name} is listed twice with different settings; keep one of them")
    if not listed:
        raise InputError(f"metrics: got none, expected some of {', '.join(builtin())}")
    for metric in listed.values():
        metric.check()
    return tuple(listed.values())


def _check_keys(settings: Mapping[str, Any]) -> None:
    """Raise if a key is neither a setting nor the name of a metric of the package."""
    names = [*setting_keys(), *builtin()]
    for key in settings:
        if key not in names:
            raise InputError(f"metric.{key}: is neither a setting nor the name of a metric; {nearest(key, names)}")


def class_paths(entries: object) -> Iterator[str]:
    """The plain texts of a list ``metrics`` that are class paths, which ``resolve`` would import.

    Args:
        entries: The list, or anything that a stored configuration has in its place.
    """
    listed = [entries] if isinstance(entries, str) else entries if isinstance(entries, Iterable) else []
    yield from (entry for entry in listed if isinstance(entry, str) and "." in entry)


def _metric(entry: Entry, configured: Mapping[str, Metric]) -> Metric:
    if isinstance(entry, Metric):
        return _checked(entry)
    if isinstance(entry, str) and "." not in entry:
        if entry in configured:
            return configured[entry]
        raise InputError(
            f"metrics: got {entry}, expected the name of a metric ({nearest(entry, configured)}; all: "
            f"{', '.join(configured)}) or the class path of your own"
        )
    if isinstance(entry, str):
        return _checked(_built(entry, {}))
    if isinstance(entry, Mapping) and isinstance(entry.get(_TARGET), str):
        return _checked(_built(entry[_TARGET], {key: value for key, value in entry.items() if key != _TARGET}))
    raise InputError(f"metrics: got {entry}, expected a name, a class path, or _target_ with settings")


def _built(path: str, settings: Mapping[str, object]) -> Metric:
    """One's own metric by its class path.

    Raises:
        InputError: It can't be imported, is no metric, or does not take the settings.
    """
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"metrics: {path} can't be imported ({error}); check the path of the class") from error
    if not _is_metric(cls):
        raise InputError(f"metrics: {path} is no metric; expected a subclass of medseg.Metric with all of its methods")
    try:
        metric: Metric = cls(**settings)
    except TypeError as error:
        raise InputError(f"metrics: {path} can't be built: {error}; check its settings") from error
    return metric


def _checked(metric: Metric) -> Metric:
    """The metric, if it has what every metric has.

    Raises:
        InputError: It lacks a name, title or description, or its name is no column of a table.
    """
    cls = type(metric)
    if lacks := [name for name in ("name", "title", "description") if not isinstance(getattr(cls, name, None), str)]:
        raise InputError(f"metrics: {cls.__module__}.{cls.__qualname__} has no {lacks[0]}; add it to the class")
    if metric.name in _RESERVED or not re.fullmatch(r"[a-z]\w*", metric.name):
        raise InputError(
            f"metrics: {cls.__module__}.{cls.__qualname__} is named {metric.name!r}; expected a name of lower-case "
            f"letters, digits and underscores, other than {' and '.join(_RESERVED)}"
        )
    return metric


def _is_metric(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Metric) and not inspect.isabstract(value)


def _configured(cls: type[Metric], settings: Mapping[str, object]) -> Metric:
    """A metric of the package with the settings that have its keys."""
    own = {f.name: settings[f.metadata["key"]] for f in fields(cls) if f.metadata.get("key") in settings}
    return cls(**own)
