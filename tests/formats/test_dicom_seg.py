"""DICOM segmentations are read back by pydicom, highdicom and SimpleITK: same frame of reference, same cells."""

import logging
import sys
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import ExplicitVRLittleEndian

from medseg import formats
from medseg.errors import InputError
from medseg.formats import dicom_seg
from medseg.formats.dicom_seg import Algorithm, references
from medseg.labels import LabelTable
from tests.formats.test_dicom import CELLS as ODD
from tests.formats.test_dicom import OBLIQUE, place, save_slice
from tests.formats.test_dicom import save_series as save_any

CELLS = np.random.default_rng(0).integers(-500, 500, size=(8, 5, 7)).astype(np.int16)
"""Of whole bytes: where the bits of all frames do not fill their last byte, GDCM, and so SimpleITK, misreads it."""
STUDY = {"StudyInstanceUID": "1.2.7", "FrameOfReferenceUID": "1.2.8", "PatientID": "P1", "PatientName": "Doe^J"}
TABLE = LabelTable.declare({"background": 0, "liver": 1, "lung": 5})
ALGORITHM = Algorithm("0123456789abcdef" * 4, "0.1.0")


@pytest.fixture
def values() -> np.ndarray:
    """Labels without any symmetry, on the cells of a drawn series."""
    return np.random.default_rng(3).choice([0, 0, 1, 5], size=CELLS.shape).astype(np.uint8)


def save_series(folder: Path, cells: np.ndarray = CELLS, **tags: Any) -> Path:
    return save_any(folder, cells, **tags)


def written(folder: Path, values: np.ndarray, table: LabelTable = TABLE, **series: Any) -> Path:
    target = folder.parent / f"{folder.name}.dcm"
    dicom_seg.write(target, values, references([folder], **series), table, ALGORITHM)
    return target


