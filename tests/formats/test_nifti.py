import gzip
import pickle

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from medseg import formats
from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid

LPS = np.array([-1, -1, 1])
FORMS = [
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units",
]  # fmt: skip


def close(one: Grid, other: Grid) -> bool:
    scale = np.abs(other.affine).max()
    return one.shape == other.shape and np.allclose(one.affine, other.affine, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_round_trip(tmp_path, grid, numbers, ending):
    path = tmp_path / f"case{ending}"
    formats.write(path, numbers, grid)
    source = formats.open(path)
    assert close(source.grid, grid)
    assert (source.n_channels, source.dtype, source.path) == (1, numbers.dtype, path)
    cells = source.read()
    assert cells.dtype == numbers.dtype
    np.testing.assert_array_equal(cells, numbers[None])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no part is left behind


def test_what_medseg_writes_simpleitk_puts_in_the_same_place(tmp_path, grid):
    array = np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape)
    formats.write(tmp_path / "a.nii.gz", array, grid)
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert image.GetSize() == grid.shape
    for index in [(0, 0, 0), (4, 0, 0), (0, 6, 0), (0, 0, 3), (3, 5, 2)]:
        place = image.TransformIndexToPhysicalPoint(index) * LPS
        np.testing.assert_allclose(place, grid.to_world([index])[0], rtol=1e-5, atol=1e-3)
        assert image.GetPixel(*index) == array[index]


def test_what_simpleitk_writes_medseg_puts_in_the_same_place(tmp_path):
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    image.SetSpacing((0.5, 2.0, 3.0))
    image.SetOrigin((1.0, -2.0, 7.0))
    image.SetDirection((0.0, -0.6, 0.8, 1.0, 0.0, 0.0, 0.0, 0.8, 0.6))
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    source = formats.open(tmp_path / "a.nii")
    cells = source.read()[0]
    assert cells.shape == (4, 3, 2)
    for index in [(0, 0, 0), (3, 1, 0), (1, 2, 1)]:
        place = np.multiply(image.TransformIndexToPhysicalPoint(index), LPS)
        np.testing.assert_allclose(source.grid.to_world([index])[0], place, atol=1e-5)
        assert cells[index] == image.GetPixel(*index)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@given(data=st.data())
