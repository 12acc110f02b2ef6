"""Enhanced files, whose frames say where they lie, are volumes; SimpleITK reads the same cells in the same place."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from medseg import formats
from medseg.errors import InputError
from medseg.formats import dicom_seg
from medseg.formats.dicom_frames import frames_of
from medseg.geometry.box import Box
from medseg.labels import LabelTable
from tests.formats.test_dicom import OBLIQUE, SPACING, place, save_slice
from tests.formats.test_dicom_seg import ALGORITHM, CELLS, STUDY, masks_of


def group(**tags: Any) -> Dataset:
    dataset = Dataset()
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    return dataset


def save_enhanced(path: Path, order: list[int], turn: np.ndarray = OBLIQUE, **changed: Any) -> Path:
    """The slices of ``CELLS`` in one file, in any order."""
    own = [
        group(PlanePositionSequence=[group(ImagePositionPatient=[round(float(p), 9) for p in place(k, turn)])])
        for k in order
    ]
    shared = group(
        PlaneOrientationSequence=[group(ImageOrientationPatient=[round(float(v), 9) for v in turn[:, :2].T.ravel()])],
        PixelMeasuresSequence=[group(PixelSpacing=[SPACING[1], SPACING[0]], SliceThickness=SPACING[2])],
    )
    tags = {
        "NumberOfFrames": len(order),
        "PixelData": CELLS[:, :, order].transpose(2, 1, 0).tobytes(),
        "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": own,
        "SOPClassUID": EnhancedMRImageStorage,
        **dict.fromkeys(("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")),
    }
    save_slice(path, CELLS[:, :, 0], place(0), turn=turn, **tags | STUDY | changed)
    return path.parent


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 5, 2, 4]])
def test_frames_in_any_order_are_a_volume(tmp_path: Path, order: list[int]) -> None:
    source = formats.open(save_enhanced(tmp_path / "a.dcm", order))
    np.testing.assert_array_equal(source.read()[0], CELLS)
    np.testing.assert_array_equal(source.read(Box((1, 2, 3), (7, 4, 5)))[0], CELLS[1:7, 2:4, 3:5])
    np.testing.assert_allclose(source.grid.to_world([[0, 0, 6]])[0], place(6) * [-1, -1, 1], atol=1e-6)
    np.testing.assert_allclose(source.grid.spacing, SPACING, atol=1e-6)


def test_simpleitk_reads_the_same_cells(tmp_path: Path) -> None:
    source = formats.open(save_enhanced(tmp_path / "a.dcm", [*range(7)]))
    image = sitk.ReadImage(str(tmp_path / "a.dcm"))
    np.testing.assert_array_equal(source.read()[0], sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    np.testing.assert_allclose(
        source.grid.to_world([[2, 3, 0]])[0],
        np.multiply(image.TransformIndexToPhysicalPoint((2, 3, 0)), (-1, -1, 1)),
        atol=1e-4,
    )


def test_scale_of_a_frame_goes_before_that_of_all(tmp_path: Path) -> None:
    save_enhanced(tmp_path / "a.dcm", [*range(7)])
    header = pydicom.dcmread(tmp_path / "a.dcm")
    scale = {"RescaleSlope": 2, "RescaleIntercept": -1024}
    header.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [group(**scale)]
    header.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence = [group(RescaleSlope=3)]
    assert [frame.RescaleSlope for frame in frames_of(header)] == [2, 3, 2, 2, 2, 2, 2]
    header.save_as(tmp_path / "a.dcm")
    cells = formats.open(tmp_path).read()[0]
    np.testing.assert_array_equal(cells[..., 0], CELLS[..., 0] * 2.0 - 1024)
    np.testing.assert_array_equal(cells[..., 1], CELLS[..., 1] * 3.0 - 1024)


def test_segmentation_of_an_enhanced_file(tmp_path: Path) -> None:
    """Frames of the file are in another order than slices."""
    (tmp_path / "in").mkdir()
    folder = save_enhanced(tmp_path / "in/a.dcm", [3, 0, 6, 1, 5, 2, 4], AcquisitionContextSequence=[])
    values = np.random.default_rng(3).choice([0, 0, 1, 5], size=CELLS.shape).astype(np.uint8)
    table = LabelTable.declare({"background": 0, "liver": 1, "lung": 5})
    dicom_seg.write(tmp_path / "seg.dcm", values, dicom_seg.references([folder]), table, ALGORITHM)
    masks = masks_of(tmp_path / "seg.dcm", formats.open(folder).grid)
    np.testing.assert_array_equal(masks["liver"], values == 1)
    np.testing.assert_array_equal(masks["lung"], values == 5)


def test_frames_of_several_volumes_are_refused(tmp_path: Path) -> None:
    folder = save_enhanced(tmp_path / "a.dcm", [0, 1, 2, 0, 1, 2])
    with pytest.raises(InputError, match=r"a\.dcm and a\.dcm lie in the same place; keep one time point or echo"):
        formats.open(folder)


def test_a_frame_without_a_place_is_refused(tmp_path: Path) -> None:
    folder = save_enhanced(tmp_path / "a.dcm", [0, 1], PerFrameFunctionalGroupsSequence=[group(), group()])
    with pytest.raises(InputError, match=r"a\.dcm: lacks ImagePositionPatient"):
        formats.open(folder)
