"""Volumes whose files are in other axis orders, or whose headers are doubtful."""

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.data.case import Case
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.labels import LabelTable
from medseg.sample import Channel, DataSpec

AFFINE = np.array([[2, 0, 0, -20], [0, 0.8, 0, 7], [0, 0, 3, 40], [0, 0, 0, 1.0]])
SHAPE = (7, 5, 6)
TABLE = LabelTable.declare({"background": 0, "left lung": 1, "right lung": 2})
SPEC = DataSpec((Channel("MR"),), TABLE, 3)
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(100, 10, SHAPE).astype(np.float32)
LABEL = RNG.integers(0, 3, SHAPE).astype(np.uint8)
ORDERS = [np.stack([a, s], axis=1) for a in permutations(range(3)) for s in product((1, -1), repeat=3)]
LPS = np.array([[0, -1], [1, -1], [2, 1]])


def save(path: Path, array: np.ndarray, order: Any = None, affine: np.ndarray = AFFINE) -> Path:
    image = nib.Nifti1Image(array, affine)
    nib.save(image if order is None else image.as_reoriented(order), path)
    return path


def opened(tmp_path: Path, label: Path, spec: DataSpec = SPEC, *more: Path, **settings: Any) -> CaseReader:
    image = tmp_path / "image.nii"
    if not image.exists():
        save(image, IMAGE)
    valid = settings.pop("valid", None)
    return CaseReader(Case("a", (image, *more), label, "a", valid=valid), spec, ReadOptions(**settings))


@pytest.mark.parametrize("order", ORDERS, ids=lambda o: "".join(nib.orientations.ornt2axcodes(o)))
def test_a_label_in_any_axis_order_is_that_of_the_image(tmp_path: Path, order: np.ndarray) -> None:
    case = opened(tmp_path, save(tmp_path / "label.nii", LABEL, order))
    np.testing.assert_array_equal(case.read().label, LABEL)
    box = Box((1, 0, 2), (5, 4, 6))
    np.testing.assert_array_equal(case.read(box).label, LABEL[box.slices])
    assert bool(case.notes) == (order != ORDERS[0]).any()
    assert case.warnings == []


def test_an_image_in_another_order_than_its_label(tmp_path: Path) -> None:
    """Cells go by the image: both are turned to right, anterior, superior later."""
    order = np.array([[1, 1], [2, -1], [0, -1]])
    save(tmp_path / "image.nii", IMAGE, order)
    sample = opened(tmp_path, save(tmp_path / "label.nii", LABEL)).read()
    stored = nib.Nifti1Image(LABEL, AFFINE).as_reoriented(order)
    np.testing.assert_array_equal(sample.label, np.asarray(stored.dataobj))
    assert sample.grid.shape == stored.shape


def test_further_channels_and_validity_follow_the_first_image(tmp_path: Path) -> None:
    two = DataSpec((Channel("T1"), Channel("T2")), TABLE, 3)
    second = save(tmp_path / "second.nii", 2 * IMAGE, LPS)
    inside = save(tmp_path / "inside.nii", (LABEL > 0).astype(np.uint8), LPS)
    case = opened(tmp_path, save(tmp_path / "label.nii", LABEL, LPS), two, second, valid=inside)
    sample = case.read()
    np.testing.assert_array_equal(sample.valid, LABEL > 0)
    np.testing.assert_allclose(sample.image[1], 2 * sample.image[0])
    assert [note.split(" is stored in axis order LPS; reordered to RAS")[0][-10:] for note in case.notes] == [
        "second.nii", "/label.nii", "inside.nii",
    ]  # fmt: skip


def test_a_mirrored_label_is_never_taken_for_the_right_one(tmp_path: Path) -> None:
    """Its header says another place, and no tolerance that may be set accepts it."""
    mirrored = AFFINE @ np.diag([-1.0, 1, 1, 1])
    label = save(tmp_path / "label.nii", LABEL, affine=mirrored)
    with pytest.raises(InputError, match=r"displaced by up to 6 voxels with its axes in the order RAS") as error:
        opened(tmp_path, label, grid_tolerance=1.0)
    assert "grid_tolerance=" not in str(error.value)
    with pytest.raises(InputError, match=r"data\.grid_tolerance=61: expected a displacement of 0 to 1 voxels"):
        opened(tmp_path, label, grid_tolerance=61)


