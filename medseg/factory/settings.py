"""Settings: the parts of a training, built once before any case is read, so that a wrong value ends it at once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import hydra.utils
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from medseg.errors import InputError
from medseg.factory import class_weights
from medseg.factory.datamodule import build_sampling
from medseg.factory.instantiate import instantiate
from medseg.factory.network import follows_plan, network
from medseg.hydra_app.local_paths import check_local
from medseg.hydra_app.ranges import check_ranges, leaves
from medseg.losses.class_weights import POWERS
from medseg.planning.plan import Plan
from medseg.sample import DataSpec

_PATCH = {2: 256, 3: 64}
"""Cells along each axis of a patch that is yet to be planned."""
_NETWORKS = ("model", "temporal", "finetuning", "method")
"""Groups without negative numbers, and in which whatever is called dropout or share is at most 1."""
_FROM_THE_END = ("level",)
"""Keys of these groups that may be negative: they count from the end."""
_NUMERIC = {"int", "float", "None"}
_BY_NAME = {"Mapping[str, float]", "collections.abc.Mapping[str, float]", "dict[str, float]"}
_COMPUTES = (NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError)
"""What a library raises where it can't compute on the meta device."""


def check_values(cfg: DictConfig) -> None:
    """Refuse values that no part of the configuration can take: what can be told without the data.

    Where a class says that it takes a number, it gets a finite one, and an integer where it says so.

    Raises:
        InputError: Names the key, its value and what was expected.
    """
    check_local(cfg)
    check_ranges(cfg)
    content: Any = OmegaConf.to_container(cfg, resolve=True)
    for at, node in _nodes(content, ""):
        _check_annotated(at, node)
    for group in _NETWORKS:
        for key, value in leaves(content.get(group), group):
            _check_network_number(key, value)


def check_parts(
    cfg: DictConfig, spec: DataSpec, transform: Callable[[DictConfig, Plan, DataSpec], Any], *, labelled: bool
) -> None:
    """Build loss, metric, optimizer, schedule, sampling, transform and a network that follows the plan, and drop them.

    Args:
        cfg: Of the training.
        spec: Of the data.
        transform: Builds the transform for a plan.
        labelled: Whether labels are read; if not, loss and metric are not used.

    Raises:
        InputError: In one line, what a part does not take.
    """
    if labelled:
        with _one_line("loss"):
            instantiate(class_weights.without_words(cfg).loss)(labels=spec.labels)
        with _one_line("metric"):
            instantiate(cfg.metric)(labels=spec.labels)
    with _one_line("optimizer"):
        instantiate(cfg.optimizer)([nn.Parameter(torch.zeros(1))])
    with _one_line("scheduler"):
        instantiate(cfg.scheduler)(0.5)
    with _one_line("sampling"):
        build_sampling(cfg.sampling, spec.ndim, labelled=labelled)
    sketch = sketched(cfg, spec)
    with _one_line("transform"):
        transform(cfg, sketch, spec)
    if follows_plan(cfg.model):
        with torch.random.fork_rng(devices=[]), torch.device("meta"), _ignored_computation():
            network(cfg.model, sketch, spec, cfg.get("temporal"))


def sketched(cfg: DictConfig, spec: DataSpec) -> Plan:
    """A plan of two stages that stands for the one that is yet to be made, with the patch of the configuration."""
    d = spec.ndim
    wished = cfg.plan.patch
    if wished is not None and len(wished) != d:
        raise InputError(f"plan.patch={list(wished)} has {len(wished)} values, the data has {d} axes")
    return Plan(
        spacing=(1.0,) * d,
        patch=tuple(wished or (_PATCH[d],) * d),
        batch_size=1,
        kernels=((3,) * d,) * 2,
        strides=((1,) * d, (2,) * d),
        normalisation=(),
        masked=False,
    )


@contextmanager
def _one_line(part: str) -> Iterator[None]:
    """Around the construction of a part: what a class of somebody else says about its settings is bad input."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{part} can't be built: {error}; check the keys under {part}") from error


@contextmanager
def _ignored_computation() -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except _COMPUTES:
        return


def _nodes(node: object, at: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Every mapping with a ``_target_``, and its key."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield at, node
        for key, value in node.items():
            yield from _nodes(value, f"{at}.{key}" if at else str(key))


def _check_annotated(at: str, node: dict[str, Any]) -> None:
    """Hold the settings of a class to the numbers that its signature names."""
    try:
        parameters = inspect.signature(hydra.utils.get_object(node["_target_"])).parameters
    except (ValueError, TypeError, ImportError, AttributeError):  # refused where it is built
        return
    rest = next((p for p in parameters.values() if p.kind is p.VAR_KEYWORD), None)
    for key, value in node.items():
        parameter = parameters.get(key, rest)
        if not (key.startswith("_") or value is None or parameter is None):
            _check_value(f"{at}.{key}", value, _kinds(parameter))


def _kinds(parameter: inspect.Parameter) -> set[str]:
    """Types of a parameter, as its annotation spells them."""
    return {kind.strip() for kind in inspect.formatannotation(parameter.annotation).strip("'").split("|")}


def _check_value(at: str, value: Any, kinds: set[str]) -> None:
    """Raise on a value that is no number, or holds others, where the types are numbers or numbers by name."""
    if kinds - {"None"} <= _BY_NAME:
        _check_by_name(at, value, POWERS if at.endswith("class_weights") else ())
    elif kinds <= _NUMERIC and not _is_number(value, integer="float" not in kinds):
        expected = "a number" if "float" in kinds else "an integer"
        raise InputError(f"{at}={value}: expected {expected}")


def _check_by_name(at: str, value: Any, words: Iterable[str]) -> None:
    """Raise on a value that is neither numbers by name nor one of the words that stand for them."""
    if isinstance(value, str) and value in words:
        return
    if not isinstance(value, dict):
        others = f", or one of {', '.join(words)}" if words else ""
        raise InputError(f"{at}={value}: expected numbers by name{others}")
    wrong = {k: v for k, v in value.items() if not _is_number(v, integer=False)}
    if wrong:
        raise InputError(f"{at}={wrong}: expected a number for each name")


def _is_number(value: object, *, integer: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    return not integer or isinstance(value, int)


def _check_network_number(key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    name = key.rpartition(".")[2]
    if value < 0 and name not in _FROM_THE_END:
        raise InputError(f"{key}={value}: expected a number >= 0")
    if ("drop" in name or "share" in name) and value > 1:
        raise InputError(f"{key}={value}: expected a number from 0 to 1")
