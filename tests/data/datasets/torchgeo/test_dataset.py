import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rasterio import warp
from torchgeo.datasets import L8Biome, LoveDA, NonGeoDataset, Potsdam2D, RasterDataset, Vaihingen2D

from medseg.data.dataset import Dataset
from medseg.data.datasets.torchgeo.recipe import quiet
from medseg.data.datasets.torchgeo.samples import Samples
from medseg.data.store.content_hash import content_key
from medseg.errors import InputError
from medseg.factory import split as folds
from medseg.factory.dataset import build_dataset
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL
from medseg.hydra_app.compose import compose
from medseg.labels import IGNORE
from medseg.training.train import train
from tests import torchgeo_layouts as layouts
from tests.tiny import utm_grid
from tests.torchgeo_layouts import SHAPE, TORCHGEO, drawn, save_raster

WINDOW = Box((5, 7), (20, 30))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[str]]]:
    """Root of an option's files, written once, and the overrides that point to it."""
    root = tmp_path_factory.mktemp("torchgeo")
    told: dict[str, list[str]] = {}

    def written(option: str) -> tuple[Path, list[str]]:
        told.setdefault(option, []) or told[option].extend(TORCHGEO[option](root / option))
        return root / option, told[option]

    return written


def built(option: str, cache: Path, *overrides: str) -> Dataset:
    return build_dataset(compose("train", [f"data={option}", *overrides, f"cache_dir={cache}"]))


def digests_of(dataset: Dataset) -> dict[str, str]:
    return {case.id: content_key(case.files, {}) for case in dataset.cases()}


READY: dict[str, tuple[Callable[[str], tuple[np.ndarray, np.ndarray]], dict[int, int], str, list[str]]] = {
    "loveda": (
        lambda name: drawn(name, range(8), 3), {0: IGNORE} | {v: v - 1 for v in range(1, 8)}, r"[a-z]+_(.+)",
        ["train_0", "train_1", "train_1366", "val_2522", "val_3514"],
    ),
    "landcoverai": (lambda name: drawn(name, range(5), 3), {v: v for v in range(5)}, "(.+)", layouts.LANDCOVER),
    "potsdam": (
        lambda name: drawn(name, range(6), 4), {v: v for v in range(6)}, r"(?:train|test)_(.+)_RGBIR",
        [f"train_{name}_RGBIR" for name in layouts.POTSDAM[:3]],
    ),
    "l8biome": (layouts.biome, {0: IGNORE, 64: 0, 128: 1, 192: 2, 255: 3}, "(.+)", list(layouts.BIOME)),
    "sen1floods11": (
        layouts.flood, {-1: IGNORE, 0: 0, 1: 1}, "(.+)_S1Hand",
        ["Ghana_103272_S1Hand", "India_1017769_S1Hand", "Spain_1199913_S1Hand", "USA_741073_S1Hand"],
    ),
}  # fmt: skip
"""By option: what was written for a name, index by raw value, the name in a case's id, ids."""


@pytest.mark.parametrize("option", READY)
def test_ready_option_reads_what_was_written(option: str, raw: Any, tmp_path: Path) -> None:
    write, index_of, name_in, ids = READY[option]
    dataset = built(option, tmp_path, *raw(option)[1])
    assert [case.id for case in dataset.cases()] == ids
    for case in [*dataset.cases(), *dataset.test_cases()]:
        found = re.fullmatch(name_in, case.id)
        assert found
        image, label = write(found[1])
        empty = np.isnan(image).any(axis=0) | (image == 0).all(axis=0)
        sample = dataset.read(case)
        np.testing.assert_array_equal(sample.valid, ~empty)
        np.testing.assert_array_equal(sample.image, np.where(empty, 0, image))
        if case.label is not None:
            np.testing.assert_array_equal(sample.label, np.vectorize(index_of.get)(label))
        window = dataset.open(case).read(WINDOW)
        np.testing.assert_array_equal(window.image, sample.image[:, *WINDOW.slices])
    assert (tmp_path / "torchgeo").exists() is False  # nothing is kept beside the files