def masks_of(path: Path, grid: Any) -> dict[str, np.ndarray]:
    """Mask of each segment on a grid: cells by SimpleITK, the place and the segment of each frame by pydicom."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert set(np.unique(frames)) <= {0, 255}
    names = {one.SegmentNumber: one.SegmentLabel for one in header.SegmentSequence}
    masks = {name: np.zeros(grid.shape, dtype=bool) for name in names.values()}
    orientation = header.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    along = np.array(orientation[:3]) * [-1, -1, 1]  # LPS
    np.testing.assert_allclose(along, grid.affine[:3, 0] / np.linalg.norm(grid.affine[:3, 0]), atol=1e-5)
    for cells, group in zip(frames, header.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float) * [-1, -1, 1]
        column, row, k = grid.to_index([position])[0]
        assert np.allclose([column, row, k], [0, 0, round(k)], atol=1e-3)
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        masks[names[number]][:, :, round(k)] = cells.T > 0
    return masks


@pytest.mark.parametrize("turn", [np.eye(3), OBLIQUE, OBLIQUE[:, [1, 2, 0]], OBLIQUE * [1, 1, -1]])
def test_cells_and_frame_of_reference_are_those_of_the_series(
    tmp_path: Path, values: np.ndarray, turn: np.ndarray
) -> None:
    """Whatever the orientation, and the order of the files."""
    folder = save_series(tmp_path / "series", turn=turn, **STUDY)
    grid = formats.open(folder).grid
    path = written(folder, values)
    header = pydicom.dcmread(path)
    assert (header.FrameOfReferenceUID, header.StudyInstanceUID, header.PatientID) == ("1.2.8", "1.2.7", "P1")
    masks = masks_of(path, grid)
    np.testing.assert_array_equal(masks["liver"], values == 1)
    np.testing.assert_array_equal(masks["lung"], values == 5)
    np.testing.assert_array_equal(by_highdicom(path, grid), np.select([values == 1, values == 5], [1, 2]))


def test_frames_that_fill_no_whole_bytes(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "series", ODD, **STUDY)
    values = np.random.default_rng(5).choice([0, 1, 5], size=ODD.shape).astype(np.uint8)
    numbers = by_highdicom(written(folder, values), formats.open(folder).grid)
    np.testing.assert_array_equal(numbers, np.select([values == 1, values == 5], [1, 2]))


def by_highdicom(path: Path, grid: Any) -> np.ndarray:
    """Numbers of segments on the cells of a grid, placed by the geometry that highdicom reads."""
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    index = grid.to_index(volume.map_indices_to_reference(np.argwhere(volume.array)) * [-1, -1, 1])
    numbers = np.zeros(grid.shape, dtype=int)
    numbers[tuple(np.rint(index).astype(int).T)] = volume.array[volume.array > 0]
    return numbers


def test_each_frame_refers_to_its_slice(tmp_path: Path, values: np.ndarray) -> None:
    folder = save_series(tmp_path / "series", **STUDY)
    positions = {h.SOPInstanceUID: h.ImagePositionPatient for h in map(pydicom.dcmread, folder.iterdir())}
    header = pydicom.dcmread(written(folder, values))
    assert header.Modality == "SEG"
    assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"
    assert {r.ReferencedSOPInstanceUID for r in header.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == set(
        positions
    )
    for group in header.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_allclose(group.PlanePositionSequence[0].ImagePositionPatient, positions[source], atol=1e-6)


def test_segments_are_described(tmp_path: Path, values: np.ndarray) -> None:
    table = TABLE.with_codes(
        {"lung": {"category": [123037004, "SCT", "Anatomical Structure"], "type": ["39607008", "SCT", "Lung"]}}
    )
    header = pydicom.dcmread(written(save_series(tmp_path / "series", **STUDY), values, table))
    liver, lung = header.SegmentSequence
    assert (header.SegmentationType, liver.SegmentNumber, lung.SegmentNumber) == ("BINARY", 1, 2)
    assert (liver.SegmentLabel, lung.SegmentLabel) == ("liver", "lung")
    assert {liver.SegmentAlgorithmType, lung.SegmentAlgorithmType} == {"AUTOMATIC"}
    assert lung.SegmentAlgorithmName == "medseg 0123456789abcdef"
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert lung.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    assert lung.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"
    assert header.SoftwareVersions == "0.1.0"


def test_regions_overlap(tmp_path: Path) -> None:
    table = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    values = np.random.default_rng(4).integers(0, 3, size=CELLS.shape).astype(np.uint8)
    folder = save_series(tmp_path / "series", **STUDY)
    masks = masks_of(written(folder, values, table), formats.open(folder).grid)
    np.testing.assert_array_equal(masks["whole"], values > 0)
    np.testing.assert_array_equal(masks["core"], values == 2)


def test_labels_without_foreground_are_an_object_too(
    tmp_path: Path, values: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_series(tmp_path / "series", **STUDY)
    masks = masks_of(written(folder, np.zeros_like(values)), formats.open(folder).grid)
    assert [*masks] == ["liver", "lung"]
    assert not any(mask.any() for mask in masks.values())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_further_channels_are_referred_to(tmp_path: Path, values: np.ndarray) -> None:
    folders = [save_series(tmp_path / n, series=f"1.2.{i}", **STUDY) for i, n in enumerate(("a_0000", "a_0001"))]
    dicom_seg.write(tmp_path / "a.dcm", values, references(folders), TABLE, ALGORITHM)
    header = pydicom.dcmread(tmp_path / "a.dcm")
    assert [one.SeriesInstanceUID for one in header.ReferencedSeriesSequence] == ["1.2.0", "1.2.1"]
    assert len(header.SourceImageSequence) == 2 * CELLS.shape[2]
    np.testing.assert_array_equal(masks_of(tmp_path / "a.dcm", formats.open(folders[0]).grid)["lung"], values == 5)


@pytest.mark.parametrize("tag", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_channels_of_other_studies_or_frames_of_reference_are_refused(tmp_path: Path, tag: str) -> None:
    one = save_series(tmp_path / "a_0000", **STUDY)
    other = save_series(tmp_path / "a_0001", series="1.2.4", **STUDY | {tag: "9.9"})
    words = rf"a_0001/\d\.dcm: {tag} is 9\.9, but 1\.2\.\d in .*; format=dicom_seg refers to series of one study"
    with pytest.raises(InputError, match=words):
        references([one, other])


def test_a_series_without_identifiers_is_refused(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "series", StudyInstanceUID="1.2.7")
    with pytest.raises(InputError, match=r"\d\.dcm: lacks FrameOfReferenceUID, to which a DICOM segmentation has to"):
        references([folder])


def test_headers_that_an_object_cannot_have_are_one_line(tmp_path: Path, values: np.ndarray) -> None:
    folder = save_series(tmp_path / "series", PatientSex="X", **STUDY)
    with pytest.raises(
        InputError, match=r"series: its headers can't be copied into a DICOM segmentation \(.*PatientSex"
    ) as e:
        written(folder, values)
    assert len(str(e.value).splitlines()) == 1
    assert not (tmp_path / "series.dcm").exists()


def test_one_series_of_several(tmp_path: Path, values: np.ndarray) -> None:
    folder = save_series(tmp_path / "series", **STUDY)
    save_slice(folder / "other.dcm", CELLS[:, :, 0], place(0), series="7.7", **STUDY)
    header = pydicom.dcmread(written(folder, values, series="1.2.3"))
    assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"
    assert header.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match=r"needs highdicom, not installed here; pip install 'medseg\[dicom\]'"):
        dicom_seg.check_installed()


@pytest.mark.real
def test_real_series_that_is_oblique(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "dicom_series" / "PGBM-003_T1post"
    source = formats.open(folder)
    values = np.where(source.read()[0] > 700, np.uint8(1), np.uint8(0))
    values[:, :, 3:9][source.read()[0][:, :, 3:9] > 900] = 5
    dicom_seg.write(tmp_path / "a.dcm", values, references([folder]), TABLE, ALGORITHM)
    masks = masks_of(tmp_path / "a.dcm", source.grid)
    assert masks["liver"].sum() > masks["lung"].sum() > 1000
    np.testing.assert_array_equal(masks["liver"], values == 1)
    np.testing.assert_array_equal(masks["lung"], values == 5)
    slices = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    assert pydicom.dcmread(tmp_path / "a.dcm").FrameOfReferenceUID == slices[0].FrameOfReferenceUID
