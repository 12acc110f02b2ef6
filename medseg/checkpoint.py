"""What a checkpoint holds, written whole and read safely."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from medseg._version import __version__
from medseg.errors import InputError
from medseg.runtime import integrity, moved
from medseg.runtime.provenance import provenance
from medseg.runtime.values import mapped, shown, whole

FORMAT = 2
"""Version of what stands under the key ``medseg``. Since 2, classes and keys have the names of ``runtime.moved``;
``_migrate`` renames those of earlier files."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a kill leaves the old checkpoint or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save tensors and plain values, with checksums; anything else would not load again."""
        target = Path(path)
        building = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            summed = integrity.add(checkpoint) if "medseg" in checkpoint else checkpoint
            super().save_checkpoint(summed, building, storage_options)
            os.replace(building, target)
        finally:
            building.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load under ``weights_only=True``, whatever was asked.

        Raises:
            InputError: It has changed since it was written.
        """
        loaded: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only=True)
        integrity.check(loaded, f"checkpoint={path}")
        return loaded


def contents(
    *,
    config: Mapping[str, Any],
    spec: Mapping[str, Any],
    plan: Mapping[str, Any],
    data: Mapping[str, Any],
    segments: bool = True,
) -> dict[str, Any]:
    """The part under ``medseg``: JSON-able, and with the weights all that prediction needs.

    Args:
        config: Resolved configuration.
        spec: ``DataSpec.to_dict()``.
        plan: ``Plan.to_dict()``.
        data: Manifest of the cases: folds; ``training`` adds digests of their files before the first step.
        segments: Whether its network segments; False after pretraining.
    """
    return {
        "format": FORMAT,
        "config": dict(config),
        "spec": dict(spec),
        "plan": dict(plan),
        "segments": segments,
        "provenance": provenance(__version__, seed=config.get("seed")) | {"data": dict(data)},
    }


def read(path: Path | str) -> dict[str, Any]:
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
    integrity.check(loaded, f"checkpoint={source}", ["medseg", "state_dict"])
    with damaged(source):
        _check_form(loaded)
    return _migrate(loaded, source)


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


def _check_form(loaded: Mapping[str, Any]) -> None:
    stored = mapped(loaded["medseg"], "medseg", ["format", "config", "spec", "plan", "provenance"])
    whole(stored["format"], "medseg.format", 1, 1_000_000)
    for key in ("config", "spec", "plan", "provenance"):
        mapped(stored[key], f"medseg.{key}")
    for name, tensor in mapped(loaded.get("state_dict"), "state_dict").items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            raise InputError(f"state_dict.{shown(name)}: got a {type(tensor).__name__}, expected a dense tensor")


def _migrate(loaded: dict[str, Any], source: Path) -> dict[str, Any]:
    stored = loaded["medseg"]
    if stored["format"] > FORMAT:
        version = shown(stored["provenance"].get("medseg"))
        raise InputError(
            f"checkpoint={source}: format {stored['format']}, written by medseg {version}; medseg "
            f"{__version__} reads formats up to {FORMAT}: upgrade medseg"
        )
    config = moved.updated(stored["config"])
    return loaded | {"medseg": stored | {"config": config, "format": FORMAT}}


def network_state(loaded: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Weights of the network alone (the averaged ones, where weights were averaged)."""
    prefix = "network."
    return {k[len(prefix) :]: v for k, v in loaded["state_dict"].items() if k.startswith(prefix)}
