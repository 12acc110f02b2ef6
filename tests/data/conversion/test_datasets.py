"""medseg-prepare on files in each dataset's own layout, read by PIL, rasterio and nibabel."""

import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio
from PIL import Image

from medseg import formats
from medseg.cli.prepare import dataset_names
from medseg.cli.prepare import prepare as run_prepare
from medseg.data.conversion import preparation
from medseg.data.conversion.datasets import totalsegmentator
from medseg.errors import InputError
from tests import image_layouts, volume_layouts
from tests.hdf5 import write_arrays
from tests.prepared import prepare
from tests.torchgeo_layouts import drawn

LAYOUTS: dict[str, Callable[[Path], None]] = {
    "drive": partial(image_layouts.write_drive, names=("21", "22")),
    "dsb2018": image_layouts.write_dsb2018,
    "geobench": image_layouts.write_geobench,
    "isbi2012": partial(image_layouts.write_isbi2012, sections=3),
    "kvasir_seg": image_layouts.write_kvasir_seg,
    "landslide4sense": image_layouts.write_landslide4sense,
    "totalsegmentator": partial(volume_layouts.write_totalsegmentator, names=volume_layouts.CARDIAC),
}
MORE = {"totalsegmentator": ["--classes=cardiac"]}
A_MASK = {
    "drive": "training/1st_manual/22_manual1.gif",
    "dsb2018": "003cee89357d/images/003cee89357d.png",
    "geobench": "place_2.hdf5",
    "isbi2012": "train-labels.tif",
    "kvasir_seg": "masks/cju0qx73cjw570799j4n5cjze.jpg",
    "landslide4sense": "TrainData/mask/mask_2.h5",
    "totalsegmentator": "s0002/segmentations/aorta.nii.gz",
}
"""A file without which the dataset is not whole."""


class Killed(BaseException):
    """What no handler of errors stops, as a signal."""


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every dataset as it is published."""
    root = tmp_path_factory.mktemp("published")
    for name, write in LAYOUTS.items():
        write(root / name)
    return root


@pytest.fixture(scope="module")
def ready(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every dataset prepared."""
    root = tmp_path_factory.mktemp("prepared")
    for name in LAYOUTS:
        prepare(name, raw / name, root / name, *MORE.get(name, []))
    return root


