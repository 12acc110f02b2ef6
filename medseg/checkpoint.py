"""What a checkpoint holds, written whole and read safely."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medseg._version import __version__
from medseg.errors import InputError
from medseg.planning.plan import Plan
from medseg.runtime import integrity, moved
from medseg.runtime.atomic import atomic_file
from medseg.runtime.provenance import provenance
from medseg.runtime.values import mapped, number, shown, truth, whole
from medseg.sample import DataSpec

FORMAT = 3
"""Version of the content of the key ``medseg``. Since 2, classes and groups have the names of ``runtime.moved``; since
3, ``data`` holds the dataset alone. ``read`` renames the keys of earlier files."""

FIRST_STAGE = "first_stage"
"""Key of the checkpoint of the first network, in that of the second network of a cascade."""


@dataclass(frozen=True)
class RunMetadata:
    """What a run knows about itself: with the weights, all that prediction needs.

    Attributes:
        config: Resolved configuration.
        spec: Channels, axes and the label table.
        plan: Patch, spacing, normalisation.
        provenance: Code, libraries, machine; under ``data`` the cases of each part, under ``weights`` the report on
            those that the network began with, if there were any.
        segments: Whether its network segments; False after pretraining.
        calibration: ``inference.calibration.calibrated`` of its network; None before the end of a training.
    """

    config: Mapping[str, Any]
    spec: DataSpec
    plan: Plan
    provenance: Mapping[str, Any]
    segments: bool = True
    calibration: Mapping[str, Any] | None = None

    @property
    def temperature(self) -> float:
        """What logits are divided by for probabilities; 1 where none was fitted."""
        return 1.0 if self.calibration is None else float(self.calibration["temperature"])

    @classmethod
    def of_new_run(
        cls,
        config: Mapping[str, Any],
        spec: DataSpec,
        plan: Plan,
        *,
        cases: Mapping[str, Any],
        segments: bool = True,
    ) -> RunMetadata:
        """Metadata of a run that starts now, in this process.

        Args:
            config: Resolved configuration.
            spec: Channels, axes and the label table.
            plan: Patch, spacing, normalisation.
            cases: Names of the cases of each part, of further streams by their names.
            segments: Whether its network segments.
        """
        origin = provenance(__version__, seed=config.get("seed")) | {"data": dict(cases)}
        return cls(dict(config), spec, plan, origin, segments)

    def with_data(self, description: Mapping[str, Any]) -> RunMetadata:
        """The same, with more about the data, such as digests of its files."""
        data = {**self.provenance["data"], **description}
        return replace(self, provenance={**self.provenance, "data": data})

    def with_weights(self, report: Mapping[str, Any]) -> RunMetadata:
        """The same, with the report on the weights that the network began with."""
        return replace(self, provenance={**self.provenance, "weights": dict(report)})

    def to_dict(self) -> dict[str, object]:
        """JSON-able form, which a checkpoint holds under the key ``medseg``; ``from_dict`` is its inverse."""
        return {
            "format": FORMAT,
            "config": dict(self.config),
            "spec": self.spec.to_dict(),
            "plan": self.plan.to_dict(),
            "segments": self.segments,
            "provenance": dict(self.provenance),
        } | ({} if self.calibration is None else {"calibration": dict(self.calibration)})

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RunMetadata:
        """Rebuild what ``to_dict`` gave; the classes that the configuration names are not looked at.

        Raises:
            InputError: A part that is missing, of another kind, out of range, or inconsistent with another; names it.
        """
        spec, plan = DataSpec.from_dict(stored["spec"]), Plan.from_dict(stored["plan"])
        if len(plan.spacing) != spec.ndim or len(plan.normalisation) != len(spec.channels):
            raise InputError(
                f"plan of {len(plan.spacing)} axes and {len(plan.normalisation)} channels, "
                f"spec of {spec.ndim} and {len(spec.channels)}"
            )
        segments = truth(stored.get("segments", True), "medseg.segments")
        calibration = stored.get("calibration")
        if calibration is not None:
            key = "medseg.calibration.temperature"
            number(mapped(calibration, "medseg.calibration", ["temperature"])["temperature"], key, above=0)
        return cls(stored["config"], spec, plan, stored["provenance"], segments, calibration)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        path: Its file.
        metadata: What its run was.
        network_state: Weights of the network alone (the averaged ones, where weights were averaged).
        step: Optimiser steps before it.
        stored: JSON-able form of the metadata as the file holds it, with today's class paths.
        first_stage: Of the second network of a cascade, the checkpoint of the first, which the same file holds.
    """

    path: Path
    metadata: RunMetadata
    network_state: Mapping[str, Tensor]
    step: int
    stored: Mapping[str, Any]
    first_stage: Checkpoint | None = None

    @classmethod
    def from_dict(cls, loaded: Mapping[str, Any], path: Path) -> Checkpoint:
        """From what ``torch.load`` gave for a file of any earlier version.

        Raises:
            InputError: Something that no training writes, or that a newer medseg wrote; names the file.
        """
        with damaged(path):
            _check_form(loaded)
        stored = _migrated(loaded["medseg"], path)
        with damaged(path):
            metadata = RunMetadata.from_dict(stored)
            step = whole(loaded.get("global_step", 0), "global_step", 0, 1 << 62)
        prefix = "network."
        state = {k[len(prefix) :]: v for k, v in loaded["state_dict"].items() if k.startswith(prefix)}
        first = None if FIRST_STAGE not in loaded else cls._first_of(loaded[FIRST_STAGE], path)
        return cls(path, metadata, state, step, stored, first)

    @classmethod
    def _first_of(cls, held: object, path: Path) -> Checkpoint:
        with damaged(path):
            first = mapped(held, FIRST_STAGE, ["medseg", "state_dict"])
            if FIRST_STAGE in first:
                raise InputError(f"{FIRST_STAGE}: has a first stage of its own, expected a cascade of two")
        return cls.from_dict(first, path)

    def to_dict(self) -> dict[str, object]:
        """What ``from_dict`` reads of it: as the first stage of another checkpoint."""
        state = {f"network.{name}": weights for name, weights in self.network_state.items()}
        return {"medseg": dict(self.stored), "state_dict": state, "global_step": self.step}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what decides predictions, of both stages.

        These are weights, configuration, channels, labels and plan, and a temperature other than 1.
        """
        parts = {key: self.stored[key] for key in ("config", "spec", "plan")}
        if self.metadata.temperature != 1:
            parts["temperature"] = self.metadata.temperature
        total = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
        for name, weights in sorted(self.network_state.items()):
            total.update(f"{name} {weights.dtype} {tuple(weights.shape)}".encode())
            total.update(weights.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        if self.first_stage is not None:
            total.update(self.first_stage.digest.encode())
        return total.hexdigest()


def read(path: Path | str) -> Checkpoint:
    """A checkpoint of medseg, on the CPU; nothing in it is executed.

    Its tensors lie in the file, mapped into memory, and are read when they are used; trainings replace checkpoints by
    renaming, which leaves a file that is mapped as it was (one that is cut in place ends the process). What prediction
    needs is held to its checksums. So reading 100 MB and copying them into a network takes 0.53 of the time of
    ``torch.load`` without any check (64 ms and 119 ms on an Intel Xeon; ``scripts/bench_checkpoint.py``).

    Raises:
        InputError: No such file, not a checkpoint, one that holds code, one of another program, one of a newer
            medseg, or one that has changed since it was written.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"checkpoint={source}: no such file; a run keeps its own in <run_dir>/checkpoints/best.ckpt")
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for a file it can't read
        raise InputError(
            f"checkpoint={source}: can't be read as tensors and plain values ({type(error).__name__}); "
            "it is cut short, no checkpoint, or holds pickled code, which medseg never executes"
        ) from error
    if not isinstance(loaded, dict) or "medseg" not in loaded:
        raise InputError(f"checkpoint={source}: not written by medseg (no 'medseg' entry); give a run's best.ckpt")
    needed = ["medseg", "state_dict", *([FIRST_STAGE] if FIRST_STAGE in loaded else [])]
    integrity.check(loaded, f"checkpoint={source}", needed)
    return Checkpoint.from_dict(loaded, source)


