"""The streams of a training: datasets that are checked before cases are read, then cases, then what draws patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.data.case import Case, first_five
from medseg.data.dataset import Dataset
from medseg.data.streams import Stream
from medseg.errors import InputError, rename_keys
from medseg.factory.datamodule import build_sampling
from medseg.factory.dataset import build_dataset
from medseg.factory.settings import sketched
from medseg.factory.split import halves, named
from medseg.factory.stream_settings import PARTS, WITHOUT_LABEL, StreamSettings
from medseg.factory.transform import build_transform
from medseg.planning.plan import Plan
from medseg.runtime.values import shown
from medseg.sample import DataSpec
from medseg.transforms.views import Views

_ALIKE = 1.5
"""Ratio of cell sizes up to which cases on their own cells go together."""


@dataclass(frozen=True)
class Declared:
    """A stream before its cases are known.

    Attributes:
        settings: What the configuration says.
        source: Its dataset.
        config: The configuration of the training with the parts of the stream.
    """

    settings: StreamSettings
    source: Dataset
    config: DictConfig

    @property
    def patterns(self) -> list[str]:
        """Names of cases; empty where the stream takes all of a kind."""
        cases = self.settings.cases
        if cases is None or cases == WITHOUT_LABEL:
            return []
        return [cases] if isinstance(cases, str) else list(cases)

    @property
    def moves_cases(self) -> bool:
        """Whether its cases leave the main stream: those of the main dataset that it names."""
        return bool(self.patterns) and self.settings.data is None


def declare(
    cfg: DictConfig, settings: Mapping[str, StreamSettings], source: Dataset, *, pretrains: bool
) -> dict[str, Declared]:
    """The streams with their datasets, which go with the main one, and with parts that can be built.

    Raises:
        InputError: Other channels, axes, dates or classes than the main dataset has, or a part that can't be built.
    """
    declared = {}
    for name, one in settings.items():
        key = f"streams.{name}"
        config = _with(cfg, {part: _own(cfg[part], getattr(one, part)) for part in PARTS})
        with rename_keys(("data.", f"{key}.data.")):
            own = source if one.data is None else build_dataset(config)
        _check_alike(key, own.spec, source.spec, labelled=one.labelled and not pretrains)
        declared[name] = Declared(one, own, config)
        with rename_keys(("sampling", f"{key}.sampling")):
            build_sampling(config.sampling, own.spec.ndim, labelled=one.labelled and not pretrains)
        _transform(name, declared[name], sketched(cfg, source.spec), source.spec)
    return declared


def _with(cfg: DictConfig, parts: Mapping[str, Any]) -> DictConfig:
    """The configuration with other parts."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return OmegaConf.create({**plain, **parts})


def _own(main: DictConfig, given: Mapping[str, Any] | None) -> Any:
    """The part of the training with the keys of a stream on top; those alone if they name a class."""
    plain: Any = OmegaConf.to_container(main, resolve=True)
    if given is None:
        return plain
    return dict(given) if "_target_" in given else OmegaConf.merge(plain, dict(given))


def _check_alike(key: str, own: DataSpec, main: DataSpec, *, labelled: bool) -> None:
    """Raise on a dataset that does not go with the main one."""
    compared: list[tuple[str, object, object]] = [
        ("axes", own.ndim, main.ndim),
        ("channels", [c.name for c in own.channels], [c.name for c in main.channels]),
        ("dates", own.dates, main.dates),
    ]
    if labelled:
        compared.append(("classes", list(own.labels.names), list(main.labels.names)))
        compared.append(("regions", own.labels.targets, main.labels.targets))
    for what, values, expected in compared:
        if values != expected:
            raise InputError(
                f"{key}.data: got the {what} {shown(values)}, expected those of the main dataset, {shown(expected)}; "
                "all streams of a training share them, so name them alike, or choose another dataset"
            )


def stream_cases(declared: Mapping[str, Declared], train: Sequence[Case]) -> tuple[list[Case], dict[str, list[Case]]]:
    """The cases of the main stream and of the others; those that a stream of the main dataset names leave the main one.

    Args:
        declared: The streams.
        train: Training cases of the main dataset.

    Raises:
        InputError: A stream without cases, a name that no case has, or none left for the main stream.
    """
    by_stream = {name: _of_stream(name, one, train) for name, one in declared.items()}
    taken = {case.id for name, one in declared.items() if one.moves_cases for case in by_stream[name]}
    left = [case for case in train if case.id not in taken]
    if not left:
        raise InputError(f"streams name every training case ({first_five(sorted(taken))}); leave one to the main one")
    return left, by_stream


