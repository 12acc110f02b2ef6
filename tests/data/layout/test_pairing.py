from pathlib import Path

import pytest

from medseg.data.layout.dates import DateLayout
from medseg.data.layout.pairing import pair
from medseg.data.layout.patterns import FilePatterns
from medseg.data.layout.same_names import by_stem
from medseg.errors import InputError
from medseg.hydra_app.compose import compose


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def paired(tmp_path: Path, images: list[str], labels: list[str] | None, n_channels: int = 1) -> dict[str, list[str]]:
    """Image file names by case id."""
    found = pair(
        touch(tmp_path / "images", *images),
        None if labels is None else touch(tmp_path / "labels", *labels),
        n_channels,
    )
    assert [c.id for c in found] == sorted(c.id for c in found)
    assert all(c.group == c.id for c in found)
    return {c.id: [p.name for p in c.images] for c in found}


def test_suffix_is_optional_with_one_channel(tmp_path: Path) -> None:
    found = paired(tmp_path, ["b_0000.nii.gz", "a.nrrd"], ["a.nii.gz", "b.mha"])
    assert found == {"a": ["a.nrrd"], "b": ["b_0000.nii.gz"]}


def test_labels_decide_whether_digits_are_a_channel(tmp_path: Path) -> None:
    images = ["scan_0000.nii", "scan_0001.nii", "liver_0001_0000.nii"]
    assert paired(tmp_path, images, ["scan_0000.nii", "scan_0001.nii", "liver_0001.nii"]) == {
        "liver_0001": ["liver_0001_0000.nii"], "scan_0000": ["scan_0000.nii"], "scan_0001": ["scan_0001.nii"],
    }  # fmt: skip


def test_channels_come_in_order(tmp_path: Path) -> None:
    images = ["a_0002.nii", "a_0000.nii", "a_0001.nii"]
    assert paired(tmp_path, images, ["a.nii"], 3) == {"a": ["a_0000.nii", "a_0001.nii", "a_0002.nii"]}


def test_one_file_may_hold_every_channel(tmp_path: Path) -> None:
    assert paired(tmp_path, ["a_0007.nii", "b.nii"], ["a_0007.nii", "b.nii"], 2) == {
        "a_0007": ["a_0007.nii"], "b": ["b.nii"],
    }  # fmt: skip


def test_without_labels_only_zero_is_a_channel(tmp_path: Path) -> None:
    assert paired(tmp_path, ["a_0000.nii", "visit_0002.nii"], None) == {
        "a": ["a_0000.nii"], "visit_0002": ["visit_0002.nii"],
    }  # fmt: skip


def test_label_files_are_attached(tmp_path: Path) -> None:
    images, labels = touch(tmp_path / "i", "a_0000.nii"), touch(tmp_path / "l", "a.nii.gz")
    assert pair(images, labels, 1)[0].label == labels / "a.nii.gz"
    assert pair(images, None, 1)[0].label is None


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    assert list(paired(tmp_path, ["a.nii", "._a.nii", ".DS_Store", "notes.txt"], ["a.nii", "._a.nii"])) == ["a"]


def test_a_folder_counts_as_an_image_when_asked_for(tmp_path: Path) -> None:
    images, labels = touch(tmp_path / "i", "b.nii"), touch(tmp_path / "l", "a.nii", "b.nii")
    touch(images / "a", "1.dcm")
    assert [c.images for c in pair(images, labels, 1, folders=True)] == [(images / "a",), (images / "b.nii",)]