def test_ready_options_know_bands_classes_and_colours(raw: Any, tmp_path: Path) -> None:
    specs = {option: built(option, tmp_path, *raw(option)[1]).spec for option in READY}
    assert {option: [c.name for c in spec.channels] for option, spec in specs.items()} == {
        "loveda": ["R", "G", "B"],
        "landcoverai": ["R", "G", "B"],
        "potsdam": ["R", "G", "B", "NIR"],
        "l8biome": [f"B{n}" for n in range(1, 12)],
        "sen1floods11": ["VV", "VH"],
    }
    assert specs["l8biome"].channels[4].wavelength_nm == 864.7
    assert [option for option, spec in specs.items() if spec.labels.background] == ["sen1floods11"]
    potsdam = [c.colour for c in specs["potsdam"].labels.classes]
    assert potsdam == list(Potsdam2D.colormap)
    assert {option: len(spec.labels.targets) for option, spec in specs.items()} == {
        "loveda": 7, "landcoverai": 5, "potsdam": 6, "l8biome": 4, "sen1floods11": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("option", "train_ids", "val_ids", "test_ids"),
    [
        ("loveda", ["train_0", "train_1", "train_1366"], ["val_2522", "val_3514"], []),
        ("sen1floods11", *[[f"{name}_S1Hand" for name in names] for names in layouts.FLOODS.values()]),
    ],
)  # fmt: skip
def test_official_splits_are_kept(
    option: str, train_ids: list[str], val_ids: list[str], test_ids: list[str], raw: Any, tmp_path: Path
) -> None:
    cfg = compose("train", [f"data={option}", *raw(option)[1], f"cache_dir={tmp_path}"])
    dataset = build_dataset(cfg)
    halves = folds.halves(cfg.split, dataset)
    assert [[case.id for case in half] for half in halves] == [train_ids, val_ids]
    assert [case.id for case in folds.judged(cfg.split, dataset)] == test_ids


def test_test_set_without_masks_is_not_lost(raw: Any, tmp_path: Path) -> None:
    tests = built("loveda", tmp_path, *raw("loveda")[1]).test_cases()
    assert [(case.id, case.label) for case in tests] == [("test_4191", None), ("test_5167", None)]


def test_files_agree_with_what_torchgeo_gives(raw: Any, tmp_path: Path) -> None:
    dataset = built("loveda", tmp_path, *raw("loveda")[1])
    theirs = LoveDA(str(raw("loveda")[0]), split="val")
    ours = [dataset.read(case) for case in dataset.cases() if case.id.startswith("val")]
    assert len(ours) == len(theirs) == 2
    for i, sample in enumerate(ours):  # theirs are sorted by path, rural ones first
        np.testing.assert_array_equal(sample.image, theirs[i]["image"].numpy())
        np.testing.assert_array_equal(sample.label, theirs[i]["mask"].numpy() - 1)  # IGNORE is -1
    dataset = built("potsdam", tmp_path, *raw("potsdam")[1])
    first = Potsdam2D(str(raw("potsdam")[0]))[0]
    sample = dataset.read(dataset.cases()[0])
    np.testing.assert_array_equal(sample.image, first["image"].numpy())
    np.testing.assert_array_equal(sample.label, first["mask"].numpy())