def test_reading_a_box_equals_slicing_the_whole(tmp_path_factory, ending, data):
    shape = (6, 5, 4, 2)
    path = tmp_path_factory.mktemp("box") / f"a{ending}"
    image = nib.Nifti1Image(np.random.default_rng(0).integers(-99, 99, size=shape).astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    image.to_filename(path)
    source = formats.open(path)
    start = [data.draw(st.integers(0, n)) for n in shape[:3]]
    stop = [data.draw(st.integers(a, n)) for a, n in zip(start, shape)]
    box = Box(tuple(start), tuple(stop))
    part = source.read(box)
    assert (part.dtype, part.shape) == (np.float32, (2, *box.shape))
    np.testing.assert_array_equal(part, source.read()[(slice(None), *box.slices)])


def test_box_outside_the_grid_is_refused(tmp_path):
    path = tmp_path / "a.nii"
    formats.write(path, np.zeros((3, 4, 5), np.uint8), Grid.regular((3, 4, 5), (1, 1, 1)))
    for box in (Box((-1, 0, 0), (2, 2, 2)), Box((0, 0, 0), (3, 4, 6)), Box((0, 0), (1, 1))):
        with pytest.raises(InputError, match=r"a\.nii: the window .* is not inside the grid \(3, 4, 5\); clip it"):
            formats.open(path).read(box)


def test_scaled_values_and_channels_literals(tmp_path):
    stored = np.array([[[[1, 10]]], [[[2, 20]]]], dtype=np.uint8)  # two cells, two channels
    header = nib.Nifti1Image(stored, np.eye(4)).header
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = 2, -1, 352
    (tmp_path / "a.nii").write_bytes(header.binaryblock + b"\0" * 4 + stored.tobytes(order="F"))
    source = formats.open(tmp_path / "a.nii")
    assert (source.grid.shape, source.n_channels, source.dtype) == ((2, 1, 1), 2, np.float32)
    assert source.read().tolist() == [[[[1]], [[3]]], [[[19]], [[39]]]]


@pytest.mark.parametrize(
    ("stored", "channels", "space"),
    [((3, 4), 1, (3, 4, 1)), ((3, 4, 1), 1, (3, 4, 1)), ((3, 4, 5, 2), 2, (3, 4, 5)), ((3, 4, 5, 1, 2), 2, (3, 4, 5))],
)
def test_shapes(tmp_path, stored, channels, space):
    array = np.arange(np.prod(stored), dtype=np.int16).reshape(stored)
    nib.Nifti1Image(array, np.diag([2.0, 3, 4, 1])).to_filename(tmp_path / "a.nii.gz")
    source = formats.open(tmp_path / "a.nii.gz")
    assert (source.n_channels, source.grid.shape) == (channels, space)
    assert source.grid.spacing[:2] == (2, 3)
    cells = source.read()
    for c in range(channels):
        np.testing.assert_array_equal(cells[c], array.reshape(*space, channels)[..., c])
    box = Box((1, 1, 0), (2, 3, 1))
    np.testing.assert_array_equal(source.read(box), cells[(slice(None), *box.slices)])


def test_two_axes_of_channels_are_refused(tmp_path):
    nib.Nifti1Image(np.zeros((2, 2, 2, 3, 4), np.uint8), np.eye(4)).to_filename(tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a\.nii: got shape \(2, 2, 2, 3, 4\), expected 2 or 3 axes"):
        formats.open(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("dtype", "words"),
    [(np.complex64, "complex numbers"), ([("R", "u1"), ("G", "u1"), ("B", "u1")], "colours")],
)
def test_complex_numbers_and_colours_are_refused(tmp_path, dtype, words):
    nib.Nifti1Image(np.zeros((2, 2, 2), dtype), np.eye(4)).to_filename(tmp_path / "a.nii")
    with pytest.raises(InputError, match=rf"a\.nii: holds {words}.*real numbers were expected; save each part"):
        formats.open(tmp_path / "a.nii")


def test_big_endian_values_come_in_native_order(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(np.array([[[1, 256]]], dtype=">i2"), np.eye(4), header)
    image.to_filename(tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
    cells = formats.open(tmp_path / "a.nii").read()
    assert cells.dtype == np.dtype("int16").newbyteorder("=")
    assert cells.tolist() == [[[[1, 256]]]]


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_grid_is_in_millimetres_whatever_the_header_counts_in(tmp_path, unit, factor):
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.diag([2.0, 3, 4, 1]))
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    source = formats.open(tmp_path / "a.nii")
    np.testing.assert_allclose(source.grid.spacing, np.multiply((2, 3, 4), factor))
    formats.write(tmp_path / "b.nii", np.ones((2, 2, 2), np.uint8), source.grid, like=tmp_path / "a.nii")
    np.testing.assert_array_equal(formats.open(tmp_path / "b.nii").grid.affine, source.grid.affine)


def test_forms_of_a_fresh_file(tmp_path, grid):
    formats.write(tmp_path / "a.nii", np.zeros(grid.shape, np.uint8), grid)
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    scale = np.abs(grid.affine).max()
    np.testing.assert_allclose(header.get_sform(), grid.affine, rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(header.get_qform(), grid.affine, rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(header.get_zooms(), grid.spacing, rtol=1e-6)
    assert header.get_xyzt_units()[0] == "mm"


def test_a_sheared_grid_has_no_qform(tmp_path):
    sheared = Grid((3, 4, 5), np.array([[1, 0.2, 0, 5], [0, 1, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1.0]]))
    formats.write(tmp_path / "a.nii", np.zeros((3, 4, 5), np.uint8), sheared)
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    assert close(formats.open(tmp_path / "a.nii").grid, sheared)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (3, 0), (0, 0), (1, 4)])
def test_like_keeps_the_geometry_of_the_header_bit_for_bit(tmp_path, grid, kind, codes):
    image = kind(np.zeros((*grid.shape, 2), np.float32), None)
    image.header.set_zooms((*grid.spacing, 2.5))
    image.header.set_qform(grid.affine, code=codes[0])
    image.header.set_sform(grid.affine, code=codes[1])
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(3, 1)
    image.header["cal_max"] = 77
    image.to_filename(tmp_path / "image.nii")
    source = formats.open(tmp_path / "image.nii")
    label = np.arange(np.prod(grid.shape), dtype=np.uint8).reshape(grid.shape)
    formats.write(tmp_path / "pred.nii.gz", label, source.grid, like=tmp_path / "image.nii")
    before, after = nib.load(tmp_path / "image.nii").header, nib.load(tmp_path / "pred.nii.gz").header
    for field in FORMS:
        assert before[field].tobytes() == after[field].tobytes(), field
    assert before["pixdim"][:4].tobytes() == after["pixdim"][:4].tobytes()
    assert type(before) is type(after)
    assert float(after["cal_max"]) == 0
    pred = formats.open(tmp_path / "pred.nii.gz")
    np.testing.assert_array_equal(pred.grid.affine, source.grid.affine)
    np.testing.assert_array_equal(pred.read()[0], label)
    assert pred.dtype == np.uint8


def test_like_of_another_grid_is_a_defect(tmp_path):
    grid = Grid.regular((3, 4, 5), (1, 1, 1))
    formats.write(tmp_path / "a.nii", np.zeros((3, 4, 5), np.uint8), grid)
    moved = grid.affine.copy()
    moved[0, 3] = 0.2
    with pytest.raises(ValueError, match=r"lies 0\.2 cells from the grid"):
        formats.write(tmp_path / "b.nii", np.zeros((3, 4, 5)), Grid(grid.shape, moved), like=tmp_path / "a.nii")
    assert not (tmp_path / "b.nii").exists()


def test_same_array_gives_the_same_bytes(tmp_path, grid):
    array = np.arange(np.prod(grid.shape), dtype=np.uint8).reshape(grid.shape)
    formats.write(tmp_path / "a.nii.gz", array, grid)
    formats.write(tmp_path / "b.nii.gz", array, grid)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_damaged_files_are_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, size=(30, 30, 30), dtype=np.uint8)
    formats.write(tmp_path / "whole.nii.gz", noise, Grid.regular(noise.shape, (1, 1, 1)))
    packed = (tmp_path / "whole.nii.gz").read_bytes()
    plain = gzip.decompress(packed)
    bad = {
        "empty.nii.gz": b"",
        "head.nii.gz": packed[:30],
        "text.nii.gz": b"this is no image\n" * 99,
        "half.nii.gz": packed[: len(packed) // 2],
        "half.nii": plain[: len(plain) // 2],
        "head.nii": plain[:200],
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            InputError, match=rf"{name}: cannot be read, expected a complete file that is readable"
        ) as told:
            formats.open(tmp_path / name).read()
        assert "\n" not in str(told.value)
    source = formats.open(tmp_path / "half.nii.gz")  # only decoding shows where it ends
    np.testing.assert_array_equal(source.read(Box((0, 0, 0), (30, 30, 3)))[0], noise[:, :, :3])
    with pytest.raises(InputError, match=r"half\.nii\.gz: cannot be read"):
        source.read(Box((0, 0, 29), (30, 30, 30)))
    with pytest.raises(
        InputError, match=r"half\.nii: cannot be read.*promises 27000 bytes of cells, but 13324 are stored"
    ):
        formats.open(tmp_path / "half.nii")


def test_singular_affine_names_the_file(tmp_path):
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None)
    image.header.set_sform(np.diag([1, 0, 1, 1.0]), code=1)
    image.to_filename(tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a\.nii: grid: the affine is singular"):
        formats.open(tmp_path / "a.nii")


def test_source_can_be_sent_to_a_worker_without_its_cells(tmp_path):
    array = np.random.default_rng(0).integers(0, 99, size=(40, 40, 40)).astype(np.int16)
    formats.write(tmp_path / "a.nii.gz", array, Grid.regular(array.shape, (1, 1, 1)))
    sent = pickle.dumps(formats.open(tmp_path / "a.nii.gz"))
    assert len(sent) < 5000
    np.testing.assert_array_equal(pickle.loads(sent).read()[0], array)


@pytest.mark.real
def test_real_files_open_as_nibabel_says(real_data):
    files = sorted((real_data / "mr_spinal_cord").glob("*/*.nii.gz")) + sorted(
        (real_data / "brats2013_crops" / "imagesTr").glob("pat0001*")
    )
    assert len(files) > 5
    for path in files:
        source, image = formats.open(path), nib.load(path)
        np.testing.assert_array_equal(source.grid.affine, image.affine)
        np.testing.assert_allclose(source.read()[0], image.get_fdata(), rtol=1e-6)


@pytest.mark.parametrize("shape", [(35, 52), (35, 52, 1)])
def test_a_slice_keeps_its_number_of_axes(tmp_path, shape):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.diag([2.0, 3, 1, 1])), tmp_path / "slice.nii.gz")
    source = formats.open(tmp_path / "slice.nii.gz")
    label = np.arange(35 * 52, dtype=np.uint16).reshape(source.grid.shape)
    formats.write(tmp_path / "label.nii.gz", label, source.grid, like=tmp_path / "slice.nii.gz")
    written = nib.load(tmp_path / "label.nii.gz")
    assert written.shape == shape
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), label.reshape(shape))
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "slice.nii.gz").affine)
