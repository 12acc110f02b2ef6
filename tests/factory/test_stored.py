"""Whatever stands in a checkpoint: it predicts, or it is refused in one line that names the file."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg.errors import InputError
from medseg.geometry.grid import PIXEL, Grid
from medseg.prediction import restore
from tests import mutations, tiny_checkpoint

GRID = Grid.regular((10, 12), (1.0, 1.0), PIXEL)
IMAGE = np.random.default_rng(0).normal(size=(2, 10, 12))
USED = ("spec", "plan", "segments", "format", "provenance")
SETTINGS = ("model", "finetuning", "temporal", "inference", "trainer", "transform")
READING = (
    "nonfinite", "grid_tolerance", "bands", "other_grid", "other_crs", "attribute", "layer", "all_touched", "nodata",
    "mask_colours", "dates", "images", "names",
)  # fmt: skip


@pytest.fixture(scope="module")
def held() -> dict[str, Any]:
    return tiny_checkpoint.contents()


def matters(at: mutations.Path) -> bool:
    """Whether prediction looks at this place."""
    if at[0] == "state_dict" or at[:2] == ("medseg", "config"):
        return len(at) < 3 or at[0] == "state_dict" or at[2] in SETTINGS or (at[2] == "data" and at[3:4] in _FIELDS)
    return len(at) < 2 or at[1] in USED


_FIELDS = [(), *((name,) for name in READING)]
CASES = [
    (at, other)
    for at in mutations.places(tiny_checkpoint.contents())
    if matters(at)
    for other in mutations.OTHERS
    if "reasons" not in at[:-1] and (at[:2] != ("medseg", "provenance") or len(at) < 4)
]


def outcome(changed: dict[str, Any], path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``read``, or the line of the refusal; any other exception comes through."""
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: changed)
    try:
        predictor = restore.predictor(path, device="cpu")
        predictor(IMAGE, GRID)
    except InputError as error:
        return str(error)
    return "read"


def try_all(cases: list[Any], held: dict[str, Any], path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    path.touch()
    lines, failures = [], []
    for at, other in cases:
        try:
            lines.append(outcome(mutations.changed(held, at, other), path, monkeypatch))
        except Exception as error:
            failures.append(f"{at} = {other!r:.40}: {type(error).__name__}: {str(error)[:200]}")
    assert not failures, "\n".join(failures)
    assert all(len(line.splitlines()) == 1 for line in lines)
    return lines


@pytest.mark.usefixtures("unchecked")
def test_contents_that_are_changed_are_refused_in_one_line(
    held: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = np.random.default_rng(0).choice(len(CASES), 250, replace=False)
    lines = try_all([CASES[i] for i in chosen], held, tmp_path / "best.ckpt", monkeypatch)
    refused = [line for line in lines if line != "read"]
    assert len(refused) > 100
    assert all(line.startswith(f"checkpoint={tmp_path}/best.ckpt: ") for line in refused)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_all_contents_that_are_changed_are_refused_in_one_line(
    held: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_all(CASES, held, tmp_path / "best.ckpt", monkeypatch)


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        ("plan.patch", [8], r"patch=\[8\]: expected a list of 2"),
        ("plan.strides", [[1, 1], [0, 2]], "strides=0: expected a whole number from 1"),
        ("plan.kernels", [[3, 3]], "kernels=.*expected a list of 2"),
        ("plan.normalisation", [{"scheme": "none"}], "plan of 2 axes and 1 channels, spec of 2 and 2"),
        ("spec.ndim", 4, "spec.ndim=4: expected a whole number from 2 to 3"),
        ("spec.channels", [], "expected one channel or more"),
        ("config.inference.overlap", math.nan, "inference.overlap=nan: expected a number"),
        ("config.model.base_features", 4, "the network can't be rebuilt: RuntimeError: .*size mismatch"),
        ("config.model.encoder_blocks", [2**40], "far larger than the tensors of the checkpoint"),
        ("config.model.base_features", 2**20, "far larger than the tensors|can't be rebuilt"),
    ],
)
def test_messages_name_the_key(
    held: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, value: Any, words: str
) -> None:
    (tmp_path / "a.ckpt").touch()
    changed = mutations.changed(held, ("medseg", *at.split(".")), value)
    line = outcome(changed, tmp_path / "a.ckpt", monkeypatch)
    with pytest.raises(InputError, match=f"a.ckpt: damaged, or edited by hand .*{words}"):
        raise InputError(line)
