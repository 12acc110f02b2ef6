import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, MRImageStorage, generate_uid
from scipy.spatial.transform import Rotation

from medseg import formats
from medseg.errors import InputError
from medseg.geometry.box import Box

OBLIQUE = Rotation.from_euler("zyx", [12, -20, 30], degrees=True).as_matrix()
ORIGIN = np.array([-12.5, 33.25, 100.0])
SPACING = (0.6, 0.8, 2.5)  # from column to column, row to row, slice to slice
CELLS = np.random.default_rng(0).integers(-500, 500, size=(6, 5, 7)).astype(np.int16)  # column, row, slice


def save_slice(path, cells, place, *, turn=OBLIQUE, series="1.2.3", **tags):
    """One slice ``[column, row]`` at ``place`` (LPS), with rows along turn[:, 0], columns along turn[:, 1]."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = MRImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.SeriesInstanceUID, header.Modality = series, "MR"
    header.Columns, header.Rows = cells.shape
    header.PixelSpacing = [SPACING[1], SPACING[0]]
    header.ImagePositionPatient = [round(float(p), 9) for p in place]
    header.ImageOrientationPatient = [round(float(v), 9) for v in turn[:, :2].T.ravel()]
    header.BitsAllocated = header.BitsStored = 8 * cells.dtype.itemsize
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(cells.dtype.kind == "i")
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.PixelData = cells.T.tobytes()
    for tag, value in tags.items():
        if value is None:
            delattr(header, tag)
        else:
            setattr(header, tag, value)
    header.save_as(path, enforce_file_format=True)


def place(k, turn=OBLIQUE):
    return ORIGIN + turn[:, 2] * SPACING[2] * k


def save_series(folder, cells=CELLS, slices=None, turn=OBLIQUE, **tags):
    """Files whose names, and instance numbers, order the slices wrongly."""
    folder.mkdir(exist_ok=True)
    names = np.random.default_rng(1).permutation(cells.shape[2])
    for k in range(cells.shape[2]) if slices is None else slices:
        number = int(names[k])
        save_slice(folder / f"{number}.dcm", cells[:, :, k], place(k, turn), turn=turn, InstanceNumber=number, **tags)
    return folder


def test_oblique_series_in_any_file_order(tmp_path):
    source = formats.open(save_series(tmp_path / "series"))
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = OBLIQUE * SPACING, ORIGIN
    np.testing.assert_allclose(source.grid.affine, np.diag([-1, -1, 1, 1]) @ lps, atol=1e-6)
    assert (source.n_channels, source.dtype, source.grid.shape) == (1, np.int16, (6, 5, 7))
    np.testing.assert_array_equal(source.read()[0], CELLS)


def test_series_is_what_gdcm_makes_of_it(tmp_path):
    folder = save_series(tmp_path / "series", turn=OBLIQUE[:, [1, 2, 0]])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    source = formats.open(folder)
    np.testing.assert_array_equal(source.read()[0], sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    for index in [(0, 0, 0), (5, 0, 0), (0, 4, 0), (1, 2, 6)]:
        expected = np.multiply(image.TransformIndexToPhysicalPoint(index), (-1, -1, 1))
        np.testing.assert_allclose(source.grid.to_world([index])[0], expected, atol=1e-4)


@pytest.mark.parametrize("box", [Box((0, 0, 2), (6, 5, 3)), Box((1, 2, 0), (4, 5, 7)), Box((3, 3, 6), (4, 4, 7))])
def test_a_box_reads_its_slices_only(tmp_path, monkeypatch, box):
    source = formats.open(save_series(tmp_path / "series"))
    read, dcmread = [], pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda path, *a, **k: read.append(path) or dcmread(path, *a, **k))
    np.testing.assert_array_equal(source.read(box)[0], CELLS[box.slices])
    assert len(read) == box.shape[2]


def test_slope_and_intercept_of_each_slice_are_applied(tmp_path):
    for k in range(3):
        cells = np.full((2, 2), 100, dtype=np.uint16)
        save_slice(tmp_path / f"{k}", cells, place(k), RescaleSlope=k + 1, RescaleIntercept=-1024)
    source = formats.open(tmp_path)
    assert source.dtype == np.float32
    np.testing.assert_array_equal(source.read()[0, 0, 0], [-924, -824, -724])


@pytest.mark.parametrize("tags", [{"RescaleSlope": 1, "RescaleIntercept": 0}, {"RescaleSlope": None}, {}])
def test_trivial_slope_keeps_integers(tmp_path, tags):
    tags = {tag: "" if value is None else value for tag, value in tags.items()}  # an empty tag is no number
    folder = save_series(tmp_path / "series", CELLS.astype(np.uint8), **tags)
    source = formats.open(folder)
    assert source.dtype == np.uint8
    np.testing.assert_array_equal(source.read()[0], CELLS.astype(np.uint8))


def test_tilted_gantry_keeps_its_shear(tmp_path):
    for k in range(4):
        save_slice(tmp_path / f"{k}.dcm", CELLS[:, :, k], (0, 0.5 * k, 3 * k), turn=np.eye(3))
    affine = formats.open(tmp_path).grid.affine
    np.testing.assert_allclose(affine, [[-0.6, 0, 0, 0], [0, -0.8, -0.5, 0], [0, 0, 3, 0], [0, 0, 0, 1]], atol=1e-9)


def test_positions_rounded_by_the_scanner_pass(tmp_path):
    for k in range(9):
        save_slice(tmp_path / f"{k}", CELLS[:, :, 0], (0, 0, round(1.25 * k + 1e-6, 1)), turn=np.eye(3))
    assert formats.open(tmp_path).grid.spacing[2] == pytest.approx(1.25)


@pytest.mark.parametrize("missing", [1, 3, 5])
def test_missing_slice_names_the_gap(tmp_path, missing):
    kept = [k for k in range(7) if k != missing]
    folder = save_series(tmp_path / "series", slices=kept)
    names = np.random.default_rng(1).permutation(7)
    words = rf"between {names[missing - 1]}\.dcm and {names[missing + 1]}\.dcm, 5 mm apart where 2\.5 mm is usual"
    with pytest.raises(InputError, match=f"series: slices are missing {words}"):
        formats.open(folder)


def test_unequal_steps_and_equal_places_are_refused(tmp_path):
    for k, z in enumerate((0, 1, 2.2, 3.2)):
        save_slice(tmp_path / f"{k}", CELLS[:, :, 0], (0, 0, z), turn=np.eye(3))
    with pytest.raises(InputError, match=r"slices lie 1 to 1\.2 mm apart, equal steps were expected; resample"):
        formats.open(tmp_path)
    save_slice(tmp_path / "twin", CELLS[:, :, 1], (0, 0, 1), turn=np.eye(3))
    with pytest.raises(InputError, match="1 and twin lie in the same place; keep one time point or echo"):
        formats.open(tmp_path)


def test_two_series_ask_which(tmp_path):
    save_series(tmp_path / "s", series="1.2.3", SeriesDescription="T1 post")
    for k in range(3):
        save_slice(tmp_path / "s" / f"other{k}", CELLS[:, :, k], place(k), series="9.9")
    words = r"s: holds 2 series, one was expected; .* with data.series=UID among 1\.2\.3 \(7 files, T1 post\); 9\.9 \(3"
    with pytest.raises(InputError, match=words):
        formats.open(tmp_path / "s")
    np.testing.assert_array_equal(formats.open(tmp_path / "s", series="9.9").read()[0], CELLS[:, :, :3])
    assert formats.open(tmp_path / "s", series="1.2.3").grid.shape == (6, 5, 7)
    with pytest.raises(InputError, match=r"holds no series 4; .* with data.series=UID among 1\.2\.3"):
        formats.open(tmp_path / "s", series="4")


def test_a_tree_of_patients_and_studies_says_where_its_series_lie(tmp_path):
    for number in range(4):
        (tmp_path / f"p/study{number}").mkdir(parents=True)
        save_series(tmp_path / f"p/study{number}/s")
    words = rf"\(subfolders are not searched\); series lie in {tmp_path}/p/study0/s, .*study2/s, \.\.\.; name one of"
    with pytest.raises(InputError, match=words):
        formats.open(tmp_path / "p")


def test_files_that_are_no_images_are_passed_over(tmp_path):
    folder = save_series(tmp_path / "series")
    (folder / "README.txt").write_text("notes")
    (folder / ".hidden.dcm").write_text("notes")
    (folder / "empty").touch()
    (folder / "deeper").mkdir()
    report = dict.fromkeys(("Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient"))
    save_slice(folder / "report.dcm", CELLS[:, :, 0], place(0), series="7.7", **report)
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.save_as(folder / "DICOMDIR", enforce_file_format=True)
    assert formats.open(folder).grid.shape == (6, 5, 7)


@pytest.mark.parametrize("content", [b"", b"not DICOM at all"])
def test_file_named_dcm_must_be_dicom(tmp_path, content):
    folder = save_series(tmp_path / "series")
    (folder / "bad.dcm").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.dcm: cannot be read, expected a complete file that is readable"):
        formats.open(folder)


def test_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="no DICOM image in this folder"):
        formats.open(tmp_path)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"ImagePositionPatient": None}, "odd: lacks ImagePositionPatient, so it is no complete slice"),
        ({"PixelSpacing": [0.8, 0.7]}, r"odd: PixelSpacing is \[0\.8, 0\.7\], but \[0\.8, 0\.6\] in .*\.dcm"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "odd: ImageOrientationPatient is"),
        ({"Rows": 3, "Columns": 10}, "odd: Rows is 3.0, but 5.0 in"),
        ({"SamplesPerPixel": 3}, "odd: holds colours, real numbers were expected"),
        ({"NumberOfFrames": 4}, r"odd: holds many frames, one slice a file was expected; convert to \.nii\.gz"),
        ({"ModalityLUTSequence": [Dataset()]}, "odd: values go through a table"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, tags, words):
    folder = save_series(tmp_path / "series", slices=range(6))
    save_slice(folder / "odd", CELLS[:, :, 6], place(6), **tags)
    with pytest.raises(InputError, match=words):
        formats.open(folder)


def test_truncated_pixels_name_the_file(tmp_path):
    folder = save_series(tmp_path / "series")
    victim = folder / "3.dcm"
    victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"3\.dcm: cannot be read"):
        formats.open(folder).read()
    whole = victim.read_bytes()
    for kept in (len(whole) - 60, 600, 400, 140, 20):  # a header that ends early, ever earlier
        victim.write_bytes(whole[:kept])
        with pytest.raises(InputError, match=r"3\.dcm: (cannot be read|lacks [A-Z])"):
            formats.open(folder)


def test_one_slice_takes_its_thickness(tmp_path):
    save_slice(tmp_path / "a.dcm", CELLS[:, :, 0], (0, 0, 5), turn=np.eye(3), SliceThickness=4)
    source = formats.open(tmp_path)
    assert source.grid.spacing == pytest.approx((0.6, 0.8, 4))
    np.testing.assert_array_equal(source.read()[0, :, :, 0], CELLS[:, :, 0])
    save_slice(tmp_path / "a.dcm", CELLS[:, :, 0], (0, 0, 5), turn=np.eye(3))
    with pytest.raises(InputError, match="one slice without SliceThickness has no voxel size"):
        formats.open(tmp_path)


@pytest.mark.real
def test_real_series(real_data):
    crop = formats.open(real_data / "dicom_series" / "HippoCrop_11")
    assert (crop.grid.shape, crop.grid.spacing, crop.dtype) == ((34, 50, 40), (1, 1, 1), np.int16)
    head = formats.open(real_data / "dicom_series" / "PGBM-003_T1post")
    assert head.grid.shape == (280, 320, 22)
    np.testing.assert_allclose(head.grid.spacing, (0.6875, 0.6875, 6.5), atol=1e-4)
    normal = head.grid.affine[:3, 2] / head.grid.spacing[2]
    np.testing.assert_allclose(np.abs(normal), (0, 0.187, 0.982), atol=1e-3)
    for source in (crop, head):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(source.path)))
        expected = sitk.GetArrayFromImage(reader.Execute()).transpose(2, 1, 0)
        np.testing.assert_array_equal(source.read()[0], expected)
