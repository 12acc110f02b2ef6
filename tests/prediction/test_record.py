"""The record of a folder of predictions: what may be kept, and what made the rest."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.prediction.record import (
    EDITED,
    OTHER_CHECKPOINT,
    OTHER_IMAGES,
    OTHER_SETTINGS,
    RECORD,
    UNKNOWN,
    Finding,
    Origin,
    Record,
    digest_of,
    identities,
)

ORIGIN = Origin("a" * 64, "runs/a/best.ckpt", {"overlap": 0.5})
OUTPUTS = {"labels": "c.tif", "polygons": "polygons/c.gpkg"}
EVERY = [*OUTPUTS.values(), "probabilities/c.tif"]


def finish(record: Record, outputs: dict[str, str], kinds: list[str], images: list[Path], options: Any = None) -> None:
    """As a worker does it: all digests are taken where the files were written."""
    digests = {kind: digest_of(record.folder / outputs[kind]) for kind in kinds}
    record.finish(outputs, digests, identities(images), options)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "images/c.tif"
    path.parent.mkdir()
    path.write_text("cells")
    return path


@pytest.fixture
def folder(tmp_path: Path, image: Path) -> Path:
    """A folder in which one case was written, labels and polygons."""
    out = tmp_path / "out"
    (out / "polygons").mkdir(parents=True)
    record = Record(out, ORIGIN)
    record.begin(OUTPUTS, [image], every=EVERY)
    for kind, name in OUTPUTS.items():
        (out / name).write_text(kind)
        finish(record, OUTPUTS, [kind], [image], {"polygons": {"min_area_m2": 0.0}})
    record.close()
    return out


def found(folder: Path, image: Path, origin: Origin = ORIGIN, area: float = 0.0) -> Finding:
    return Record(folder, origin).find(OUTPUTS, [image], {"polygons": {"min_area_m2": area}})


def test_what_the_same_command_wrote_is_kept(folder: Path, image: Path) -> None:
    assert found(folder, image) == Finding(frozenset(OUTPUTS))
    assert found(folder, image, Origin("a" * 64, "moved.ckpt", {"overlap": 0.5})) == Finding(frozenset(OUTPUTS))


def test_equal_images_of_another_time_are_the_same(folder: Path, image: Path) -> None:
    os.utime(image, ns=(1, 1))
    assert found(folder, image).conflict == ""


CHANGED: dict[str, Callable[[Path, Path], object]] = {
    OTHER_IMAGES: lambda out, image: image.write_text("other"),
    EDITED: lambda out, image: (out / "c.tif").write_text("edited"),
    UNKNOWN: lambda out, image: (out / RECORD).unlink(),
}


@pytest.mark.parametrize("reason", CHANGED)
def test_what_was_changed_since_is_a_conflict(reason: str, folder: Path, image: Path) -> None:
    CHANGED[reason](folder, image)
    assert found(folder, image).conflict == reason


@pytest.mark.parametrize(
    "origin,reason",
    [
        (Origin("b" * 64, "runs/a/best.ckpt", {"overlap": 0.5}), OTHER_CHECKPOINT),
        (Origin("a" * 64, "runs/a/best.ckpt", {"overlap": 0.25}), OTHER_SETTINGS),
    ],
)
def test_another_origin_is_a_conflict(origin: Origin, reason: str, folder: Path, image: Path) -> None:
    assert found(folder, image, origin) == Finding(conflict=reason)
    assert Record(folder, origin).others([{"labels": "d.tif"}]) == 1
    assert Record(folder, origin).others([OUTPUTS]) == 0


def test_an_output_that_is_missing_or_has_other_options_is_written_anew(folder: Path, image: Path) -> None:
    assert found(folder, image, area=7.0) == Finding(frozenset({"labels"}))
    (folder / "polygons/c.gpkg").unlink()
    assert found(folder, image) == Finding(frozenset({"labels"}))


def test_files_of_a_killed_command_are_not_trusted_and_no_conflict(folder: Path, image: Path) -> None:
    Record(folder, ORIGIN).begin(OUTPUTS, [image], every=EVERY)
    assert (folder / "c.tif").exists(), "it is replaced in one rename"
    assert found(folder, image) == Finding()
    record = Record(folder, ORIGIN)
    finish(record, OUTPUTS, ["labels"], [image])
    assert found(folder, image) == Finding(frozenset({"labels"}))


def test_kept_labels_stay_trusted_while_polygons_are_written(folder: Path, image: Path) -> None:
    Record(folder, ORIGIN).begin(OUTPUTS, [image], every=EVERY, kept=["labels"])
    assert found(folder, image) == Finding(frozenset({"labels"}))
    os.utime(image, ns=(1, 1))
    assert found(folder, image) == Finding(frozenset({"labels"})), "the digest of the image is still known"


def test_files_of_another_origin_go_before_a_case_begins(folder: Path, image: Path) -> None:
    record = Record(folder, Origin("b" * 64, "b.ckpt", {}))
    record.begin({"labels": "c.tif"}, [image], every=EVERY)
    record.close()
    assert not any((folder / name).exists() for name in EVERY), "old polygons would not belong to new labels"
    assert next(iter(json.loads((folder / RECORD).read_text(encoding="utf-8"))["origins"].values()))["file"] == "b.ckpt"


def test_a_case_without_any_output_is_forgotten(tmp_path: Path, image: Path) -> None:
    record = Record(tmp_path / "new", ORIGIN)
    record.begin(OUTPUTS, [image], every=EVERY)
    record.abandon(OUTPUTS)
    record.close()
    assert list((tmp_path / "new").iterdir()) == []


def test_two_commands_fill_one_folder(folder: Path, image: Path) -> None:
    first, second = Record(folder, ORIGIN), Record(folder, ORIGIN)
    first.begin({"labels": "d.tif"}, [image], every=["d.tif"])
    second.begin({"labels": "e.tif"}, [image], every=["e.tif"])
    first.close()
    second.close()
    assert set(json.loads((folder / RECORD).read_text(encoding="utf-8"))["cases"]) == {"c.tif", "d.tif", "e.tif"}


def test_every_slice_and_detached_file_counts(tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    paths = [series / "1.dcm", tmp_path / "a.raw"]
    for path in (*paths, series / "0.dcm", tmp_path / "a.mhd"):
        path.write_text("1")
    for images, inner in (([series], paths[0]), ([tmp_path / "a.mhd"], paths[1])):
        folder = tmp_path / f"out-{inner.stem}"
        record = Record(folder, ORIGIN)
        record.begin({"labels": "x.nii.gz"}, images, every=[])
        (folder / "x.nii.gz").write_text("labels")
        finish(record, {"labels": "x.nii.gz"}, ["labels"], images)
        assert record.find({"labels": "x.nii.gz"}, images).conflict == ""
        inner.write_text("2")
        os.utime(inner, ns=(1, 1))
        assert record.find({"labels": "x.nii.gz"}, images).conflict == OTHER_IMAGES


def test_a_named_pipe_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> str:
        raise AssertionError(f"{path} was read, which waits for ever")

    monkeypatch.setattr("medseg.prediction.record.digest_of", read)
    os.mkfifo(tmp_path / "pipe.nii")
    with pytest.raises(InputError, match=r"pipe\.nii: is a named pipe"):
        Record(tmp_path / "out", ORIGIN).begin({"labels": "pipe.nii.gz"}, [tmp_path / "pipe.nii"], every=[])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1, "cases": {"a": {}}, "origins": {}}', '{"format": "x"}', "\x00", "3"]
)
def test_a_damaged_record_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(InputError, match=r"predictions\.json: is not a readable record .* use overwrite=true"):
        Record(tmp_path, ORIGIN)


def test_a_record_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"format": 99}')
    with pytest.raises(InputError, match="was written by a newer medseg"):
        Record(tmp_path, ORIGIN)
