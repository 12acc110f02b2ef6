from pathlib import Path

import pytest

from medseg.data.datasets.rasters import RastersDataset
from medseg.data.layout.dates import DateLayout
from medseg.data.layout.patterns import FilePatterns
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError

SCANS = {"image": [r"(?P<case>p\d)/t1\.nii", r"(?P<case>p\d)/t2\.nii"], "label": r"(?P<case>p\d)/seg\.nii"}


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_files_of_a_case_come_in_the_order_of_the_patterns(tmp_path: Path) -> None:
    files = [f"{case}/{name}.nii" for case in ("p2", "p1") for name in ("seg", "t2", "t1", "other")]
    root = touched(tmp_path, *files, "p3/._t1.nii", ".old/p1/t1.nii", "p1/deep/t1.nii", "p9/t1.nii.gz")
    cases = FilePatterns.from_config(SCANS).cases(root)
    assert [c.id for c in cases] == ["p1", "p2"]
    assert [p.relative_to(root).as_posix() for p in cases[0].images] == ["p1/t1.nii", "p1/t2.nii"]
    assert cases[0].label == root / "p1/seg.nii"
    assert (cases[0].group, cases[0].valid) == ("p1", None)


def test_a_part_goes_before_the_case_and_slashes_become_underscores(tmp_path: Path) -> None:
    root = touched(tmp_path, "train/a/x.tif", "train/a/x_m.tif", "val/a/x.tif", "val/a/x_m.tif")
    names = FilePatterns.from_config(
        {"image": r"(?P<part>train|val)/(?P<case>.+?)(?<!_m)\.tif", "label": r"(?P<part>train|val)/(?P<case>.+)_m\.tif"}
    )
    assert [c.id for c in names.cases(root)] == ["train_a_x", "val_a_x"]


def test_a_field_of_view_and_a_test_set_have_patterns_of_their_own(tmp_path: Path) -> None:
    root = touched(tmp_path, "a.jpg", "a_fov.png", "new/b.jpg", "new/c.jpg")
    names = FilePatterns.from_config(
        {"image": r"(?P<case>\w)\.jpg", "valid": r"(?P<case>\w)_fov\.png", "test_image": r"new/(?P<case>\w)\.jpg"}
    )
    assert [(c.id, c.valid, c.label) for c in names.cases(root)] == [("a", root / "a_fov.png", None)]
    assert [(c.id, c.label) for c in names.cases(root, test=True)] == [("b", None), ("c", None)]
    assert FilePatterns.from_config(SCANS).cases(root, test=True) == []


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("p2/t2.nii", r"1 case\(s\) in .*a file of data.names.image and none of data.names.image: p2"),
        ("p2/seg.nii", "a file of data.names.image and none of data.names.label: p2"),
        ("p1/t1.nii", "of data.names.image and none of data.names.image: p1"),
    ],
)
def test_a_case_that_lacks_a_file_is_named(tmp_path: Path, missing: str, told: str) -> None:
    root = touched(tmp_path, *(f"{case}/{name}.nii" for case in ("p1", "p2") for name in ("seg", "t1", "t2")))
    (root / missing).unlink()
    with pytest.raises(InputError, match=told):
        FilePatterns.from_config(SCANS).cases(root)


def test_a_wrong_folder_is_refused_with_the_pattern_and_what_lies_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder; set data\.root"):
        FilePatterns.from_config(SCANS).cases(tmp_path / "none")
    with pytest.raises(InputError, match=r"none of its 0 files \(none at all\)"):
        FilePatterns.from_config(SCANS).cases(tmp_path)
    with pytest.raises(
        InputError, match=r"none of its 1 files \(such as up/p1/t1.nii\) is what data.names.image=.*data.root"
    ):
        FilePatterns.from_config(SCANS).cases(touched(tmp_path, "up/p1/t1.nii"))


def test_two_files_of_one_place_are_refused(tmp_path: Path) -> None:
    names = FilePatterns.from_config({"image": r".*/(?P<case>\w)\.tif"})
    with pytest.raises(InputError, match=r"two files that data.names.image finds: a \(x/a.tif and y/a.tif\)"):
        names.cases(touched(tmp_path, "x/a.tif", "y/a.tif"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"images": "x"}, r"data.names: got \['images'\], expected some of \['image', 'label'"),
        ({"label": "(?P<case>.)"}, "image is missing"),
        ({"image": "(?P<case>."}, "is no regular expression"),
        ({"image": r".*\.tif"}, r"needs the group \(\?P<case>"),
        ({"image": "(?P<case>.)", "label": ["(?P<case>.)"]}, "data.names.label: got a list, expected one pattern"),
    ],
)
def test_unsound_settings_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        FilePatterns.from_config(settings)  # type: ignore[arg-type]


def test_names_and_dates_exclude_each_other(tmp_path: Path) -> None:
    names = {"image": r"(?P<case>\w)\.tif"}
    with pytest.raises(InputError, match=r"got both data\.names and data\.dates"):
        RastersDataset(tmp_path, ["B1"], {"a": 0, "b": 1}, reading=ReadOptions(dates=DateLayout()), names=names)


def test_new_images_are_found_without_their_labels(tmp_path: Path) -> None:
    names = FilePatterns.from_config(
        SCANS | {"test_image": [r"new_(?P<case>p\d)_t1\.nii", r"new_(?P<case>p\d)_t2\.nii"]}
    )
    root = touched(tmp_path, "a/p7/t2.nii", "a/p7/t1.nii", "b/new_p8_t1.nii", "b/new_p8_t2.nii", "c/p9.nii")
    (case,) = names.images_in(root / "a")
    assert (case.id, case.label) == ("p7", None)
    assert [p.name for p in case.images] == ["t1.nii", "t2.nii"]
    assert [c.id for c in names.images_in(root / "b")] == ["p8"]
    assert names.images_in(root / "c") == []
    (root / "a/p7/t2.nii").unlink()
    with pytest.raises(InputError, match=r"none of its 1 files .* is what data.names.image="):
        names.images_in(root / "a")
