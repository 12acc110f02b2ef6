"""Names of label files, and targets that are refused."""

from pathlib import Path

import pytest

from medseg.data.case import Case
from medseg.errors import InputError
from medseg.prediction.targets import check_labels, names_label_file


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "images/a.nii.gz"
    path.parent.mkdir()
    path.write_text("")
    return path


def test_a_single_image_may_name_its_label_file(image: Path, tmp_path: Path) -> None:
    assert names_label_file(tmp_path / "out/pred.nii.gz", [image], None)
    assert not names_label_file(tmp_path / "out", [image], None)
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan/1.dcm").write_text("")
    assert names_label_file(tmp_path / "pred.nii.gz", [tmp_path / "scan"], None), "a series is one image"


def test_a_folder_of_images_needs_a_folder(image: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pred\.nii\.gz names a file, and input=.*images is a folder; give a folder"):
        names_label_file(tmp_path / "pred.nii.gz", [image.parent], None)


def test_a_file_of_another_kind_is_no_folder(image: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=r"out is a file; give a folder"):
        names_label_file(tmp_path / "out", [image], None)


@pytest.mark.parametrize(
    "image,label,expected",
    [
        ("a.nii.gz", "pred.tif", r"ends in \.tif, expected \.nrrd or \.mha or \.nii\.gz or \.nii for a\.nii\.gz"),
        ("a.tif", "pred.nii.gz", r"ends in \.nii\.gz, expected \.tif or \.tiff"),
        ("a.jpg", "pred.jpg", r"ends in \.jpg, expected \.png"),
        ("a.nii.gz", "a.nii.gz", r"would replace the image itself"),
    ],
)
def test_label_files_of_another_kind_are_refused(image: str, label: str, expected: str, tmp_path: Path) -> None:
    case = Case("a", (tmp_path / image,), None, "a")
    with pytest.raises(InputError, match=expected):
        check_labels([case], [label], tmp_path, georeferenced=False)


@pytest.mark.parametrize("label", ["p.nii", "p.nii.gz", "p.mha", "p.nrrd"])
def test_volumes_may_change_their_format(label: str, tmp_path: Path) -> None:
    check_labels([Case("a", (tmp_path / "a.mhd",), None, "a")], [label], tmp_path, georeferenced=False)