@pytest.mark.parametrize(
    ("images", "labels", "n_channels", "message"),
    [
        (["a.nii", "b.nii"], ["a.nii"], 1, r"1 image\(s\) in .*images without a label in .*labels: b; add the labels"),
        (["a.nii"], ["a.nii", "b.nii", "c.nii"], 1, r"2 label\(s\) in .*labels without an image in .*: b, c; add"),
        (["a_0000.nii", "a_0001.nii", "b_0000.nii"], ["a.nii", "b.nii"], 2, r"1 missing image.*: b \(channel 1\); add"),
        (["a_0000.nii", "a_0001.nii"], ["a.nii"], 1, r"1 image\(s\) .* beyond the 1 declared .*: a \(channel 1\); d"),
        (["a.nii", "a.nrrd"], ["a.nii"], 1, r"1 case\(s\) .* more than one file for a channel: a \(a\.nii, a\.nrrd\)"),
        (["a.nii", "a_0000.nii"], ["a.nii"], 1, r"1 case\(s\) .* more than one file .*: a \(a\.nii, a_0000\.nii\)"),
        (["a.nii"], ["a.nii", "a.nii.gz"], 1, r"1 case\(s\) with more than one label in .*: a\.nii and a\.nii\.gz;"),
        ([], ["a.nii"], 1, r"images: no image among its 0 entries, expected files ending in .*\.nii\.gz"),
        (["a.png"], ["a.nii"], 1, r"images: no image among its 1 entries"),
        (["a.nii"], [], 1, r"labels: no label file among its 0 entries"),
    ],
)  # fmt: skip
def test_what_is_left_over_is_refused(
    tmp_path: Path, images: list[str], labels: list[str], n_channels: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        paired(tmp_path, images, labels, n_channels)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder; check data\.root"):
        pair(tmp_path / "nowhere", None, 1)


def test_second_channel_is_not_taken_for_a_case_of_its_own(tmp_path: Path) -> None:
    for name in ("p_0000", "p_0001", "scan_0001"):
        (tmp_path / f"{name}.nii.gz").touch()
    with pytest.raises(InputError, match=r"1 image\(s\) .* look like a second channel, where one is expected: p_0001"):
        pair(tmp_path, None, 1)


@pytest.mark.parametrize(("images", "end"), [(["a.nii.gz", "b.nii.gz"], ".nii.gz"), (["a_0000.mha", "b_0000.mha"], "")])
def test_labels_with_something_added_are_told_how_to_pair(images: list[str], end: str, tmp_path: Path) -> None:
    """What the message says to type works."""
    with pytest.raises(
        InputError, match=r"labels: a, b; the labels are named like the images with _seg added"
    ) as refused:
        paired(tmp_path, images, [f"a_seg{end or '.nrrd'}", f"b_seg{end or '.nrrd'}"])
    override = str(refused.value).partition("'")[2].partition("' pairs them")[0]
    cfg = compose("train", ["data=volumes", "data.channels=[MR]", "data.labels={a: 0, b: 1}", override])
    cases = FilePatterns.from_config(cfg.data.names).cases(tmp_path)
    assert [(c.id, c.images[0].name, c.label and c.label.name.partition(".")[0]) for c in cases] == [
        ("a", images[0], "a_seg"), ("b", images[1], "b_seg"),
    ]  # fmt: skip


def test_scenes_with_something_added_are_told_how_to_pair(tmp_path: Path) -> None:
    images, masks = touch(tmp_path / "images", "a.tif", "b.tif"), touch(tmp_path / "masks", "a_mask.png", "b_mask.png")
    with pytest.raises(InputError, match=r"named like the images with _mask added; 'data.names=\{image: "):
        by_stem([images], masks, endings=[".tif"], label_endings=[".png"])


def test_a_misspelt_folder_is_told_the_nearest_name(tmp_path: Path) -> None:
    touch(tmp_path / "images", "a.nii")
    with pytest.raises(InputError, match=r"image: no such folder; .*; did you mean images\?"):
        pair(tmp_path / "image", None, 1)


def test_an_empty_folder_of_labels_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels: no label file among its 0 entries"):
        paired(tmp_path, ["a.nii"], [])


def test_names_that_are_dates_alone_are_told_where_they_belong(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "20150711.tif", "20150801.tif")
    with pytest.raises(
        InputError, match=r"2 image\(s\) .* whose whole name is a date.* such as images/place/20150711.tif"
    ):
        by_stem([images], None, endings=[".tif"], label_endings=[], dates=DateLayout())
