"""Files and arrays are predicted by the same object, which reads its checkpoint once."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medseg
from medseg import formats
from medseg.errors import InputError
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from medseg.prediction.file_predictor import FilePredictor
from medseg.prediction.predict import predict
from tests import tiny_checkpoint
from tests.tiny import utm_grid

SHAPE = (21, 18)
IMAGE = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return tiny_checkpoint.write(folder / "best.ckpt", tiny_checkpoint.contents() | {"global_step": 40})


@pytest.fixture(scope="module")
def loaded(path: Path) -> FilePredictor:
    return medseg.load(path, device="cpu")


@pytest.fixture
def grid() -> Grid:
    return utm_grid(SHAPE)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows with each file that torch loads."""
    load, files = torch.load, []
    monkeypatch.setattr(torch, "load", lambda file, **given: (files.append(file), load(file, **given))[1])
    return files


def scene(folder: Path, grid: Grid, *channels: int) -> Path:
    target = folder / f"scene_{''.join(map(str, channels))}.tif"
    formats.write_image(target, IMAGE[list(channels)], grid, names=["RG"[c] for c in channels])
    return target


def test_a_file_gets_the_labels_of_its_array(loaded: FilePredictor, tmp_path: Path, grid: Grid) -> None:
    expected = loaded(IMAGE, grid)
    assert len(np.unique(expected)) > 1
    rows: list[tuple[int, int]] = []
    target = loaded.file(
        scene(tmp_path, grid, 0, 1), tmp_path / "maps/a.tif", on_rows=lambda done, total: rows.append((done, total))
    )
    written = formats.open(target)
    np.testing.assert_array_equal(written.read()[0], expected)
    assert not written.grid.offset_from(grid)
    assert rows[-1] == (SHAPE[0], SHAPE[0])


def test_an_image_that_cannot_be_streamed_is_predicted_in_memory(loaded: FilePredictor, tmp_path: Path) -> None:
    grid, grey = Grid.regular(SHAPE, (1, 1), PIXEL), (40 * IMAGE + 100).clip(0, 255).astype(np.uint8)
    files = [tmp_path / "a_R.png", tmp_path / "a_G.png"]
    for file, channel in zip(files, grey, strict=True):
        formats.write_image(file, channel[None], grid)
    (tmp_path / "labels").mkdir()
    target = loaded.file([files[0], str(files[1])], tmp_path / "labels" / "a.png")
    np.testing.assert_array_equal(formats.open(target).read()[0], loaded(grey, grid))


def test_it_knows_its_checkpoint(loaded: FilePredictor, path: Path) -> None:
    assert loaded.step == 40
    assert loaded.digest == medseg.load(path, device="cpu").digest
    assert loaded.layout.folders == ("images",)
    assert isinstance(loaded.arrays, medseg.Predictor)


def test_a_prediction_reads_its_checkpoint_once(path: Path, tmp_path: Path, grid: Grid, reads: list[Any]) -> None:
    (tmp_path / "images").mkdir()
    scene(tmp_path / "images", grid, 0, 1)
    words = [f"checkpoint={path}", f"input={tmp_path}/images", f"output={tmp_path}/out", "device=cpu"]
    (written,) = predict(compose("predict", words))
    assert written.is_file()
    assert reads == [path]


def test_loading_reads_the_checkpoint_once(path: Path, reads: list[Any]) -> None:
    medseg.load(path, device="cpu")
    assert reads == [path]


def test_another_channel_count_is_reported(loaded: FilePredictor, grid: Grid) -> None:
    with pytest.raises(InputError, match=r"got an image with 1 channels, the network takes 2: \['R', 'G'\]"):
        loaded(IMAGE[0], grid)


def test_loading_a_checkpoint_imports_nothing_of_training() -> None:
    rooms = ("training", "methods", "callbacks", "loggers", "losses", "metrics", "doctor", "factory.run")
    names = [f"medseg.{room}" for room in rooms]
    code = f"import sys, medseg.prediction.restore; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