def test_every_dataset_is_tested_and_has_an_experiment() -> None:
    assert sorted(LAYOUTS) == dataset_names()
    without = [name for name in LAYOUTS if not (Path("conf/experiment") / f"{name}.yaml").is_file()]
    assert without == ["geobench"]  # a benchmark of several sets


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(
    name: str, raw: Path, ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, rename = [3], os.replace

    def replace(draft: Path, target: Path) -> None:
        left[0] -= "drafts" in str(draft)
        if left[0] < 0:
            raise Killed
        rename(draft, target)

    monkeypatch.setattr(preparation.os, "replace", replace)
    target = tmp_path / "out"
    with pytest.raises(Killed):
        prepare(name, raw / name, target, *MORE.get(name, []))
    assert len(content(target)) < len(content(ready / name))
    monkeypatch.undo()
    prepare(name, raw / name, target, *MORE.get(name, []))
    assert content(target) == content(ready / name)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_source_stays_and_the_experiment_is_named(
    name: str, raw: Path, ready: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(raw / name)
    prepare(name, raw / name, ready / name, *MORE.get(name, []))
    printed = capsys.readouterr().out
    assert printed.startswith("0 written, ")
    assert f"Next: medseg-train experiment={name} data.root={ready / name}" in printed
    assert content(raw / name) == before


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_wrong_folder_and_a_missing_file_end_in_one_line(name: str, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "partial").symlink_to(raw / name)
    hidden = raw / name / A_MASK[name]
    hidden.rename(tmp_path / "hidden")
    try:
        for source in ("none", "empty", "partial"):
            with pytest.raises(InputError) as raised:
                prepare(name, tmp_path / source, tmp_path / "out", *MORE.get(name, []))
            assert "\n" not in str(raised.value)
    finally:
        (tmp_path / "hidden").rename(hidden)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_damaged_file_is_found_by_its_checksum(name: str, raw: Path, tmp_path: Path) -> None:
    target, more = tmp_path / "out", MORE.get(name, [])
    prepare(name, raw / name, target, *more)
    before = content(target)
    victim = next(path for path in sorted(target.rglob("*")) if path.is_file() and path.parent != target)
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    assert run_prepare([name, str(raw / name), str(target), "--verify", *more]) == 1
    prepare(name, raw / name, target, *more)
    assert content(target) == before
    prepare(name, raw / name, target, "--verify", *more)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def test_drive_keeps_images_masks_and_views(ready: Path) -> None:
    for prefix, number in (("", "22"), ("test_", "01")):
        image, mask = image_layouts.picture(number)
        np.testing.assert_array_equal(pixels(ready / f"drive/{prefix}images/{number}.png"), image)
        np.testing.assert_array_equal(pixels(ready / f"drive/{prefix}masks/{number}.png"), mask)
        assert pixels(ready / f"drive/{prefix}fov/{number}.png")[:3, 0].tolist() == [0, 0, 255]


def test_drive_without_manuals_of_its_test_set(tmp_path: Path) -> None:
    image_layouts.write_drive(tmp_path / "raw", names=("21",))
    for path in (tmp_path / "raw/test/1st_manual").iterdir():
        path.unlink()
    (tmp_path / "raw/test/1st_manual").rmdir()
    prepare("drive", tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out/test_images/01.png").exists()
    assert not (tmp_path / "out/test_masks").exists()


def test_isbi2012_has_a_picture_for_each_section(ready: Path) -> None:
    assert len(list((ready / "isbi2012/images").iterdir())) == 3
    for number in range(3):
        image, mask = image_layouts.picture(f"section {number}")
        np.testing.assert_array_equal(pixels(ready / f"isbi2012/images/{number:02d}.png"), image[..., 0])
        np.testing.assert_array_equal(pixels(ready / f"isbi2012/masks/{number:02d}.png"), mask)


def test_dsb2018_joins_the_nuclei(raw: Path, ready: Path) -> None:
    for name in ("00071198d059", "003cee89357d"):
        np.testing.assert_array_equal(pixels(ready / f"dsb2018/masks/{name}.png"), image_layouts.picture(name)[1])
        image = (raw / f"dsb2018/{name}/images/{name}.png").read_bytes()
        assert (ready / f"dsb2018/images/{name}.png").read_bytes() == image


def test_kvasir_seg_takes_noise_from_its_masks(raw: Path, ready: Path) -> None:
    noisy = 0
    for path in sorted((ready / "kvasir_seg/masks").iterdir()):
        np.testing.assert_array_equal(pixels(path), image_layouts.picture(path.stem)[1])
        grey = pixels(raw / f"kvasir_seg/masks/{path.stem}.jpg")
        noisy += int(((grey > 0) & (grey < 255)).sum())
    assert noisy > 0


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("part", "name"), [("Train", "train_10"), ("Valid", "validation_1"), ("Test", "test_1")])
def test_landslide4sense_keeps_channels_in_order(part: str, name: str, ready: Path) -> None:
    image, label = drawn(f"{part} {name.partition('_')[2]}", (0, 1), 14, np.float32)
    prefix = "test_" if part == "Test" else ""
    with rasterio.open(ready / f"landslide4sense/{prefix}images/{name}.tif") as scene:
        np.testing.assert_array_equal(scene.read(), (image.astype(float) / 100).astype(np.float32))
        assert scene.descriptions[::12] == ("B1", "slope")
    with rasterio.open(ready / f"landslide4sense/{prefix}masks/{name}.tif") as mask:
        np.testing.assert_array_equal(mask.read(1), label)


def test_landslide4sense_in_its_other_layout_and_without_masks(raw: Path, ready: Path, tmp_path: Path) -> None:
    image_layouts.write_landslide4sense(tmp_path / "few", masked=("Train",))
    prepare("landslide4sense", tmp_path / "few", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out/masks").iterdir())
    assert names == ["train_1.tif", "train_10.tif", "train_2.tif"]
    assert not (tmp_path / "out/test_images").exists()
    for part, other in (("Train", "train"), ("Valid", "validation"), ("Test", "test")):
        for kind, folder in (("img", "images"), ("mask", "annotations")):
            (tmp_path / "other" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "other" / folder / other).symlink_to(raw / f"landslide4sense/{part}Data/{kind}")
    prepare("landslide4sense", tmp_path / "other", tmp_path / "same")
    assert content(tmp_path / "same") == content(ready / "landslide4sense")


def test_geobench_keeps_bands_and_partitions(raw: Path, ready: Path, tmp_path: Path) -> None:
    folder = ready / "geobench"
    assert sorted(p.name for p in (folder / "masks").iterdir()) == [
        "train_place_1.tif", "train_place_2.tif", "train_place_3.tif", "valid_place_4.tif",
    ]  # fmt: skip
    image, label = drawn("place_5", (0, 1, 2), 3, np.float32)
    scene = formats.open(folder / "test_images/test_place_5.tif")
    assert scene.names == ("B2", "B4", "B8A")
    np.testing.assert_array_equal(scene.read(), image)
    np.testing.assert_array_equal(formats.open(folder / "test_masks/test_place_5.tif").read()[0], label)
    run_prepare(["geobench", str(raw / "geobench"), str(tmp_path / "few"), "--partition=0.50x_train"])
    assert [p.name for p in sorted((tmp_path / "few/images").iterdir())] == ["train_place_2.tif", "valid_place_4.tif"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"02 - Blue": (4, 4), "04 - Red": (4, 4)}, r"expected bands and one label; is it a segmentation set"),
        ({"02 - Blue": (4, 4), "04 - Red": (2, 2), "label": (4, 4)}, r"has the shapes|have the shapes"),
        ({"Red_2019-01-01": (4, 4), "Red_2019-02-01": (4, 4), "label": (4, 4)}, r"has band Red of several dates"),
    ],
)
def test_other_samples_of_geobench_are_refused(
    arrays: dict[str, tuple[int, int]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_layouts.write_geobench(tmp_path / "raw")
    write_arrays(tmp_path / "raw/place_1.hdf5", {name: np.ones(shape, np.uint8) for name, shape in arrays.items()})
    with pytest.raises(InputError) as error:
        run_prepare(["geobench", str(tmp_path / "raw"), str(tmp_path / "out")])
    assert re.search(message, str(error.value) + capsys.readouterr().err)


def test_a_partition_of_geobench_lists_names(tmp_path: Path) -> None:
    image_layouts.write_geobench(tmp_path)
    path = tmp_path / "default_partition.json"
    for text in ('{"train": ["../x"], "valid": [], "test": []}', '{"train": []}', "[1"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"default_partition\.json: (expected lists|is not valid JSON)"):
            run_prepare(["geobench", str(tmp_path), str(tmp_path / "out")])


def test_totalsegmentator_numbers_its_structures_as_version_2(ready: Path) -> None:
    values = totalsegmentator.VALUES
    assert len(values) == 117
    known = {"spleen": 1, "kidney_right": 2, "lung_lower_lobe_right": 14, "prostate": 22, "sacrum": 25}
    known |= {"vertebrae_C1": 50, "heart": 51, "iliac_vena_right": 68, "humerus_left": 69, "skull": 91}
    known |= {"rib_left_1": 92, "rib_right_12": 115, "costal_cartilages": 117}
    assert {name: values[name] for name in known} == known
    declared = json.loads((ready / "totalsegmentator/dataset.json").read_text(encoding="utf-8"))
    assert declared["labels"] == {"background": 0, **{name: values[name] for name in volume_layouts.CARDIAC}}


def test_totalsegmentator_joins_masks_on_the_grid_of_the_scan(raw: Path, ready: Path) -> None:
    folder, n = ready / "totalsegmentator", len(volume_layouts.CARDIAC)
    for scan, part in volume_layouts.SCANS.items():
        which = "Ts" if part == "test" else "Tr"
        saved = (folder / f"images{which}/{scan}_0000.nii.gz").read_bytes()
        assert saved == (raw / f"totalsegmentator/{scan}/ct.nii.gz").read_bytes()
        label = nib.load(folder / f"labels{which}/{scan}.nii.gz")
        np.testing.assert_array_equal(label.affine, volume_layouts.AFFINE)
        place = volume_layouts.drawn(scan, [v if v % 2 else 0 for v in range(2 * n + 1)])[1].astype(int)
        np.testing.assert_array_equal(np.asarray(label.dataobj), np.where(place > 0, 51 + place // 2, 0))
        assert label.get_data_dtype() == np.uint8
    splits = json.loads((folder / "splits_final.json").read_text(encoding="utf-8"))
    assert splits == [{"train": ["s0000", "s0001"], "val": ["s0002"]}]
