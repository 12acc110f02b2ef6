"""The files of an exported predictor."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig

from medseg.checkpoint import FIRST_STAGE, Checkpoint, save
from medseg.errors import InputError
from medseg.export import runner
from medseg.export.bundle import metadata
from medseg.export.card import card, scores_of
from medseg.export.description import describe
from medseg.export.layout import Layout
from medseg.export.networks import traced, write_onnx, write_pt2
from medseg.export.parity import MOST_CASES, CaseParity, check_tolerance, compare, drawn_cases
from medseg.export.public import published
from medseg.export.publish import CARD
from medseg.export.publish import metadata as card_metadata
from medseg.inference.cascade import CascadedPredictor
from medseg.inference.predictor import Predictor
from medseg.prediction import restore
from medseg.prediction.checkpoints import FORMAT as SELECTION_FORMAT
from medseg.prediction.checkpoints import read_checkpoints
from medseg.prediction.file_predictor import FilePredictor
from medseg.weights.exported import SELECTION, SETTINGS


@dataclass(frozen=True)
class Sources:
    """What is exported.

    Attributes:
        checkpoints: Of each network, without what is not for others.
        predictor: Of all of them, in single precision on the CPU.
        postprocessing: Its steps as plain data.
    """

    checkpoints: tuple[Checkpoint, ...]
    predictor: FilePredictor
    postprocessing: tuple[Mapping[str, Any], ...] = ()


def read(cfg: DictConfig) -> Sources:
    """Read what ``cfg.checkpoint`` names.

    Args:
        cfg: ``checkpoint``, ``flips``, ``overlap`` and ``trust``.

    Raises:
        InputError: A checkpoint is damaged, not the one that was selected, or does not fit the others.
    """
    loaded = read_checkpoints(cfg.checkpoint if isinstance(cfg.checkpoint, str) else list(cfg.checkpoint))
    predictor = restore.predictor(loaded, device="cpu", flips=cfg.flips, overlap=cfg.overlap, trust=cfg.trust)
    for member in predictor.arrays.members:
        before = member.first.members if isinstance(member, CascadedPredictor) else ()
        for one in (member, *before):
            one.tiling = replace(one.tiling, precision="fp32")
    flips = loaded.choice.flips if cfg.flips is None else cfg.flips
    checkpoints = [published(one, flips=flips, overlap=cfg.overlap) for one in loaded.checkpoints]
    return Sources(tuple(checkpoints), predictor, loaded.choice.postprocessing)


def write(folder: Path, sources: Sources, layout: Layout, cfg: DictConfig) -> list[CaseParity]:
    """Write every file, and measure parity with what was written.

    Args:
        folder: Where they go; empty.
        sources: What is exported.
        layout: Names of the files.
        cfg: ``cases``, ``tolerance``, ``licence``, ``hub`` and ``hub_datasets``.

    Raises:
        InputError: A network that can't be expressed, or one that does not predict the same; or facts of cases in a
            MONAI bundle.
    """
    if layout.monai and any(one.metadata.spec.every_fact for one in sources.checkpoints):
        raise InputError(
            "format=monai: its networks take images alone, and this one has facts or classes of cases (data.table); "
            "choose format=onnx or pt2, whose runner takes them"
        )
    members = range(1, len(sources.checkpoints) + 1)
    networks = [layout.network(member) for member in members]
    first_stages = [layout.first_stage(member) for member in members]
    settings = describe(sources.predictor, sources.checkpoints, networks, first_stages)
    for member in members:
        _write_network(folder, sources, layout, member)
    _write_json(folder / SETTINGS, settings)
    _write_checkpoints(folder, sources, layout)
    shutil.copyfile(runner.__file__, folder / "runner.py")
    parity = _measured(folder, sources, cfg.cases)
    check_tolerance(parity, cfg.tolerance)
    if cfg.cases is not None:  # names of files may be those of patients
        parity = [replace(one, case=f"case {number}") for number, one in enumerate(parity, start=1)]
    _write_json(folder / "parity.json", {"tolerance": cfg.tolerance, "cases": [asdict(one) for one in parity]})
    _write_descriptions(folder, sources, layout, cfg, settings, parity)
    return parity


def _write_descriptions(
    folder: Path,
    sources: Sources,
    layout: Layout,
    cfg: DictConfig,
    settings: Mapping[str, Any],
    parity: Sequence[CaseParity],
) -> None:
    """The model card, and of a MONAI bundle what it has in addition."""
    name = str(sources.checkpoints[0].metadata.config.get("name") or "medseg")
    scores = [scores_of(one.path) for one in sources.checkpoints]
    networks = [member["network"] for member in settings["members"]]
    text = card(settings, name=name, licence=cfg.licence, scores=scores, parity=parity, files=networks)
    _write_text(folder / layout.card, text)
    if cfg.hub is not None:
        head = card_metadata(settings, licence=cfg.licence, datasets=cfg.hub_datasets, onnx=layout.onnx)
        _write_text(folder / CARD, head + text)
    if layout.monai:
        _write_json(folder / "configs/metadata.json", metadata(settings, name=name, licence=cfg.licence))
        torch.save(dict(sources.checkpoints[0].network_state), folder / "models/model.pt")


def _write_network(folder: Path, sources: Sources, layout: Layout, member: int) -> None:
    predictor, one = sources.predictor.arrays.members[member - 1], sources.checkpoints[member - 1]
    _write_program(folder, layout.network(member), predictor, one, onnx=layout.onnx)
    if isinstance(predictor, CascadedPredictor) and one.first_stage is not None:
        (first,) = predictor.first.members
        _write_program(folder, layout.first_stage(member), first, one.first_stage, onnx=layout.onnx)


def _write_program(folder: Path, name: str, predictor: Predictor[Any], one: Checkpoint, *, onnx: bool) -> None:
    """Write a network for torch.export, and as ONNX where that is what the runner loads."""
    target, where = folder / name, f"checkpoint={one.path}"
    target.parent.mkdir(exist_ok=True)
    spec = one.metadata.spec
    facts = sum(fact.width for fact in spec.facts)
    program = traced(predictor.network, len(spec.channels), predictor.tiling.window, where, facts=facts)
    write_pt2(program, target.with_suffix(".pt2"))
    if onnx:
        write_onnx(program, target, where)


def _measured(folder: Path, sources: Sources, cases: str | None) -> list[CaseParity]:
    """Parity on the first cases of a folder, or on a drawn image."""
    try:
        exported = runner.Predictor(folder)
        if cases is not None:
            files = runner.find_cases([Path(cases)], exported.settings)[:MOST_CASES]
            return compare(sources.predictor, exported, files)
        with tempfile.TemporaryDirectory() as name:
            return compare(sources.predictor, exported, drawn_cases(Path(name), sources.predictor))
    except runner.Refusal as error:
        raise InputError(f"cases={cases}: {error}") from error


def _write_checkpoints(folder: Path, sources: Sources, layout: Layout) -> None:
    """The checkpoints without the state of the optimiser, and the selection that makes the same predictor of them."""
    members = []
    for number, one in enumerate(sources.checkpoints, start=1):
        held = one.to_dict()
        if one.first_stage is not None:
            held[FIRST_STAGE] = one.first_stage.to_dict()
        save(held, folder / layout.checkpoint(number))
        members.append({"checkpoint": layout.checkpoint(number), "digest": one.digest})
    steps = [dict(step) for step in sources.postprocessing]
    selection = {"format": SELECTION_FORMAT, "members": members, "flips": None, "postprocessing": steps}
    _write_text(folder / SELECTION, yaml.safe_dump(selection, sort_keys=False))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
