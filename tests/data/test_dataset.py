from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.data.case import Case, refuse
from medseg.data.dataset import named_channels, normalisation_scheme
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.sample import DataSpec, Sample

TABLE = LabelTable.declare({"background": 0, "liver": 1, "spleen": 7, "ignore": 9})
SPEC = DataSpec(channels=named_channels(["CT"]), labels=TABLE, ndim=3)
TWO = DataSpec(channels=named_channels(["T1", "T2"]), labels=TABLE, ndim=3)
AFFINE = np.array([[-0.8, 0, 0, 10], [0, 0.8, 0, -5], [0, 0, 5, 3], [0, 0, 0, 1.0]])


def read_case(case: Case, spec: DataSpec, **settings: Any) -> Sample:
    return CaseReader(case, spec, ReadOptions(**settings)).read()


def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def image_of(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.fixture
def label() -> np.ndarray:
    array = np.zeros((4, 5, 6), dtype=np.uint8)
    array[0, 0, 0], array[1, 2, 3], array[3, 4, 5] = 1, 7, 9
    return array


@pytest.fixture
def case(tmp_path: Path, label: np.ndarray) -> Case:
    image = write(tmp_path / "a_0000.nii.gz", image_of(4, 5, 6))
    return Case("a", (image,), write(tmp_path / "a.nii.gz", label), "patient 1")


def moved(shift: float) -> np.ndarray:
    """AFFINE, with its origin moved along array axis 2 by this many voxels."""
    affine = AFFINE.copy()
    affine[:3, 3] += shift * AFFINE[:3, 2]
    return affine


def test_read_case_gives_image_label_grid_and_names(case: Case) -> None:
    sample = read_case(case, SPEC)
    assert sample.image.dtype == np.float32
    np.testing.assert_array_equal(sample.image, image_of(1, 4, 5, 6))
    expected = np.zeros((4, 5, 6), dtype=int)
    expected[0, 0, 0], expected[1, 2, 3], expected[3, 4, 5] = 1, 2, IGNORE
    np.testing.assert_array_equal(sample.label, expected)
    assert sample.valid.all()
    np.testing.assert_allclose(sample.grid.affine, AFFINE, atol=1e-6)
    assert (sample.grid.shape, sample.case, sample.group) == ((4, 5, 6), "a", "patient 1")


def test_read_case_stacks_channels_of_several_files_and_of_one(tmp_path: Path) -> None:
    first, second = image_of(3, 4, 5), -image_of(3, 4, 5)
    files = (write(tmp_path / "a_0000.nii.gz", first), write(tmp_path / "a_0001.nii.gz", second))
    together = write(tmp_path / "b.nii.gz", np.stack([first, second], axis=-1))
    apart = read_case(Case("a", files, None, "a"), TWO)
    joined = read_case(Case("b", (together,), None, "b"), TWO)
    np.testing.assert_array_equal(apart.image, np.stack([first, second]))
    np.testing.assert_array_equal(joined.image, apart.image)
    assert apart.label is None
    assert joined.grid.offset_from(apart.grid) == 0


def test_number_of_channels_is_checked(case: Case) -> None:
    with pytest.raises(InputError, match=r"case a: 1 channel\(s\) in .*a_0000\.nii\.gz, expected 2 \['T1', 'T2'\]"):
        read_case(case, TWO)


def test_number_of_axes_is_checked(case: Case) -> None:
    flat = DataSpec(channels=SPEC.channels, labels=TABLE, ndim=2)
    with pytest.raises(InputError, match=r"case a: image .* has 3 spatial axes \(shape \(4, 5, 6\)\), expected 2"):
        read_case(case, flat)


def test_shifted_label_is_refused_with_the_displacement_in_voxels(
    case: Case, label: np.ndarray, tmp_path: Path
) -> None:
    write(tmp_path / "a.nii.gz", label, moved(0.5))
    with pytest.raises(
        InputError, match=r"a\.nii\.gz does not lie on the grid of .*a_0000\.nii\.gz: displaced by up to 0\.5 voxels"
    ) as error:
        read_case(case, SPEC)
    way_out = str(error.value).split("data.grid_tolerance=")[1].split(";")[0]
    sample = read_case(case, SPEC, grid_tolerance=float(way_out))
    np.testing.assert_allclose(sample.grid.affine, AFFINE, atol=1e-6)


def test_rounding_of_headers_is_no_difference(case: Case, label: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz", label, moved(0.005))
    assert read_case(case, SPEC).label is not None
    with pytest.raises(InputError, match=r"allowed are 0\.001"):
        read_case(case, SPEC, grid_tolerance=0.001)


def test_flipped_label_is_refused(case: Case, label: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz", label, AFFINE @ np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(InputError, match="displaced by up to 3 voxels with its axes in the order LAS"):  # 0 to -3
        read_case(case, SPEC)


def test_other_shape_is_refused_whatever_the_tolerance(case: Case, label: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz", label[:, :, :5])
    with pytest.raises(
        InputError, match=r"shape \(4, 5, 5\) in ras_mm, expected shape \(4, 5, 6\) in ras_mm; resample"
    ):
        read_case(case, SPEC, grid_tolerance=1.0)


def test_channels_on_different_grids_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a_0000.nii.gz", image_of(3, 4, 5))
    second = write(tmp_path / "a_0001.nii.gz", image_of(3, 4, 5), moved(-1.0))
    with pytest.raises(InputError, match=r"case a: .*a_0001\.nii\.gz does not lie on the grid .* up to 1 voxels"):
        read_case(Case("a", (first, second), None, "a"), TWO)


def test_label_value_outside_the_table_is_refused(case: Case, label: np.ndarray, tmp_path: Path) -> None:
    label[2, 2, :2] = 3
    path = write(tmp_path / "a.nii.gz", label)
    with pytest.raises(InputError, match=r"a\.nii\.gz: label values \{3: 2\} .*data\.labels"):
        read_case(Case("a", case.images, path, "a"), SPEC)


def test_float_labels_count_where_they_are_integral(case: Case, label: np.ndarray, tmp_path: Path) -> None:
    expected = read_case(case, SPEC).label
    write(tmp_path / "a.nii.gz", label.astype(np.float32))
    np.testing.assert_array_equal(read_case(case, SPEC).label, expected)
    write(tmp_path / "a.nii.gz", label.astype(np.float32) + 0.5 * (label == 1))
    with pytest.raises(InputError, match=r"label values \{1\.5: 1\}"):
        read_case(case, SPEC)


def test_label_of_several_channels_is_refused(case: Case, label: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz", np.stack([label, label], axis=-1))
    with pytest.raises(InputError, match=r"label .*a\.nii\.gz has 2 channels, expected 1"):
        read_case(case, SPEC)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_voxels_are_refused_or_masked(value: float, tmp_path: Path) -> None:
    first, second = image_of(3, 4, 5).astype(np.float64), np.ones((3, 4, 5))
    second[1, 2, 3] = second[2, 0, 0] = value
    files = (write(tmp_path / "a_0000.nii.gz", first), write(tmp_path / "a_0001.nii.gz", second))
    case = Case("a", files, None, "a")
    with pytest.raises(
        InputError, match=r"case a: 2 NaN or infinite .* first in channel 1 at \(1, 2, 3\); .*data\.nonfinite=mask"
    ):
        read_case(case, TWO)
    sample = read_case(case, TWO, nonfinite="mask")
    assert {tuple(i) for i in np.argwhere(~sample.valid).tolist()} == {(1, 2, 3), (2, 0, 0)}
    np.testing.assert_array_equal(sample.image[0], first * sample.valid)
    np.testing.assert_array_equal(sample.image[1], sample.valid)


def test_truncated_file_is_refused(case: Case, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a_0000.nii.gz", rng.normal(size=(4, 5, 6)))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"a_0000\.nii\.gz"):
        read_case(case, SPEC)


def test_volume_of_two_slices_is_read(tmp_path: Path) -> None:
    image = write(tmp_path / "a_0000.nii.gz", image_of(7, 8, 2))
    label = write(tmp_path / "a.nii.gz", np.ones((7, 8, 2), dtype=np.uint8))
    sample = read_case(Case("a", (image,), label, "a"), SPEC)
    assert sample.image.shape == (1, 7, 8, 2)
    assert (sample.label == 1).all()


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("CT", "ct"), ("ct", "ct"), ("CTA", "zscore"), ("noNorm", "none"), ("NONORM", "none"),
        ("rescale_to_0_1", "unit_range"), ("rgb_to_0_1", "rgb"), ("zscore", "zscore"), ("FLAIR", "zscore"),
    ],
)  # fmt: skip
def test_normalisation_follows_the_channel_name(name: str, scheme: str) -> None:
    assert normalisation_scheme(name) == scheme


def test_channels_of_one_name_stay_apart_and_keep_their_scheme() -> None:
    channels = named_channels(["rgb_to_0_1", "CT", "rgb_to_0_1"])
    assert [c.name for c in channels] == ["rgb_to_0_1", "CT", "rgb_to_0_1#2"]
    assert [c.unit for c in channels] == ["", "HU", ""]
    assert [normalisation_scheme(c.name) for c in channels] == ["rgb", "ct", "rgb"]


def test_refusal_names_five_and_counts_all() -> None:
    refuse([], "case(s)", "never told")
    with pytest.raises(InputError, match=r"^7 case\(s\): a, b, c, d, e, \.\.\.; way out$"):
        refuse(list("abcdefg"), "case(s)", "way out")
