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
from medseg.export.description import check_members, describe
from medseg.export.layout import Layout
from medseg.export.members import Members
from medseg.export.networks import traced, write_onnx, write_pt2
from medseg.export.parity import MOST_CASES, CaseParity, check_tolerance, compare, draw_case
from medseg.inference.postprocess import PostProcess
from medseg.prediction import restore
from medseg.prediction.file_predictor import FilePredictor


@dataclass(frozen=True)
class Sources:
    """What is exported.

    Attributes:
        checkpoints: Of each member.
        predictors: The same in single precision on the CPU.
        post: Post-processing of the label map.
    """

    checkpoints: tuple[Checkpoint, ...]
    predictors: tuple[FilePredictor, ...]
    post: PostProcess


def read(members: Members, cfg: DictConfig) -> Sources:
    """Read the checkpoints of members.

    Args:
        members: The networks.
        cfg: ``flips``, ``overlap`` and ``trust``.

    Raises:
        InputError: One is damaged, not the one that was selected, or does not fit the others.
    """
    checkpoints = tuple(checkpoint.read(path) for path in members.checkpoints)
    for position, one in enumerate(checkpoints):
        members.check(position, one.digest)
    check_members([one.metadata.spec for one in checkpoints], [str(one.path) for one in checkpoints])
    flips = members.flips if cfg.flips is None else cfg.flips
    predictors = []
    for one in checkpoints:
        predictor = restore.predictor(one, device="cpu", flips=flips, overlap=cfg.overlap, trust=cfg.trust)
        predictor.arrays.tiling = replace(predictor.arrays.tiling, precision="fp32")
        predictors.append(predictor)
    post = PostProcess.from_list(members.postprocessing, predictors[0].spec.labels)
    return Sources(checkpoints, tuple(predictors), post)


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
    settings = describe(sources.predictors, networks, sources.post, first.provenance)
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
    predictor, path = sources.predictors[member - 1], sources.checkpoints[member - 1].path
    (folder / layout.network(member)).parent.mkdir(exist_ok=True)
    channels, window = len(predictor.spec.channels), predictor.arrays.tiling.window
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
            return compare(sources.predictors, sources.post, exported, files)
        with tempfile.TemporaryDirectory() as name:
            drawn = draw_case(Path(name), sources.predictors[0])
            return compare(sources.predictors, sources.post, exported, [drawn])
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