def test_a_tolerance_above_the_default_that_is_needed_is_warned_of(tmp_path: Path) -> None:
    shifted = AFFINE.copy()
    shifted[0, 3] += 0.2
    label = save(tmp_path / "label.nii", LABEL, affine=shifted)
    assert opened(tmp_path, label, grid_tolerance=0.5).warnings == [
        "files that lie more than 0.01 cells apart are taken as one (data.grid_tolerance=0.5)"
    ]
    assert opened(tmp_path, save(tmp_path / "label.nii", LABEL), grid_tolerance=0.5).warnings == []


def disagreeing(image: nib.Nifti1Image) -> None:
    image.set_qform(np.diag([-1.0, 1, 1, 1]) @ AFFINE, code=1)


def uncoded(image: nib.Nifti1Image) -> None:
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)


def sheared(image: nib.Nifti1Image) -> None:
    affine = AFFINE.copy()
    affine[1, 2] = 0.9
    image.set_qform(None, code=0)
    image.set_sform(affine, code=1)


def sound(image: nib.Nifti1Image) -> None:
    image.set_qform(AFFINE, code=1)
    image.set_sform(AFFINE + 1e-4, code=2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (disagreeing, ["sform and qform of the NIfTI header disagree"]),
        (uncoded, ["the NIfTI header has no orientation (sform and qform code 0)"]),
        (sheared, ["axes are not at right angles (sheared affine)"]),
        (sound, []),
    ],
)
def test_doubtful_headers(tmp_path: Path, change: Callable[[Any], None], words: list[str]) -> None:
    for name, array in (("image.nii", IMAGE), ("label.nii", LABEL)):
        image = nib.Nifti1Image(array, AFFINE)
        change(image)
        nib.save(image, tmp_path / name)
    found = opened(tmp_path, tmp_path / "label.nii").warnings
    assert [text[: len(w)] for text, w in zip(found, words, strict=True)] == words


@pytest.mark.parametrize("factor", [1.00001, 0.9999])
def test_labels_that_rounding_moved_are_rounded(tmp_path: Path, factor: float) -> None:
    case = opened(tmp_path, save(tmp_path / "label.nii", LABEL * factor))
    np.testing.assert_array_equal(case.read().label, LABEL)
    assert case.warnings == ["label values are not quite integers and were rounded"]


def test_labels_that_were_interpolated_are_refused(tmp_path: Path) -> None:
    values = LABEL.astype(np.float32)
    values[0, 0, :2] = 0.5
    case = opened(tmp_path, save(tmp_path / "label.nii", values))
    with pytest.raises(
        InputError, match=r"label\.nii: label values \{0\.5: 2\} \(value: cells\) are no integers"
    ) as error:
        case.read()
    assert "add them" not in str(error.value)


def test_what_a_first_stage_predicted_is_a_last_channel_of_class_numbers(tmp_path: Path) -> None:
    """Its file has saved values and an axis order of its own; a window holds the same cells."""
    table = LabelTable.declare({"background": 0, "left lung": 7, "right lung": 300})
    spec = DataSpec((Channel("MR"), Channel("first stage", classes=("left lung", "right lung"))), table, 3)
    predicted = save(tmp_path / "predicted.nii", np.array([0, 7, 300], np.int16)[LABEL], LPS)
    image = save(tmp_path / "image.nii", IMAGE)
    case = CaseReader(Case("a", (image,), None, "a", first_stage=predicted), spec, ReadOptions())
    sample = case.read()
    np.testing.assert_array_equal(sample.image, np.stack([IMAGE, LABEL]))
    box = Box((1, 0, 2), (5, 4, 6))
    np.testing.assert_array_equal(case.read(box).image, sample.image[(slice(None), *box.slices)])
    with pytest.raises(InputError, match="case a: it has no prediction of the first stage"):
        CaseReader(Case("a", (image,), None, "a"), spec, ReadOptions())
    assert predicted not in Case("a", (image,), None, "a", first_stage=predicted).files
