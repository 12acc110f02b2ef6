import subprocess
import sys

import numpy as np
import pytest

from medseg import formats
from medseg.errors import InputError
from medseg.formats import geotiff_write, image, nifti
from medseg.geometry.grid import PIXEL, Grid
from tests.formats.scenes import UTM

GRID = Grid.regular((2, 3, 4), (1, 1, 1))
CELLS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("case_0000.nii.gz", ".nii.gz", "case_0000"),
        ("CASE.NII.GZ", ".nii.gz", "CASE"),
        ("a.b.c.nii", ".nii", "a.b.c"),
        ("scan.Mha", ".mha", "scan"),
        ("archive.tar.gz", ".gz", "archive.tar"),
        ("plain", "", "plain"),
        ("x.nii/deep.nrrd", ".nrrd", "deep"),
    ],
)
def test_suffix_and_stem(name, suffix, stem):
    assert formats.suffix(name) == suffix
    assert formats.stem(name) == stem


def test_a_folder_has_no_suffix(tmp_path):
    folder = tmp_path / "1.2.840.113"
    folder.mkdir()
    assert formats.suffix(folder) == ""
    assert formats.stem(folder) == "1.2.840.113"


def test_importing_formats_loads_no_library():
    code = (
        "import sys, medseg.formats; "
        "libraries = ('nibabel', 'SimpleITK', 'pydicom', 'torch', 'rasterio', 'PIL', 'pyogrio'); "
        "print([m for m in libraries if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_open_refuses_what_is_not_there_or_not_known(tmp_path):
    with pytest.raises(InputError, match=r"none\.nii\.gz: no such file or folder"):
        formats.open(tmp_path / "none.nii.gz")
    (tmp_path / "a.gif").touch()
    with pytest.raises(
        InputError, match=r"a\.gif: unknown suffix '\.gif'; known are .*\.nii\.gz, \.nii, .*\.tif, .*DICOM"
    ):
        formats.open(tmp_path / "a.gif")
    formats.write(tmp_path / "a.nii", CELLS, GRID)
    with pytest.raises(InputError, match=r"series=1\.2 chooses among DICOM series in a folder, but this is a file"):
        formats.open(str(tmp_path / "a.nii"), series="1.2")


@pytest.mark.parametrize(
    ("name", "grid", "words"),
    [
        ("a.gif", GRID, "unknown suffix '.gif'; known are"),
        (
            "a.png",
            GRID,
            r"a grid of 3 axes in frame 'ras_mm', \.png holds 2 axes in a CRS or 'pixel'; .*a\.nii\.gz",
        ),
        (
            "a.tif",
            Grid.regular((2, 3), (1, 1)),
            r"a grid of 2 axes in frame 'ras_mm', \.tif holds 2 axes in a CRS",
        ),
        ("a.tif", Grid.regular((2, 3, 4), (1, 1, 1), PIXEL), "a grid of 3 axes in frame 'pixel'"),
        (
            "a.png",
            Grid.regular((2, 3), (1, 1), UTM.to_wkt()),
            r"got a grid of .*'PROJCS.*, which PNG cannot keep; write to a\.tif",
        ),
        (
            "a.JPG",
            Grid.regular((2, 3), (1, 1), PIXEL),
            r"\.jpg is read but not written, as it may change values; .*a\.png",
        ),
        ("none/a.tif", Grid.regular((2, 3), (1, 1), PIXEL), "the folder .*none does not exist; make it first"),
        ("a.dcm", GRID, r"DICOM is read but not written; write to a\.nii\.gz"),
        ("series", GRID, r"DICOM is read but not written; write to series\.nii\.gz"),
        ("none/a.nii", GRID, "the folder .*none does not exist; make it first"),
        ("a.nii", Grid.regular((2, 3), (1, 1)), "a grid of 2 axes in frame 'ras_mm'"),
        ("a.nii", Grid.regular((2, 3, 4), (1, 1, 1), PIXEL), "a grid of 3 axes in frame 'pixel'"),
    ],
)
def test_write_refuses(tmp_path, name, grid, words):
    (tmp_path / "series").mkdir()
    with pytest.raises(InputError, match=words):
        formats.write(tmp_path / name, np.zeros(grid.shape), grid)
    assert [p.name for p in tmp_path.iterdir()] == ["series"]


def test_write_refuses_an_array_of_another_shape(tmp_path):
    with pytest.raises(ValueError, match=r"got an array \(2, 3, 5\) with a grid of \(2, 3, 4\)"):
        formats.write(tmp_path / "a.nii", np.zeros((2, 3, 5)), GRID)


@pytest.mark.parametrize(("came", "stored"), [(np.bool_, np.uint8), (np.float16, np.float32), (np.float64, np.float64)])
@pytest.mark.parametrize("ending", formats.suffixes("volume", written=True))
def test_types_that_no_format_holds_are_widened(tmp_path, came, stored, ending):
    formats.write(tmp_path / f"a{ending}", (CELLS % 2).astype(came), GRID)
    source = formats.open(tmp_path / f"a{ending}")
    assert source.dtype == (np.float32 if np.dtype(stored).kind == "f" else stored)
    np.testing.assert_array_equal(source.read()[0], CELLS % 2)


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    formats.write(path, CELLS, GRID)
    before = path.read_bytes()

    def fail(part, *args, **kwargs):
        part.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nifti, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        formats.write(path, CELLS, GRID)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_write_replaces_and_gives_ordinary_permissions(tmp_path):
    path = tmp_path / "a.mha"
    path.touch()
    plain = path.stat().st_mode
    formats.write(path, CELLS, GRID)
    assert path.stat().st_mode == plain
    np.testing.assert_array_equal(formats.open(path).read()[0], CELLS)


def test_like_of_another_format_is_ignored(tmp_path):
    formats.write(tmp_path / "a.nrrd", CELLS, GRID)
    formats.write(tmp_path / "b.nii.gz", CELLS, GRID, like=tmp_path / "a.nrrd")
    formats.write(tmp_path / "c.mha", CELLS, GRID, like=tmp_path / "b.nii.gz")
    for name in ("b.nii.gz", "c.mha"):
        np.testing.assert_array_equal(formats.open(tmp_path / name).grid.affine, GRID.affine)


def test_suffixes_belong_to_one_kind():
    assert (*formats.suffixes("volume"), *formats.suffixes("scene"), *formats.suffixes("image")) == formats.suffixes()
    assert not {*formats.VECTORS} & {*formats.suffixes()}


@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_a_failed_write_of_an_image_leaves_the_old_file_whole(tmp_path, monkeypatch, ending):
    path, grid = tmp_path / f"a{ending}", Grid((2, 3), np.eye(3), PIXEL)
    formats.write(path, CELLS[..., 0], grid)
    before = path.read_bytes()

    def fail(part, *args, **kwargs):
        part.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr({".tif": geotiff_write, ".png": image}[ending], "write", fail)
    with pytest.raises(OSError, match="disk full"):
        formats.write_image(path, CELLS[:1, ..., 0][None], Grid((1, 3), np.eye(3), PIXEL))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [f"a{ending}"]


def test_volumes_of_several_channels_are_not_written(tmp_path):
    with pytest.raises(InputError, match=r"images of several channels are written to \.tif, \.tiff, \.png only"):
        formats.write_image(tmp_path / "a.nii", CELLS[None], GRID)
