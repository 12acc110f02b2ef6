import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from medseg import formats
from medseg.errors import InputError
from medseg.geometry.box import Box

LPS = np.array([-1, -1, 1])


def assert_same_grid(one, other):
    assert one.shape == other.shape
    np.testing.assert_allclose(one.affine, other.affine, rtol=1e-5, atol=1e-6 * np.abs(other.affine).max())


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_round_trip(tmp_path, grid, numbers, ending):
    path = tmp_path / f"case{ending}"
    formats.write(path, numbers, grid)
    source = formats.open(path)
    assert_same_grid(source.grid, grid)
    assert (source.n_channels, source.dtype) == (1, numbers.dtype)
    np.testing.assert_array_equal(source.read(), numbers[None])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_same_volume_as_nifti_and_as_itk_is_the_same_array_on_the_same_grid(tmp_path, grid, ending):
    array = np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape)
    nib.Nifti1Image(array, grid.affine).to_filename(tmp_path / "a.nii")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / f"a{ending}"))
    nifti, itk = formats.open(tmp_path / "a.nii"), formats.open(tmp_path / f"a{ending}")
    np.testing.assert_allclose(itk.grid.affine, nifti.grid.affine, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(itk.read(), nifti.read())


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_what_medseg_writes_simpleitk_puts_in_the_same_place(tmp_path, grid, ending):
    array = np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape)
    formats.write(tmp_path / f"a{ending}", array, grid)
    image = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    np.testing.assert_allclose(image.GetSpacing(), grid.spacing, rtol=1e-5)
    for index in [(0, 0, 0), (4, 0, 0), (0, 6, 0), (0, 0, 3), (3, 5, 2)]:
        place = image.TransformIndexToPhysicalPoint(index) * LPS
        np.testing.assert_allclose(place, grid.to_world([index])[0], rtol=1e-5, atol=1e-3)
        assert image.GetPixel(*index) == array[index]


def test_nrrd_written_by_hand_in_ras(tmp_path):
    """Axis 0 runs 2 mm towards anterior, axis 1 half a mm towards left, axis 2 3 mm towards superior."""
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 3 1\n"
        "space directions: (0,2,0) (-0.5,0,0) (0,0,3)\nkinds: domain domain domain\nencoding: raw\n"
        "space origin: (10,20,30)\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(range(6)))
    source = formats.open(tmp_path / "a.nrrd")
    np.testing.assert_allclose(
        source.grid.affine, [[0, -0.5, 0, 10], [2, 0, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]], atol=1e-12
    )
    assert source.read().tolist() == [[[[0], [2], [4]], [[1], [3], [5]]]]  # the first axis is the fastest


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_detached_headers_are_read_but_not_written(tmp_path, grid, numbers, ending):
    whole = tmp_path / "a.nrrd"
    formats.write(whole, numbers, grid)
    sitk.WriteImage(sitk.ReadImage(str(whole)), str(tmp_path / f"b{ending}"))
    source = formats.open(tmp_path / f"b{ending}")
    assert_same_grid(source.grid, grid)
    np.testing.assert_array_equal(source.read()[0], numbers)
    with pytest.raises(
        InputError,
        match=rf"c\{ending}: \{ending} is read but not written, as its cells are in a second file; write to c\.",
    ):
        formats.write(tmp_path / f"c{ending}", numbers, grid)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [True, False])
@given(data=st.data())
def test_reading_a_box_equals_slicing_the_whole(tmp_path_factory, ending, compressed, data):
    cells = np.random.default_rng(0).integers(-99, 99, size=(4, 5, 6, 2)).astype(np.int16)  # k, j, i, channel
    path = tmp_path_factory.mktemp("box") / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(cells, isVector=True), str(path), compressed)
    source = formats.open(path)
    assert (source.grid.shape, source.n_channels, source.dtype) == ((6, 5, 4), 2, np.int16)
    start = [data.draw(st.integers(0, n)) for n in (6, 5, 4)]
    stop = [data.draw(st.integers(a, n)) for a, n in zip(start, (6, 5, 4))]
    box = Box(tuple(start), tuple(stop))
    np.testing.assert_array_equal(source.read(box), cells.transpose(3, 2, 1, 0)[(slice(None), *box.slices)])


def test_two_axes_are_a_volume_of_one_slice(tmp_path):
    image = sitk.GetImageFromArray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    image.SetSpacing((2.0, 5.0))
    image.SetOrigin((7.0, 8.0))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    source = formats.open(tmp_path / "a.mha")
    np.testing.assert_array_equal(source.grid.affine, [[-2, 0, 0, -7], [0, -5, 0, -8], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert source.read().tolist() == [[[[0], [3]], [[1], [4]], [[2], [5]]]]
    assert source.read(Box((1, 0, 0), (3, 1, 1))).tolist() == [[[[1]], [[2]]]]


def test_four_axes_and_complex_numbers_are_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 2, 2, 2), np.float32), isVector=False), str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match=r"a\.mha: got 4 axes, expected 2 or 3"):
        formats.open(tmp_path / "a.mha")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 2, 2), np.complex64)), str(tmp_path / "b.nrrd"))
    with pytest.raises(InputError, match=r"b\.nrrd: holds cells of type 'complex.*', real numbers were expected"):
        formats.open(tmp_path / "b.nrrd")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("kept", [0, 20, 0.5])
def test_damaged_files_are_named(tmp_path, ending, kept, capfd):
    noise = np.random.default_rng(0).integers(0, 255, size=(20, 20, 20), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(tmp_path / f"a{ending}"), True)
    content = (tmp_path / f"a{ending}").read_bytes()
    (tmp_path / f"b{ending}").write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(
        InputError, match=rf"b\{ending}: cannot be read, expected a complete file that is readable"
    ) as told:
        formats.open(tmp_path / f"b{ending}").read()
    assert "\n" not in str(told.value)
