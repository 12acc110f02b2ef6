"""Stored: what a checkpoint holds for prediction, held to kind and range, and the network that it was written from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from torch.nn.modules import module as registry

from medseg.checkpoint import RunMetadata
from medseg.data.layout.image_groups import folders_of, group_names
from medseg.data.layout.patterns import FilePatterns
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.factory.instantiate import instantiate
from medseg.factory.network import network
from medseg.models.network import Network
from medseg.planning.plan import Plan
from medseg.runtime.values import listed, mapped, number, shown, text, truth, whole
from medseg.sample import DataSpec

_PARTS = ("model", "finetuning", "temporal")
_MISFITS = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError, AssertionError,
    MemoryError, ImportError, HydraException, OmegaConfBaseException,
)  # fmt: skip
"""What constructors and ``load_state_dict`` raise for settings and tensors that were not those of one training."""
_LARGER, _BESIDE = 20, 1 << 28
"""A network may make so many times the numbers of its tensors in the file, and so many besides, as it is built; some
build parts that they leave out again."""
_MORE, _FURTHER = 100, 20_000
"""Likewise for its modules and parameters by count."""


@dataclass(frozen=True)
class Held:
    """What prediction needs of a checkpoint, besides tensors.

    Attributes:
        config: Of the training: ``model``, ``finetuning``, ``temporal``, and of ``inference``, ``trainer`` and
            ``transform`` what windows need.
        data: ``cfg.data`` of the training, of which ``ReadOptions.from_config`` takes its fields.
        spec: Channels, labels, axes.
        plan: Patch, spacing, normalisation.
        folders: Sub-folders of images, those of image groups as ``ReadOptions.image_groups`` has them; empty where the
            dataset names none.
        names: Patterns that found the files instead of folders; None where there were none.
    """

    config: DictConfig
    data: Mapping[str, Any]
    spec: DataSpec
    plan: Plan
    folders: tuple[str, ...]
    names: FilePatterns | None

    @classmethod
    def of(cls, metadata: RunMetadata) -> Held:
        """From the metadata of its run.

        The classes that it names have to be checked before (``trust.check``); they are built by ``rebuilt`` only.

        Raises:
            InputError: A part that is missing, of another kind, out of range, or at odds with another; names it.
        """
        spec, plan = metadata.spec, metadata.plan
        config = mapped(metadata.config, "config", ["model", "data", "inference", "trainer"])
        parts = {key: config[key] for key in _PARTS if config.get(key) is not None}
        data = mapped(config["data"], "data")
        _check_reading(data)
        patterns = data.get("names")
        return cls(
            OmegaConf.create({**parts, **_windows(config, spec.ndim)}),
            data,
            spec,
            plan,
            _folders(data),
            _file_names(patterns) if patterns else None,
        )


def rebuilt(held: Held, state: Mapping[str, Tensor]) -> Network:
    """The network of a checkpoint with its weights.

    Raises:
        InputError: Settings and tensors that do not fit each other.
    """
    cfg = held.config
    try:
        with _no_larger_than(state):
            net = network(cfg.model, held.plan, held.spec, cfg.get("temporal"))
            if "finetuning" in cfg:  # checkpoints from before it have everything tuned
                instantiate(cfg.finetuning).attach(net)
        net.load_state_dict(dict(state))
    except InputError:
        raise
    except _MISFITS as error:
        told = " ".join(str(error).split())
        raise InputError(f"the network can't be rebuilt: {type(error).__name__}: {told[:200]}") from error
    return net


@contextmanager
def _no_larger_than(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Stop a construction that makes far more than the tensors that it is to hold, before memory is filled."""
    values = _LARGER * sum(tensor.numel() for tensor in state.values()) + _BESIDE
    entries = _MORE * len(state) + _FURTHER

    def count(owner: nn.Module, name: str, added: object) -> None:
        nonlocal values, entries
        del owner, name
        entries -= 1
        values -= added.numel() if isinstance(added, nn.Parameter) and not added.is_meta else 0
        if entries < 0 or values < 0:
            raise InputError("model: its settings make a network far larger than the tensors of the checkpoint")

    hooks = [
        registry.register_module_parameter_registration_hook(count),
        registry.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _windows(config: Mapping[str, object], ndim: int) -> dict[str, object]:
    """The settings of windows, test-time mirrors and precision."""
    given = mapped(config["inference"], "inference", ["overlap", "batch_size", "flips"])
    overlap = number(given["overlap"], "inference.overlap", most=0.99)
    if overlap < 0:
        raise InputError(f"inference.overlap={overlap}: expected a share from 0 to 0.99")
    batch_size = whole(given["batch_size"], "inference.batch_size", 1, 1_000_000)
    precision = mapped(config["trainer"], "trainer", ["precision"])["precision"]
    transform = mapped(config.get("transform") or {}, "transform")
    mirror = transform.get("mirror")
    if mirror is not None:
        found = mapped(mirror, "transform.mirror")
        axes = found.get("axes")
        if axes not in (None, "all"):
            axes = [whole(axis, "transform.mirror.axes", 0, ndim - 1) for axis in listed(axes, "transform.mirror.axes")]
        mirror = {"p": number(found.get("p") or 0, "transform.mirror.p"), "axes": axes}
    axis = mapped(config["data"], "data").get("lateral_axis")
    return {
        "inference": {
            "overlap": overlap,
            "batch_size": batch_size,
            "flips": truth(given["flips"], "inference.flips"),
        },
        "trainer": {"precision": text(precision, "trainer.precision")},
        "transform": {"mirror": mirror} | {key: _turning(transform, key) for key in ("rotation", "turns")},
        "data": {"lateral_axis": None if axis is None else whole(axis, "data.lateral_axis", 0, ndim - 1)},
    }


def _turning(transform: Mapping[str, object], key: str) -> dict[str, object] | None:
    """Class and numbers of a rotation, of which the mirrors depend; nothing of it is built by its name."""
    if transform.get(key) is None:
        return None
    found = mapped(transform[key], f"transform.{key}")
    numbers = {
        str(name): number(value, f"transform.{key}.{name}")
        for name, value in found.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    return {"_target_": text(found.get("_target_", ""), f"transform.{key}._target_"), **numbers}


def _folders(data: Mapping[str, object]) -> tuple[str, ...]:
    """Sub-folders of images."""
    images: Any = data.get("images") or ()
    if isinstance(images, Mapping):
        text(data.get("reference") or "", "data.reference")
        return tuple(folders_of(images, group_names(images, data.get("reference")), "images"))
    folders = (images,) if isinstance(images, str) else listed(images, "data.images")
    return tuple(text(folder, "data.images") for folder in folders)


def _check_reading(data: Mapping[str, object]) -> None:
    """Hold the fields of ``ReadOptions`` to their kinds, which ``ReadOptions.from_config`` takes for granted."""
    given = {key: value for key, value in data.items() if value is not None}
    for key in ("nonfinite", "other_grid", "other_crs", "attribute", "layer", "absent"):
        text(given.get(key, ""), f"data.{key}")
    for key in ("grid_tolerance", "nodata"):
        number(given.get(key, 0), f"data.{key}", finite=key != "nodata")
    truth(given.get("all_touched", False), "data.all_touched")
    for band in listed(given.get("bands", []), "data.bands"):
        text(band, "data.bands")
    for name, colours in mapped(given.get("mask_colours", {}), "data.mask_colours").items():
        _check_colours(colours, f"data.mask_colours.{shown(name)}")
    _check_masks(mapped(given.get("date_masks", {}), "data.date_masks"))
    kinds = given.get("embeddings", "")
    for kind in mapped(kinds, "data.embeddings").values() if isinstance(kinds, Mapping) else [kinds]:
        text(kind, "data.embeddings")
    _check_dates(mapped(given.get("dates", {}), "data.dates"))
    ReadOptions.from_config(**data)


def _check_colours(colours: object, key: str) -> None:
    """Hold the colour of a class, or its colours, to lists of numbers."""
    for colour in listed(colours, key):
        if not isinstance(colour, int):
            listed(colour, key)


def _check_masks(mask: Mapping[str, object]) -> None:
    """Hold a mask of dates to the kinds of its keys."""
    for key in ("kind", "band"):
        text(mask.get(key) or "", f"data.date_masks.{key}")
    for key in ("drop", "bits"):
        for value in listed(mask.get(key) or [], f"data.date_masks.{key}"):
            whole(value, f"data.date_masks.{key}", 0, 62 if key == "bits" else 1 << 31)
    number(mask.get("above") or 0, "data.date_masks.above")


def _check_dates(dates: Mapping[str, object]) -> None:
    """Hold the layout of dates to the kinds of its keys."""
    for key in ("slots", "in_file"):
        whole(1 if dates.get(key) is None else dates[key], f"data.dates.{key}", 1, 1_000_000)
    text("" if dates.get("pattern") is None else dates["pattern"], "data.dates.pattern")


def _file_names(stored: object) -> FilePatterns:
    patterns = mapped(stored, "data.names")
    for key, value in patterns.items():
        for pattern in listed(
            [] if value is None else [value] if isinstance(value, str) else value, f"data.names.{key}"
        ):
            text(pattern, f"data.names.{key}")
    return FilePatterns.from_config(patterns)
