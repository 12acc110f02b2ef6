"""Exported networks whose images are masked by a band: cells that it hides, parity, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import medseg
from medseg import checkpoint, formats
from medseg.data.reading.masks import KINDS, DateMask
from medseg.export import runner
from medseg.export.export import export
from medseg.export.parity import _drawn_mask
from medseg.hydra_app.compose import compose
from tests import tiny_checkpoint
from tests.tiny import utm_grid

SHAPE = (16, 18)


def masked(path: Path, **data: Any) -> Path:
    contents = tiny_checkpoint.contents()
    contents["medseg"]["config"]["data"].update(data)
    checkpoint.save(contents, path)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return masked(tmp_path_factory.mktemp("run") / "last.ckpt", date_masks={"kind": "scl"})


@pytest.fixture(scope="module")
def folder(path: Path) -> Path:
    return export(compose("export", [f"checkpoint={path}", f"output={path.parent}/exported"]))


def scene(path: Path, scl: np.ndarray, **settings: Any) -> Path:
    cells = np.random.default_rng(0).normal(2, 1, (2, *SHAPE)).astype(np.float32)
    names = settings.pop("names", ["SCL", "G", "R"])
    formats.write_image(path, np.stack([scl.astype(np.float32), *cells]), utm_grid(SHAPE), names=names, **settings)
    return path


def test_the_runner_masks_what_medseg_masks(path: Path, folder: Path, tmp_path: Path) -> None:
    scl = np.full(SHAPE, 4)
    scl[2:7, 3:9], scl[10:, :4] = 9, 3
    file = scene(tmp_path / "a.tif", scl)
    exported, predictor = runner.Predictor(folder, threads=1), medseg.load(path, device="cpu")
    exported.file([file], tmp_path / "own.tif")
    predictor.file(file, tmp_path / "ours.tif")
    with rasterio.open(tmp_path / "own.tif") as own, rasterio.open(tmp_path / "ours.tif") as ours:
        np.testing.assert_array_equal(own.read(), ours.read())
        np.testing.assert_array_equal(own.read_masks(1) > 0, scl == 4)
    (case,) = json.loads((folder / "parity.json").read_text())["cases"]
    assert case["largest_difference"] < 1e-4


def test_a_file_without_the_band_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    file = scene(tmp_path / "a.tif", np.full(SHAPE, 4), names=["X", "G", "R"])
    with pytest.raises(runner.Refusal, match=r"no band SCL, which says where there are no data; the file has"):
        runner.Predictor(folder, threads=1).file([file], tmp_path / "own.tif")


@pytest.mark.parametrize("kind", [*KINDS, "bits and above"])
def test_the_runner_reads_values_as_medseg_does(kind: str) -> None:
    mask = KINDS.get(kind, DateMask("X", drop=(7,), bits=(1, 3), above=20.5))
    cells = np.array([0.0, 0.3, 0.5, *range(1, 40), 255, np.nan])
    np.testing.assert_array_equal(runner.hidden(cells, vars(mask)), mask.hides(cells))


@pytest.mark.parametrize("kind", KINDS)
def test_the_drawn_mask_hides_some_cells(kind: str) -> None:
    hidden = KINDS[kind].hides(_drawn_mask(np.random.default_rng(0), SHAPE, KINDS[kind]))
    assert 0.2 < hidden.mean() < 0.8
