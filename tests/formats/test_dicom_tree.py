"""Image series in a tree of patients and studies, between objects that are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.formats.dicom_tree import find_series
from tests.formats.test_dicom import CELLS, place, save_series, save_slice
from tests.formats.test_dicom_frames import save_enhanced

NAMED = {"PatientID": "P 7/a", "StudyDate": "20200131", "SeriesNumber": 4, "SeriesDescription": "T1 post (ä)"}
NO_IMAGE = dict.fromkeys(("Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient"))


def save(folder: Path, series: str = "1.2.3", **tags: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    present = {tag: value for tag, value in (NAMED | tags).items() if value is not None}
    return save_series(folder, series=series, **present)


def names(folder: Path) -> list[str]:
    return [one.name for one in find_series(folder).series]


def test_names_are_readable_and_safe(tmp_path: Path) -> None:
    save(tmp_path / "p/s/1")
    save(tmp_path / "p/s/2", "1.2.4", SeriesNumber=11, SeriesDescription="../../etc:passwd*")
    save(tmp_path / "p/s/3", "1.2.5", PatientID="", StudyDate="", SeriesNumber=None, SeriesDescription="")
    save(tmp_path / "p/s/4", "1.2.6", SeriesDescription="x" * 64)
    assert names(tmp_path) == [
        "P-7-a_20200131_11_etc-passwd",
        "P-7-a_20200131_4_T1-post-a",
        f"P-7-a_20200131_4_{'x' * 48}",
        "series",
    ]


def test_series_of_one_name_stay_apart(tmp_path: Path) -> None:
    for uid in ("1.2.3", "1.2.4"):
        save(tmp_path / uid, uid)
    save(tmp_path / "c", "1.2.5", SeriesDescription="t1 POST ä")
    first = names(tmp_path)
    assert len({name.lower() for name in first}) == 3
    assert all(name.lower().startswith("p-7-a_20200131_4_t1-post-a") for name in first)
    assert names(tmp_path) == first


def test_a_series_may_be_spread_and_a_folder_hold_several(tmp_path: Path) -> None:
    """As on a disc, whose folders hold so many files each."""
    for k in range(7):
        for number, uid in enumerate(("1.2.3", "1.2.4")):
            folder = tmp_path / f"disc/{k // 3}"
            folder.mkdir(parents=True, exist_ok=True)
            save_slice(
                folder / f"IM{2 * k + number}", CELLS[:, :, k], place(k), series=uid, **NAMED | {"SeriesNumber": number}
            )
    first, second = find_series(tmp_path).series
    assert (first.name, second.name) == ("P-7-a_20200131_0_T1-post-a", "P-7-a_20200131_1_T1-post-a")
    assert [len(one.files) for one in (first, second)] == [7, 7]
    assert not set(first.files) & set(second.files)


def test_other_objects_are_counted(tmp_path: Path) -> None:
    folder = save(tmp_path / "p/ct")
    save_slice(folder / "plan", CELLS[:, :, 0], place(0), series="7.1", Modality="RTSTRUCT", **NO_IMAGE)
    save_slice(folder / "seg.dcm", CELLS[:, :, 0], place(0), series="7.2", Modality="SEG", NumberOfFrames=3)
    save_slice(folder / "dose", CELLS[:, :, 0], place(0), series="7.3", Modality="RTDOSE", NumberOfFrames=3)
    save_slice(folder / "xray", CELLS[:, :, 0], place(0), series="7.4", Modality="CR", ImagePositionPatient=None)
    save_slice(folder / "photo", CELLS[:, :, 0], place(0), series="7.5", Modality="OT", SamplesPerPixel=3)
    (folder / "notes.txt").write_text("notes")
    (folder / ".hidden").mkdir()
    save(folder / ".hidden/s", "7.6")
    tree = find_series(tmp_path)
    assert [one.uid for one in tree.series] == ["1.2.3"]
    assert dict(tree.others) == {"RTSTRUCT": 1, "SEG": 1, "RTDOSE": 1, "CR": 1, "OT": 1}


def test_localisers_are_marked(tmp_path: Path) -> None:
    save(tmp_path / "a")
    for k in range(2):
        turn = np.eye(3)[:, [0, 1, 2] if k else [1, 2, 0]]
        tags = NAMED | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesNumber": 1}
        (tmp_path / "b").mkdir(exist_ok=True)
        save_slice(tmp_path / f"b/{k}", CELLS[:, :, k], place(k), turn=turn, series="1.2.4", **tags)
    assert [(one.uid, one.localiser) for one in find_series(tmp_path).series] == [("1.2.4", True), ("1.2.3", False)]


def test_each_enhanced_file_is_a_series(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_enhanced(tmp_path / name, [*range(7)], PatientID="P1")
    tree = find_series(tmp_path)
    assert [len(one.files) for one in tree.series] == [1, 1]
    assert len({one.name for one in tree.series}) == 2
    assert all(one.name.startswith("P1_") for one in tree.series)


def test_damaged_files_belong_to_the_series_of_their_folder(tmp_path: Path) -> None:
    folder = save(tmp_path / "a")
    (folder / "bad.dcm").write_bytes(b"nothing")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/worse.dcm").write_bytes(b"nothing")
    tree = find_series(tmp_path)
    (one,) = tree.series
    assert folder / "bad.dcm" in one.files
    ((path, text),) = tree.damaged
    assert path.name == "worse.dcm"
    assert "cannot be read" in text


@pytest.mark.real
def test_real_series(real_data: Path) -> None:
    tree = find_series(real_data / "dicom_series")
    assert [(one.name, len(one.files)) for one in tree.series] == [
        ("PGBM-003_20200121_11_T1post", 22),
        ("PGBM-003_20200121_HippoCrop", 40),
    ]