def _of_stream(name: str, one: Declared, train: Sequence[Case]) -> list[Case]:
    """The cases of one stream, without labels where it has none."""
    pool = _labelled_pool(one, train) if one.settings.labelled else _unlabelled_pool(one, train)
    if one.patterns:
        ids = {*named([case.id for case in pool], one.patterns, f"streams.{name}.cases")}
        pool = [case for case in pool if case.id in ids]
    if not pool:
        raise InputError(f"streams.{name} has no case; {_remedy(one)}")
    pool = pool[: one.config.split.get("most_cases")]
    return pool if one.settings.labelled else [replace(case, label=None) for case in pool]


def _labelled_pool(one: Declared, train: Sequence[Case]) -> list[Case]:
    """The labelled cases of which a stream takes all, or those that it names."""
    if one.settings.split is None and one.settings.data is None:
        return list(train)
    return [case for case in _every_case(one) if case.label is not None]


def _unlabelled_pool(one: Declared, train: Sequence[Case]) -> list[Case]:
    """The cases of which a stream without labels takes all, or those that it names."""
    every = [*_every_case(one), *(case for case in one.source.test_cases() if case.label is None)]
    with_label = {case.id for case in train} if one.settings.cases == WITHOUT_LABEL else set()
    return [case for case in every if case.id not in with_label]


def _every_case(one: Declared) -> list[Case]:
    """All cases of a dataset of its own, or those of its split that train."""
    if one.settings.split is None and one.settings.data is not None:
        return one.source.cases()
    return halves(one.config.split, one.source)[0]


def _remedy(one: Declared) -> str:
    """What to do about a stream without cases."""
    if one.settings.cases == WITHOUT_LABEL:
        return (
            "every training case has a label; set split.n_labelled=N, which leaves the others to it, or name images "
            "without labels (data.test_images)"
        )
    return "its dataset has none of that kind; check its data and split"


def build_streams(
    declared: Mapping[str, Declared], cases: Mapping[str, Sequence[Case]], planned: Plan, spec: DataSpec,
    *, pretrains: bool,
) -> dict[str, Stream]:  # fmt: skip
    """The streams of a training by name.

    Args:
        declared: What they are declared as.
        cases: Their cases.
        planned: Plan of the main stream.
        spec: Of the main dataset.
        pretrains: Whether the method reads no labels at all.

    Raises:
        InputError: Cases on their own cells whose size is another than that of the main dataset.
    """
    streams = {}
    for name, one in declared.items():
        labelled = one.settings.labelled and not pretrains
        if planned.native and one.settings.data is not None:
            _check_cells(name, one, cases[name], planned.spacing)
        streams[name] = Stream(
            cases=tuple(cases[name]),
            open=one.source.open,
            reading=one.source.reading.to_dict(),
            sampling=build_sampling(one.config.sampling, spec.ndim, labelled=labelled),
            transform=_transform(name, one, planned, spec),
            labelled=labelled,
            rate=float(one.settings.rate),
        )
    return streams


def _transform(name: str, one: Declared, planned: Plan, spec: DataSpec) -> Any:
    """The augmentation of a stream: of one view of a patch, or of two."""
    with rename_keys(("transform", f"streams.{name}.transform")):
        weak = build_transform(one.config, planned, spec)
    if one.settings.strong is None:
        return weak
    with rename_keys(("transform", f"streams.{name}.strong")):
        config = _with(one.config, {"transform": _own(one.config.transform, one.settings.strong)})
        strong = build_transform(config, planned, spec)
        sided = bool(spec.labels.pairs) and weak.spatial.lateral_axis is not None
        return Views(weak, strong, spec.labels.mirror_outputs() if sided else None)


def _check_cells(name: str, one: Declared, cases: Sequence[Case], spacing: Sequence[float]) -> None:
    """Raise on a case whose cells are far larger or smaller than those of the plan; headers are read."""
    for case in cases:
        own = one.source.open(case).grid.spacing
        ratios = [a / b for a, b in zip(own, spacing, strict=True)]
        if not all(1 / _ALIKE <= ratio <= _ALIKE for ratio in ratios):
            raise InputError(
                f"streams.{name}: case {case.id} has cells of {tuple(round(v, 6) for v in own)}, those of the main "
                f"dataset are of {tuple(round(v, 6) for v in spacing)}, and nothing is resampled; resample its files"
            )


def stream_sources(declared: Mapping[str, Declared], before: Dataset, source: Dataset) -> dict[str, Dataset]:
    """Dataset of each stream; of those of the main dataset its present form instead of the one ``before``."""
    return {name: source if one.source is before else one.source for name, one in declared.items()}
