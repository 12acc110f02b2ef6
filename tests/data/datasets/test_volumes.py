from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.datasets.volumes import VolumesDataset
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose

LABELS = {"background": 0, "kidney": [1, 2], "ignore": 255}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Cases a (NRRD image, NIfTI label on the same grid) and b_0001 (MHA both)."""
    for sub in ("images", "labels", "new"):
        (tmp_path / sub).mkdir()
    for name, image, label in (("a", ".nrrd", ".nii.gz"), ("b_0001", ".mha", ".mha")):
        volume = sitk.GetImageFromArray(np.arange(60, dtype=np.float32).reshape(5, 4, 3))
        volume.SetSpacing((1.0, 2.0, 3.0))
        volume.SetOrigin((-7.0, 5.0, 1.0))
        sitk.WriteImage(volume, tmp_path / "images" / (name + image))
        sitk.WriteImage(sitk.Cast(volume < 2.5, sitk.sitkUInt8), tmp_path / "labels" / (name + label))
    return tmp_path


def test_formats_may_differ_within_a_case(root: Path) -> None:
    dataset = VolumesDataset(root, ["CT"], LABELS, merge=True)
    assert [c.id for c in dataset.cases()] == ["a", "b_0001"]
    assert dataset.spec.labels.names == ("background", "kidney")
    assert dataset.normalisation == ("ct",)
    for case in dataset.cases():
        sample = dataset.read(case)
        assert sample.grid.spacing == pytest.approx((1, 2, 3))
        np.testing.assert_array_equal(sample.label == 1, sample.image[0] < 2.5)
        assert sample.image[0, :, 0, 0].tolist() == [0, 1, 2]


def test_labels_of_several_values_are_regions_unless_merged(root: Path) -> None:
    regions = VolumesDataset(root, ["CT"], LABELS | {"tumour": 2}, regions_class_order=[1, 2])
    assert [r.name for r in regions.spec.labels.regions] == ["kidney", "tumour"]
    with pytest.raises(InputError, match="need regions_class_order"):
        VolumesDataset(root, ["CT"], LABELS)


def test_test_images_and_groups(root: Path) -> None:
    sitk.WriteImage(sitk.Image(3, 4, 5, sitk.sitkInt16), root / "new" / "c.nrrd")
    dataset = VolumesDataset(root, ["MR"], LABELS, merge=True, test_images="new", groups="^.", name="mine")
    assert [c.group for c in dataset.cases()] == ["a", "b"]
    assert [(c.id, c.label) for c in dataset.test_cases()] == [("c", None)]
    assert dataset.name == "mine"
    assert VolumesDataset(root, ["MR"], LABELS, merge=True).test_cases() == []


def test_unsound_declarations_are_refused(root: Path) -> None:
    with pytest.raises(InputError, match=r"data\.channels is empty; .*data\.channels=\[CT\]"):
        VolumesDataset(root, [], {"background": 0, "kidney": 1})
    with pytest.raises(InputError, match="no background"):
        VolumesDataset(root, ["CT"], {"kidney": 1})
    with pytest.raises(InputError, match=r"scans: no such folder; check data\.root"):
        VolumesDataset(root, ["CT"], {"background": 0, "kidney": 1}, images="scans").cases()


def test_missing_channel_is_refused(root: Path) -> None:
    for channel in ("0000", "0001"):
        nib.save(nib.Nifti1Image(np.zeros((3, 4, 5)), np.eye(4)), root / "images" / f"a_{channel}.nii")
    (root / "images" / "a.nrrd").unlink()
    (root / "images" / "b_0001.mha").rename(root / "images" / "b_0001_0000.mha")
    with pytest.raises(
        InputError, match=r"1 missing image\(s\) in .*images of 2 declared channels: b_0001 \(channel 1\)"
    ):
        VolumesDataset(root, ["T1", "T2"], {"background": 0, "kidney": 1}).cases()


@pytest.mark.real
def test_a_dicom_folder_is_an_image(real_data: Path) -> None:
    dataset = VolumesDataset(real_data, ["MR"], {"background": 0, "kidney": 1}, test_images="dicom_series")
    cases = dataset.test_cases()
    assert [c.id for c in cases] == ["HippoCrop_11", "PGBM-003_T1post"]
    assert sorted(dataset.read(cases[0]).image.shape) == [1, 34, 40, 50]


@pytest.mark.real
def test_spleen_crop_has_the_counts_of_its_readme(real_data: Path) -> None:
    root = real_data / "ct_spleen_msd09_crop"
    dataset = VolumesDataset(root, ["CT"], {"background": 0, "spleen": 1}, images="imagesTr", label_folder="labelsTr")
    sample = dataset.read(dataset.cases()[0])
    assert sample.case == "spleen2"
    assert np.bincount(sample.label.ravel()).tolist() == [611152, 96672]
    assert (sample.image.min(), sample.image.max()) == pytest.approx((-1019, 949), abs=1)


@pytest.mark.real
def test_brain_tumours_of_two_channels(real_data: Path) -> None:
    root = real_data / "brats2013_crops"
    labels = {"background": 0, "necrosis": 1, "oedema": 2, "non-enhancing": 3, "enhancing": 4}
    dataset = VolumesDataset(root, ["FLAIR", "T1c"], labels, images="imagesTr", label_folder="labelsTr")
    sample = dataset.read(dataset.cases()[0])
    assert sample.image.shape == (2, 64, 64, 48)
    assert np.bincount(sample.label.ravel()).tolist() == [109189, 24825, 37052, 383, 25159]  # from the set's README


def test_codes_are_declared_with_the_labels(tmp_path: Path) -> None:
    codes = "data.codes={liver: {type: [10200004, SCT, Liver]}}"
    labels = "data.labels={background: 0, liver: 1}"
    cfg = compose("train", ["data=volumes", f"data.root={tmp_path}", "data.channels=[CT]", labels, codes])
    ((name, own),) = build_dataset(cfg).spec.labels.codes
    assert (name, own.category.meaning, own.type.value) == ("liver", "Tissue", "10200004")
