from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from medseg.data.reading.options import ReadOptions
from medseg.data.synthetic import phantom_scenes
from medseg.data.synthetic.phantom_scenes import PhantomScenes
from medseg.data.synthetic.scene import BANDS, IGNORE_VALUE, LABELS, NODATA, draw_scene
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose
from medseg.labels import IGNORE

SMALL: dict[str, Any] = {"n_scenes": 2, "n_test": 1, "shape": (40, 48), "reading": ReadOptions(nonfinite="mask")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PhantomScenes:
    dataset = PhantomScenes(tmp_path_factory.mktemp("cache"), **SMALL)
    dataset.cases()
    return dataset


def test_every_class_is_scored(dataset: PhantomScenes) -> None:
    spec = dataset.spec
    assert spec.ndim == 2
    assert not spec.labels.background
    assert [name for name, _ in spec.labels.targets] == list(LABELS)
    assert [(c.name, c.wavelength_nm) for c in spec.channels] == [
        ("B2", 492.7), ("B3", 559.8), ("B4", 664.6), ("B8", 832.8), ("B11", 1613.7), ("B12", 2202.4),
    ]  # fmt: skip
    assert dataset.normalisation == ("standard",) * 6


def test_scenes_are_read_as_they_were_drawn(dataset: PhantomScenes) -> None:
    cases = [*dataset.cases(), *dataset.test_cases()]
    assert [case.id for case in cases] == ["scene_000", "scene_001", "scene_002"]
    assert [case.group for case in cases] == ["scene_000", "scene_001", "scene_002"]
    for number, case in enumerate(cases):
        image, label, grid = draw_scene(0, number, SMALL["shape"])
        sample = dataset.read(case)
        valid = (image != NODATA).all(axis=0)
        np.testing.assert_array_equal(sample.valid, valid)
        np.testing.assert_array_equal(sample.image[:, valid], image[:, valid])
        np.testing.assert_array_equal(sample.label, np.where(label == IGNORE_VALUE, IGNORE, label.astype(int)))
        assert sample.grid.to_dict() == grid.to_dict()


def test_files_explain_themselves(dataset: PhantomScenes) -> None:
    case = dataset.cases()[0]
    assert case.label is not None
    with rasterio.open(case.images[0]) as scene, rasterio.open(case.label) as mask:
        assert scene.descriptions == BANDS
        assert (scene.nodata, scene.dtypes[0], mask.dtypes[0]) == (NODATA, "uint16", "uint8")
        assert (scene.crs, scene.transform) == (mask.crs, mask.transform)
        assert mask.colormap(1)[LABELS["water"]][:3] == (52, 120, 190)


def test_channels_may_be_some_bands_and_computed_ones(dataset: PhantomScenes) -> None:
    channels = ["B12", {"ratio": "(B8 - B12) / (B8 + B12)"}, "B8"]
    chosen = PhantomScenes(dataset.folder.parent, **SMALL, channels=channels)
    assert chosen.folder == dataset.folder
    whole, part = (d.read(dataset.cases()[0]) for d in (dataset, chosen))
    _, _, _, nir, _, swir = whole.image[:, whole.valid]
    np.testing.assert_array_equal(part.valid, whole.valid)
    np.testing.assert_allclose(part.image[:, part.valid], [swir, (nir - swir) / (nir + swir), nir], rtol=1e-6)


def test_it_is_drawn_once_for_its_settings(dataset: PhantomScenes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_scenes, "draw_scene", None)
    root = dataset.folder.parent
    assert PhantomScenes(root, **SMALL).cases() == dataset.cases()
    changes: list[dict[str, Any]] = [{"seed": 1}, {"n_test": 2}, {"n_scenes": 3}, {"shape": (40, 56)}]
    others = [PhantomScenes(root, **SMALL | change).folder for change in changes]
    assert len({dataset.folder, *others}) == 5
    assert not any(folder.exists() for folder in others)


def test_there_may_be_no_test_scenes(tmp_path: Path) -> None:
    dataset = PhantomScenes(tmp_path, **SMALL | {"n_test": 0})
    assert dataset.test_cases() == []
    assert len(dataset.cases()) == 2


def test_the_option_builds_it(tmp_path: Path) -> None:
    own = ["data.n_scenes=2", "data.n_test=0", "data.shape=[40,48]", "data.nonfinite=error"]
    dataset = build_dataset(compose("train", ["data=phantom_scenes", f"cache_dir={tmp_path}", *own]))
    assert (dataset.name, dataset.reading.nonfinite) == ("phantom_scenes", "error")
    assert tuple(c.name for c in dataset.spec.channels) == BANDS
    assert dataset.folder == PhantomScenes(tmp_path / "phantom_scenes", **SMALL | {"n_test": 0}).folder


@pytest.mark.parametrize("change", [{"n_scenes": 1}, {"n_test": -1}, {"shape": (40,)}, {"shape": (40, 31)}])
def test_impossible_settings_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"phantom_scenes: got n_scenes=.*expected at least 2 scenes"):
        PhantomScenes(tmp_path, **SMALL | change)