def save(held: Mapping[str, Any], path: Path | str) -> None:
    """Write tensors and plain values with checksums; a kill leaves the old file or the new one."""
    with atomic_file(Path(path)) as draft:
        torch.save(integrity.add(held) if "medseg" in held else dict(held), draft)


def load(path: Path | str, map_location: Any = "cpu") -> dict[str, Any]:
    """All that a checkpoint holds, in memory; nothing in it is executed.

    Raises:
        InputError: It has changed since it was written.
    """
    held: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    integrity.check(held, f"checkpoint={path}")
    return held


def store_calibration(path: Path, calibration: Mapping[str, Any]) -> None:
    """Add to a checkpoint what was fitted after its training; all else in it stays as it is."""
    held = load(path)
    save({**held, "medseg": {**held["medseg"], "calibration": dict(calibration)}}, path)


@contextmanager
def damaged(path: Path | str) -> Iterator[None]:
    """Around what uses the contents of a checkpoint: what is wrong with them becomes one line that names the file.

    Raises:
        InputError: That of the code within, which names the key.
    """
    try:
        yield
    except InputError as error:
        raise InputError(
            f"checkpoint={path}: damaged, or edited by hand ({error}); take another checkpoint of the run"
        ) from error


def _check_form(loaded: Mapping[str, object]) -> None:
    stored = mapped(loaded["medseg"], "medseg", ["format", "config", "spec", "plan", "provenance"])
    whole(stored["format"], "medseg.format", 1, 1_000_000)
    for key in ("config", "spec", "plan", "provenance"):
        mapped(stored[key], f"medseg.{key}")
    for name, tensor in mapped(loaded.get("state_dict"), "state_dict").items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            raise InputError(f"state_dict.{shown(name)}: got a {type(tensor).__name__}, expected a dense tensor")


def _migrated(stored: Mapping[str, Any], source: Path) -> dict[str, Any]:
    if stored["format"] > FORMAT:
        version = shown(stored["provenance"].get("medseg"))
        raise InputError(
            f"checkpoint={source}: format {stored['format']}, written by medseg {version}; medseg "
            f"{__version__} reads formats up to {FORMAT}: upgrade medseg"
        )
    return {**stored, "config": moved.updated(stored["config"]), "format": FORMAT}
