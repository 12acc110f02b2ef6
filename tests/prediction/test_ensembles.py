"""Several checkpoints predict files together; probabilities and uncertainty of every kind of image."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
import yaml

import medseg
from medseg import checkpoint, formats
from medseg.errors import InputError
from medseg.formats.geotiff import unreferenced_unsaid
from medseg.formats.nifti import write_bands
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from medseg.inference import ensemble
from medseg.inference.ensemble import Ensemble
from medseg.prediction import restore
from medseg.prediction.bands import SCALE
from medseg.prediction.file_predictor import FilePredictor
from medseg.prediction.predict import predict
from tests import tiny_checkpoint
from tests.tiny import utm_grid

SHAPE = (21, 18)
IMAGE = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


def scaled(factor: float) -> dict[str, Any]:
    """The tiny network with other weights."""
    held = tiny_checkpoint.contents()
    held["state_dict"] = {name: value * factor for name, value in held["state_dict"].items()}
    return held


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("members")
    return [tiny_checkpoint.write(folder / f"{n}.ckpt", scaled(f)) for n, f in enumerate((1.0, 2.0))]


@pytest.fixture(scope="module")
def loaded(members: list[Path]) -> FilePredictor:
    return medseg.load(members, device="cpu")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    formats.write_image(folder / "scene.tif", IMAGE, utm_grid(SHAPE), names=["R", "G"])
    return folder


def run(checkpoint: object, source: Path, output: Path, **settings: object) -> None:
    words = [f"{key}={value}" for key, value in settings.items()]
    cfg = compose("predict", ["checkpoint=x", f"input={source}", f"output={output}", "device=cpu", *words])
    cfg.checkpoint = checkpoint
    predict(cfg)


def band(path: Path) -> tuple[np.ndarray, tuple[str, ...], float]:
    with unreferenced_unsaid(), rasterio.open(path) as opened:
        return opened.read(), opened.descriptions, opened.scales[0]


def test_several_checkpoints_are_an_ensemble(loaded: FilePredictor, members: list[Path]) -> None:
    assert isinstance(loaded.arrays, Ensemble)
    sample_grid = Grid(SHAPE, np.eye(3), PIXEL)
    alone = [medseg.load(path, device="cpu")(IMAGE, sample_grid) for path in members]
    together = loaded(IMAGE, sample_grid)
    assert (alone[0] != alone[1]).any()
    assert ((together == alone[0]) | (together == alone[1])).mean() > 0.9


def test_a_scene_is_streamed_through_all_members(
    loaded: FilePredictor, members: list[Path], scene: Path, tmp_path: Path
) -> None:
    run([str(path) for path in members], scene, tmp_path / "out", probabilities=True, uncertainty=True)
    labels = formats.open(tmp_path / "out/scene.tif").read()[0]
    np.testing.assert_array_equal(labels, loaded(IMAGE, utm_grid(SHAPE)))
    prob, names, scale = band(tmp_path / "out/probabilities/scene.tif")
    assert (names, scale) == (("background", "a", "b"), pytest.approx(SCALE))
    assert np.abs(prob.astype(int).sum(0) - 254).max() <= 2
    assert (np.take_along_axis(prob, labels[None].astype(int), axis=0) == prob.max(0)).all()
    uncertain, names, _ = band(tmp_path / "out/uncertainty/scene.tif")
    assert names == ("entropy", "disagreement")
    assert uncertain[0].max() > uncertain[1].max() > 0
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    (entry,) = record["cases"].values()
    assert sorted(entry["outputs"]) == ["labels", "probabilities", "uncertainty"]


def test_one_network_has_a_temperature_and_an_ensemble_none(members: list[Path], scene: Path, tmp_path: Path) -> None:
    cold = Path(shutil.copy(members[0], tmp_path / "cold.ckpt"))
    checkpoint.store_calibration(cold, {"temperature": 4.0})
    for name, named in {"plain": members[0], "cold": cold, "both": [cold, members[1]], "warm": members}.items():
        given = [str(one) for one in named] if isinstance(named, list) else str(named)
        run(given, scene, tmp_path / name, probabilities=True, uncertainty=True)
    labels = {name: formats.open(tmp_path / name / "scene.tif").read() for name in ("plain", "cold", "both", "warm")}
    prob = {name: band(tmp_path / name / "probabilities/scene.tif")[0] for name in labels}
    spread = {name: band(tmp_path / name / "uncertainty/scene.tif")[0][0].astype(int) for name in labels}
    np.testing.assert_array_equal(labels["cold"], labels["plain"])
    expected = (prob["plain"] / 254) ** 0.25
    np.testing.assert_allclose(prob["cold"] / 254, expected / expected.sum(0), atol=0.15)
    assert (spread["cold"] >= spread["plain"] - 1).all()
    assert spread["cold"].mean() > spread["plain"].mean() + 5
    np.testing.assert_array_equal(prob["both"], prob["warm"])
    np.testing.assert_array_equal(labels["both"], labels["warm"])


def test_images_that_do_not_stream_get_the_same_bands(members: list[Path], tmp_path: Path) -> None:
    formats.write_image(tmp_path / "in.tif", IMAGE, Grid(SHAPE, np.eye(3), PIXEL), names=["R", "G"])
    made = restore.predictor(members, device="cpu", probabilities=True, uncertainty=True)
    made.file(tmp_path / "in.tif", tmp_path / "photo.png")
    made.file(tmp_path / "in.tif", tmp_path / "scene.tif")
    for kind in ("probabilities", "uncertainty"):
        whole, streamed = (band(tmp_path / kind / f"{name}.tif") for name in ("photo", "scene"))
        assert whole[1:] == streamed[1:]
        assert np.abs(whole[0].astype(int) - streamed[0].astype(int)).max() <= 1


def test_members_wait_in_files_where_they_need_much_memory(
    loaded: FilePredictor, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = loaded(IMAGE, utm_grid(SHAPE))
    monkeypatch.setattr(ensemble, "MOST_BLEND_BYTES", 0)
    np.testing.assert_array_equal(loaded(IMAGE, utm_grid(SHAPE)), expected)


def selected(folder: Path, paths: list[Path], **changes: object) -> Path:
    digests = [medseg.load(path, device="cpu").digest for path in paths]
    stored: Mapping[str, object] = {
        "format": 1,
        "members": [{"checkpoint": str(p), "digest": d} for p, d in zip(paths, digests, strict=True)],
        "flips": None,
        "postprocessing": [{"step": "remove_small", "classes": ["a", "b"], "size": 4, "unit": "px"}],
        **changes,
    }
    path = folder / "selection.yaml"
    path.write_text(yaml.safe_dump(stored))
    return path


def test_a_selection_says_members_and_post_processing(members: list[Path], scene: Path, tmp_path: Path) -> None:
    path = selected(tmp_path, members)
    run(str(path), scene, tmp_path / "out")
    run([str(member) for member in members], scene, tmp_path / "plain")
    labels, plain = (formats.open(tmp_path / f"{name}/scene.tif").read()[0] for name in ("out", "plain"))
    chosen = medseg.load(path, device="cpu")
    np.testing.assert_array_equal(labels, chosen(IMAGE, utm_grid(SHAPE)))
    assert (labels != plain).any()
    assert chosen.digest != medseg.load(members, device="cpu").digest
    with rasterio.open(tmp_path / "out/scene.tif") as written, rasterio.open(tmp_path / "plain/scene.tif") as before:
        assert written.profile == before.profile
        assert written.overviews(1) == before.overviews(1)
        assert written.tags()["CLASS_NAMES"] == before.tags()["CLASS_NAMES"]


def test_a_selection_made_for_another_checkpoint_is_refused(members: list[Path], tmp_path: Path) -> None:
    path = selected(tmp_path, members, members=[{"checkpoint": str(members[0]), "digest": "0" * 64}])
    with pytest.raises(InputError, match=r"0.ckpt: is not the checkpoint that was selected .*medseg-select again"):
        medseg.load(path, device="cpu")


def test_a_selection_with_another_class_is_refused(members: list[Path], tmp_path: Path) -> None:
    path = selected(tmp_path, members, postprocessing=[{"step": "keep_largest", "classes": ["liver"]}])
    with pytest.raises(InputError, match="liver"):
        medseg.load(path, device="cpu")


def test_members_that_read_files_in_other_ways_are_refused(members: list[Path], tmp_path: Path) -> None:
    def other(held: dict[str, Any]) -> None:
        held["medseg"]["config"]["data"]["bands"] = ["G", "R"]

    path = tiny_checkpoint.write(tmp_path / "other.ckpt", tiny_checkpoint.contents(), other)
    with pytest.raises(InputError, match=r"other.ckpt: reads files with data.bands=\['G', 'R'\], the first member"):
        medseg.load([members[0], path], device="cpu")
    assert restore.predictor([members[0], path], device="cpu", data={"bands": ["R", "G"]})


def test_bands_of_volumes_are_a_nifti_file_of_four_axes(tmp_path: Path) -> None:
    shape = (4, 5, 6)
    grid = Grid.regular(shape, (1.0, 2.0, 3.0))
    bands = np.random.default_rng(0).integers(0, 255, (2, *shape)).astype(np.uint8)
    write_bands(tmp_path / "a.nii.gz", iter(bands), 2, grid, names=["background", "liver"], scale=SCALE)
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.shape == (*shape, 2)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.affine, grid.affine)
    np.testing.assert_allclose(image.get_fdata(), np.moveaxis(bands, 0, -1) * SCALE, rtol=1e-6)
    assert image.header.get_zooms()[:3] == (1, 2, 3)
