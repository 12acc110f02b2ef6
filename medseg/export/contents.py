"""The files of an exported predictor."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from medseg import checkpoint
from medseg.checkpoint import AtomicCheckpointIO, Checkpoint
from medseg.errors import InputError
from medseg.export import runner
from medseg.export.bundle import metadata
from medseg.export.card import card, scores_of
from medseg.export.description import describe
from medseg.export.layout import Layout
from medseg.export.networks import traced, write_onnx, write_pt2
from medseg.export.parity import MOST_CASES, CaseParity, check_tolerance, compare, draw_case
from medseg.prediction import restore
from medseg.prediction.checkpoints import find_checkpoints
from medseg.prediction.file_predictor import FilePredictor


@dataclass(frozen=True)
class Sources:
    """What is exported.

    Attributes:
        checkpoints: Of each network.
        predictor: Of all of them, in single precision on the CPU.
    """

    checkpoints: tuple[Checkpoint, ...]
    predictor: FilePredictor


def read(cfg: DictConfig) -> Sources:
    """Read what ``cfg.checkpoint`` names.

    Args:
        cfg: ``checkpoint``, ``flips``, ``overlap`` and ``trust``.

    Raises:
        InputError: A checkpoint is damaged, not the one that was selected, or does not fit the others.
    """
    names = cfg.checkpoint if isinstance(cfg.checkpoint, str) else list(cfg.checkpoint)
    predictor = restore.predictor(names, device="cpu", flips=cfg.flips, overlap=cfg.overlap, trust=cfg.trust)
    for member in predictor.arrays.members:
        member.tiling = replace(member.tiling, precision="fp32")
    return Sources(tuple(checkpoint.read(path) for path in find_checkpoints(names).paths), predictor)


def write(folder: Path, sources: Sources, layout: Layout, cfg: DictConfig, *, checkpoints: bool) -> list[CaseParity]:
    """Write every file, and measure parity with what was written.

    Args:
        folder: Where they go; empty.
        sources: What is exported.
        layout: Names of the files.
        cfg: ``cases``, ``tolerance`` and ``licence``.
        checkpoints: Whether the checkpoints go with them.

    Raises:
        InputError: A network that can't be expressed, or one that does not predict the same.
    """
    first = sources.checkpoints[0].metadata
    members = range(1, len(sources.checkpoints) + 1)
    networks = [layout.network(member) for member in members]
    settings = describe(sources.predictor, sources.checkpoints, networks)
    for member in members:
        _write_network(folder, sources, layout, member)
    _write_json(folder / "predictor.json", settings)
    shutil.copyfile(runner.__file__, folder / "runner.py")
    parity = _measured(folder, sources, cfg.cases)
    check_tolerance(parity, cfg.tolerance)
    _write_json(folder / "parity.json", {"tolerance": cfg.tolerance, "cases": [asdict(one) for one in parity]})
    name = str(first.config.get("name") or "medseg")
    scores = [scores_of(one.path) for one in sources.checkpoints]
    text = card(settings, name=name, licence=cfg.licence, scores=scores, parity=parity, files=networks)
    _write_text(folder / layout.card, text)
    if layout.monai:
        _write_json(folder / "configs/metadata.json", metadata(settings, name=name, licence=cfg.licence))
        torch.save(dict(sources.checkpoints[0].network_state), folder / "models/model.pt")
    if checkpoints:
        for member, one in zip(members, sources.checkpoints, strict=True):
            _write_checkpoint(folder / layout.checkpoint(member), one)
    return parity


def _write_network(folder: Path, sources: Sources, layout: Layout, member: int) -> None:
    predictor, path = sources.predictor.arrays.members[member - 1], sources.checkpoints[member - 1].path
    (folder / layout.network(member)).parent.mkdir(exist_ok=True)
    channels, window = len(predictor.spec.channels), predictor.tiling.window
    program = traced(predictor.network, channels, window, f"checkpoint={path}")
    write_pt2(program, folder / layout.pt2_file(member))
    if layout.onnx:
        write_onnx(program, folder / layout.onnx_file(member), f"checkpoint={path}")


def _measured(folder: Path, sources: Sources, cases: str | None) -> list[CaseParity]:
    """Parity on the first cases of a folder, or on a drawn image."""
    try:
        exported = runner.Predictor(folder)
        if cases is not None:
            files = runner.find_cases([Path(cases)], exported.settings)[:MOST_CASES]
            return compare(sources.predictor, exported, files)
        with tempfile.TemporaryDirectory() as name:
            return compare(sources.predictor, exported, [draw_case(Path(name), sources.predictor)])
    except runner.Refusal as error:
        raise InputError(f"cases={cases}: {error}") from error


def _write_checkpoint(path: Path, one: Checkpoint) -> None:
    """A checkpoint of what prediction needs, without the state of the optimiser."""
    state = {f"network.{name}": tensor for name, tensor in one.network_state.items()}
    stored = {"state_dict": state, "medseg": dict(one.stored), "global_step": one.step}
    AtomicCheckpointIO().save_checkpoint(stored, path)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