def test_bands_may_lie_in_further_files(raw: Any, tmp_path: Path) -> None:
    optical = [f"B{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, "8A", 9, 10, 11, 12)]
    more = ["data.more_images=[{S1Hand: S2Hand}]", f"data.bands=[VV,VH,{','.join(optical)}]", "data.channels=[B12,VV]"]
    dataset = built("sen1floods11", tmp_path, *raw("sen1floods11")[1], *more)
    sample = dataset.read(dataset.cases()[0])
    second = drawn("Ghana_103272", (-1, 0, 1), 13, np.int16)[0]
    np.testing.assert_array_equal(sample.image[0, 1:], second[12, 1:])
    np.testing.assert_array_equal(sample.image[1, 1:], layouts.flood("Ghana_103272")[0][0, 1:])
    assert [c.wavelength_nm for c in dataset.spec.channels] == [2202.4, None]


def test_an_image_has_the_mask_that_covers_most_of_it(tmp_path: Path) -> None:
    for number in range(2):  # neighbours, whose masks are wider than they are
        image, label = drawn(f"n{number}", (0, 1), 1)
        save_raster(tmp_path / f"a/n{number}.tif", image, epsg=32633, corner=(500000 + 400 * number, 0), cell=10)
        wide = np.pad(label, ((0, 0), (3, 3)))[None].astype(np.uint8)
        save_raster(tmp_path / f"b/n{number}.tif", wide, epsg=32633, corner=(499970 + 400 * number, 0), cell=10)
    own = [
        "data.class_path=RasterDataset",
        "data.mask_class_path=RasterDataset",
        "data.read=files",
        "data.bands=[grey]",
    ]
    own += [f"data.mask_arguments={{paths: {tmp_path}/b}}", "data.labels={background: 0, road: 1}"]
    dataset = built("torchgeo", tmp_path, f"data.root={tmp_path}/a", *own)
    for case in dataset.cases():
        image, label = drawn(case.id, (0, 1), 1)
        sample = dataset.read(case)
        np.testing.assert_array_equal(sample.image, image)
        np.testing.assert_array_equal(sample.label, label)


@pytest.mark.parametrize("read", ["files", "samples"])
def test_a_case_annotates_what_is_declared(read: str, tmp_path: Path) -> None:
    for number in range(2):
        image, label = drawn(f"n{number}", (0, 1), 1)
        for folder, cells in (("a", image), ("b", label[None].astype(np.uint8))):
            corner = (500000 + 400 * number, 0)
            save_raster(tmp_path / f"{folder}/n{number}.tif", cells, epsg=32633, corner=corner, cell=10)
    own = [
        f"data.root={tmp_path}/a", f"data.read={read}", "data.bands=[grey]", "data.class_path=RasterDataset",
        f"data.mask_arguments={{paths: {tmp_path}/b}}", "data.mask_class_path=RasterDataset",
        "data.labels={background: 0, road: 1, house: 2}",
    ]  # fmt: skip
    dataset = built("torchgeo", tmp_path, *own, "data.annotated={n0*: [road]}")
    first, second = dataset.cases()
    assert (first.annotated, second.annotated) == ({"road"}, None)
    sample = dataset.read(first)
    assert sample.annotated is not None
    assert sample.annotated.tolist() == [True, True, False]
    dataset = built("torchgeo", tmp_path, *own, "data.annotated={n1*: [house]}")
    with pytest.raises(InputError, match=r"has \d+ cells of road, which the case does not annotate"):
        dataset.read(dataset.cases()[1])
    table = tmp_path / "annotated.csv"
    table.write_text("case,classes\nn0,road\nn1,road\n")
    if read == "files":
        dataset = built("torchgeo", tmp_path, *own, f"data.annotated={table}")
        assert [case.annotated for case in dataset.cases()] == [{"road"}, {"road"}]
    with pytest.raises(InputError, match=r"data\.annotated: no case or folder is named 'test_\*'"):
        built("torchgeo", tmp_path, *own, "data.annotated={test_*: [road]}").cases()


def test_samples_are_cases(raw: Any, tmp_path: Path) -> None:
    root, overrides = raw("torchgeo")
    dataset = built("torchgeo", tmp_path, *overrides)
    cases = [*dataset.cases(), *dataset.test_cases()]
    names = [f"{part}_{name}" for part, names in layouts.VAIHINGEN.items() for name in names]
    assert [case.id for case in cases] == [case.group for case in cases] == names
    theirs = [sample for part in layouts.VAIHINGEN for sample in Vaihingen2D(str(root), split=part)]
    for case, told in zip(cases, theirs, strict=True):
        sample = dataset.read(case)
        np.testing.assert_array_equal(sample.image, told["image"].numpy())
        np.testing.assert_array_equal(sample.label, told["mask"].numpy())
        assert (sample.grid.frame, sample.grid.shape) == (PIXEL, SHAPE)
        assert sample.valid.all()
        window = dataset.open(case).read(WINDOW)
        np.testing.assert_array_equal(window.label, told["mask"].numpy()[WINDOW.slices])
    assert dataset.spec.labels.names == Vaihingen2D.classes
    assert [c.colour for c in dataset.spec.labels.classes] == list(Vaihingen2D.colormap)
    assert [c.name for c in dataset.spec.channels] == ["R", "G", "B"]


def test_samples_are_read_again_only_if_files_change(raw: Any, tmp_path: Path, monkeypatch: Any) -> None:
    _, overrides = raw("torchgeo")
    mine = tmp_path / "vaihingen"
    own = [f"data.root={mine}", *overrides[1:], "data.bands=[R,G,B]"]
    layouts.torchgeo(mine)
    first = digests_of(built("torchgeo", tmp_path, *own))
    read: list[int] = []
    survey = Samples.survey
    monkeypatch.setattr(Samples, "survey", lambda *args: read.append(args[1]) or survey(*args))
    assert digests_of(built("torchgeo", tmp_path, *own)) == first
    assert read == []
    changed = layouts.VAIHINGEN["train"][1]
    layouts.save_picture(mine / f"{changed}.tif", layouts.POTSDAM_COLOURS[np.zeros(SHAPE, int)])
    second = digests_of(built("torchgeo", tmp_path, *own))
    assert read == [0, 1, 2]
    assert {name for name in first if first[name] != second[name]} == {f"train_{changed}"}


def test_a_dataset_forgets_its_own_samples_alone(tmp_path: Path, raw: Any) -> None:
    _, overrides = raw("torchgeo")
    for name in ("one", "two"):
        layouts.torchgeo(tmp_path / name)
    one, two, again = (
        built("torchgeo", tmp_path, f"data.root={tmp_path}/{name}", *overrides[1:], "data.bands=[R,G,B]")._samples[
            "train"
        ]  # type: ignore[attr-defined]
        for name in ("one", "two", "one")
    )
    of_one, of_two = one.dataset, two.dataset
    assert again.dataset is of_one, "of the same files"
    two.forget()
    assert one.dataset is of_one
    assert two.dataset is not of_two


def scene_and_mask(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """A scene, and a mask of the same cells that lacks the first five rows of it and ends three columns further."""
    image, label = drawn("scene", (0, 1, 2), 2, np.float32)
    image[:, 20, 10] = np.nan
    save_raster(root / "images/s_20200101.tif", image, epsg=32633, corner=(500000, 4000000), cell=10)
    mask = np.pad(label, ((0, 0), (0, 3)))[None, 5:].astype(np.uint8)
    save_raster(root / "masks/m.tif", mask, epsg=32633, corner=(500000, 3999950), cell=10)
    return image, label


GEO = [
    "data.class_path=RasterDataset", "data.mask_class_path=torchgeo.datasets.RasterDataset", "data.bands=[VV,VH]",
    "data.labels={background: 0, road: 1, water: 2}",
]  # fmt: skip


def test_intersection_of_geo_datasets_is_read_in_windows(tmp_path: Path) -> None:
    image, label = scene_and_mask(tmp_path)
    masks = f"data.mask_arguments={{paths: {tmp_path}/masks}}"
    dataset = built("torchgeo", tmp_path, f"data.root={tmp_path}/images", masks, *GEO)
    (case,) = dataset.cases()
    assert case.id == "s_20200101"
    opened = dataset.open(case)
    sample = opened.read()
    valid = np.isfinite(image[:, 5:]).all(axis=0)
    np.testing.assert_array_equal(sample.valid, valid)
    np.testing.assert_array_equal(sample.image, np.where(valid, image[:, 5:], 0))
    np.testing.assert_array_equal(sample.label, label[5:])
    np.testing.assert_allclose(sample.grid.affine, [[0, 10, 500005], [-10, 0, 3999945], [0, 0, 1]])
    assert sample.grid.frame == utm_grid((2, 2)).frame
    assert RasterDataset.is_image  # told of the masks' instance, not of its class
    window = opened.read(WINDOW)
    np.testing.assert_array_equal(window.image, sample.image[:, *WINDOW.slices])
    np.testing.assert_array_equal(window.label, sample.label[WINDOW.slices])
    assert window.grid.to_dict() == sample.grid.crop(WINDOW).to_dict()


def test_warped_scenes_are_read_as_torchgeo_gives_them(raw: Any, tmp_path: Path) -> None:
    root, overrides = raw("l8biome")
    values = "data.labels={ignore: 0, shadow: 1, clear: 2, thin: 3, cloud: 4}"
    own = ["data.class_path=L8Biome", values, "data.nodata=0", "data.arguments={bands: [B4, B10]}"]
    dataset = built("torchgeo", tmp_path, overrides[0], *own)
    assert [c.name for c in dataset.spec.channels] == ["B4", "B10"]  # as the dataset calls them
    with quiet():
        theirs = L8Biome(str(root), bands=["B4", "B10"])
    for number, case in enumerate(dataset.cases()):
        opened = dataset.open(case)
        sample = opened.read()
        outline = theirs.index.iloc[[number]]
        xmin, ymin, xmax, ymax = outline.total_bounds
        with quiet():
            told = theirs[xmin:xmax, ymin:ymax, outline.index[0].left : outline.index[0].right]  # type: ignore[misc]
        assert sample.image.shape == tuple(told["image"].shape)
        np.testing.assert_array_equal(sample.image[:, sample.valid], told["image"].numpy()[:, sample.valid])
        inside = sample.valid & (told["mask"].numpy() > 0)
        np.testing.assert_array_equal(sample.label[inside], told["mask"].numpy()[inside] - 1)
        assert 0.6 < sample.valid.mean() < 1  # six rows of 48 are fill
        assert "3857" in sample.grid.frame


def test_slanted_footprints_bound_what_is_valid(tmp_path: Path) -> None:
    image, _ = drawn("scene", (1, 2), 1)
    save_raster(tmp_path / "images/s.tif", image, epsg=32633, corner=(300000, 6000000), cell=10)
    corner = warp.transform("EPSG:32633", "EPSG:3857", [300100], [5999900])
    mask = np.ones((1, 60, 60), np.uint8)  # no 0, which is what lies outside; 15 m there are about 9 m here
    save_raster(tmp_path / "masks/m.tif", mask, epsg=3857, corner=(corner[0][0], corner[1][0]), cell=15)
    own = ["data.labels={road: 1, water: 2}", "data.bands=[grey]", f"data.mask_arguments={{paths: {tmp_path}/masks}}"]
    dataset = built("torchgeo", tmp_path, f"data.root={tmp_path}/images", *GEO[:2], *own)
    sample = dataset.read(dataset.cases()[0])
    assert (sample.label[sample.valid] == 0).all()
    assert IGNORE in sample.label
    rows, columns = np.nonzero(sample.valid)
    x, y = warp.transform("EPSG:32633", "EPSG:3857", *sample.grid.to_world(np.stack([rows, columns], 1)).T)
    inside = (np.array(x) > corner[0][0]) & (np.array(y) < corner[1][0])
    assert inside.all()
    assert 0.85 < sample.valid.mean() < 0.99


class Chips(NonGeoDataset):
    """Samples of two sensors and two masks."""

    classes = ("land", "water")

    def __init__(self, root: str, *, masks: int = 2, fraction: float = 0.0, split: str = "train") -> None:
        assert split in ("train", "test")
        self.masks, self.fraction = masks, fraction

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        image = torch.arange(3.0 * 6 * 5).reshape(3, 6, 5) + index
        mask = torch.stack([(image[0] > 15).long() * (k + 1) for k in range(self.masks)])
        return {"s1": image[:2], "s2": image[2], "flood": mask[:, :6] + self.fraction}


CHIPS = [f"data.class_path={__name__}.Chips", "data.image_key=[s1,s2]", "data.mask_key=flood"]


def test_entries_of_samples_are_chosen_by_their_keys(tmp_path: Path) -> None:
    named = ["data.bands=[VV,VH,NIR]", "data.labels={ignore: 0, water: 2, land: 1}", "data.channels=[NIR,VV]"]
    dataset = built("torchgeo", tmp_path, f"data.root={tmp_path}", *CHIPS, "data.mask_channel=1", *named)
    assert [case.id for case in dataset.cases()] == ["000000", "000001"]
    sample = dataset.read(dataset.cases()[1])
    expected = np.arange(3 * 6 * 5.0).reshape(3, 6, 5) + 1
    np.testing.assert_array_equal(sample.image, expected[[2, 0]])
    np.testing.assert_array_equal(sample.label, np.where(expected[0] > 15, 1, IGNORE))  # classes in order of values


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.class_path=LoveDB"], r"torchgeo\.datasets\.LoveDB: no such class .*; near it are LoveDA"),
        (["data.class_path=nowhere.Floods"], r"nowhere\.Floods: no such class \(No module named 'nowhere'\)"),
        (["data.class_path=LoveDA"], r"LoveDA\(root='.*'\): Dataset not found in .*; fix data\.root"),
        (["data.class_path=LoveDA", "data.splits={train: trian}"], r"assert split in self\.splits; data\.arguments"),
        (["data.class_path=LoveDA", "data.arguments={scenes: urban}"], r"unexpected keyword argument 'scenes'; .*root"),
        (["data.class_path=LoveDA", "data.splits={val: val}"], r"data\.splits=\{'val': 'val'\}: expected train"),
        (["data.class_path=LoveDA", "data.read=file"], "data.read=file: choose files or samples"),
        ([*CHIPS, "data.read=files", "data.bands=[a,b,c]"], r"Chips: it lists no files by name; set data\.read"),
        ([*CHIPS], r"its flood has shape \(2, 6, 5\), expected \(6, 5\) .* data\.mask_channel chooses one"),
        ([*CHIPS[:1]], r"its samples have \['flood', 's1', 's2'\], not 'image'; name the image by data\.image_key"),
        ([*CHIPS[:2], "data.mask_key=fl"], r"none of its 2 cases has a mask; name the entry .* by data\.mask_key"),
        ([*CHIPS, "data.arguments={masks: 1, fraction: 0.5}"], r"its flood has values between whole numbers"),
        ([*CHIPS, "data.image_key=s1", "data.arguments={masks: 1}"], r"its bands have no names; .* as data\.bands"),
        (["data.class_path=RasterDataset"], r"RasterDataset\(paths='.*'\): Dataset not found in `paths="),
    ],
)  # fmt: skip
def test_what_can_be_mended_is_told_in_a_line(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as told:
        built("torchgeo", tmp_path, f"data.root={tmp_path}/raw", *overrides).cases()
    assert "\n" not in str(told.value)


def test_a_file_that_has_gone_is_told(tmp_path: Path) -> None:
    overrides = layouts.torchgeo(tmp_path / "raw")
    dataset = built("torchgeo", tmp_path, *overrides)
    (tmp_path / f"raw/{layouts.VAIHINGEN['train'][0]}.tif").write_bytes(b"II*")
    with pytest.raises(InputError, match=r"Vaihingen2D: its sample 0 cannot be read \(cannot identify image file"):
        dataset.cases()


def test_a_dataset_without_classes_needs_labels(tmp_path: Path) -> None:
    scene_and_mask(tmp_path)
    with pytest.raises(InputError, match=r"RasterDataset: it does not say what its classes are; give data\.labels"):
        built("torchgeo", tmp_path, f"data.root={tmp_path}/images", "data.class_path=RasterDataset", "data.bands=[a,b]")


def test_geo_datasets_of_two_places_are_refused(tmp_path: Path) -> None:
    scene_and_mask(tmp_path)
    save_raster(tmp_path / "far/m.tif", np.zeros((1, 4, 4), np.uint8), epsg=32633, corner=(100000, 0), cell=10)
    far = [f"data.root={tmp_path}/images", f"data.mask_arguments={{paths: {tmp_path}/far}}"]
    with pytest.raises(InputError, match=r"RasterDataset have no intersection: Datasets have no spatial intersection"):
        built("torchgeo", tmp_path, *far, *GEO).cases()


def test_missing_masks_and_false_paths_are_told(raw: Any, tmp_path: Path) -> None:
    overrides = raw("landcoverai")[1]
    with pytest.raises(InputError, match=r"3 file\(s\) of the dataset are not there: .*labels/M-33"):
        built("landcoverai", tmp_path, *overrides, "data.mask_path={images: labels}").cases()
    with pytest.raises(InputError, match=r"data\.mask_path=.*: none of these texts is in images/M-33-20-D-c-4-2\.tif"):
        built("landcoverai", tmp_path, *overrides, "~data.mask_path.images", "+data.mask_path.img=masks").cases()


def test_a_colour_of_no_class_is_told(raw: Any, tmp_path: Path) -> None:
    layouts.potsdam(tmp_path / "raw")
    label = np.zeros((3, *SHAPE), np.uint8)
    label[0] = 255
    label[:, :2, :3] = np.array([252, 255, 0])[:, None, None]
    save_raster(tmp_path / "raw/top_potsdam_2_10_label.tif", label, epsg=None)
    own = f"data.root={tmp_path}/raw"
    dataset = built("potsdam", tmp_path, own)
    with pytest.raises(InputError, match=r"2_10_label\.tif: 1 colour\(s\) of no class, such as \{\(252, 255, 0\): 6\}"):
        dataset.read(dataset.cases()[0])
    fixed = built("potsdam", tmp_path, own, "data.mask_colours={car: [[255,255,0],[252,255,0]], clutter: [255,0,0]}")
    assert (fixed.read(fixed.cases()[0]).label == 5).sum() == 6


def test_a_network_trains_on_warped_samples(raw: Any, tmp_path: Path) -> None:
    values = "data.labels={ignore: 0, shadow: 1, clear: 2, thin: 3, cloud: 4}"
    own = ["data=torchgeo", "data.class_path=L8Biome", values, "data.nodata=0", "split.n_folds=3", "loader.store=false"]
    small = [
        "logger=csv", "model.base_features=4", "plan.patch=[32,32]", "plan.batch_size=2", "trainer.max_steps=1",
        "trainer.steps_per_epoch=1", "trainer.max_time=null", "trainer.accelerator=cpu", "trainer.precision=32-true",
        "callback={}", "transform=light", "metric=overlap", f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run",
    ]  # fmt: skip
    train(compose("train", [*own, raw("l8biome")[1][0], *small]))
    with (tmp_path / "run/metrics.csv").open() as stream:
        losses = [float(row["train/loss"]) for row in csv.DictReader(stream) if row["train/loss"]]
    assert len(losses) == 1
    assert math.isfinite(losses[0])
    result = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    assert {row["class"] for row in result["cases"]} == {"shadow", "clear", "thin", "cloud"}
