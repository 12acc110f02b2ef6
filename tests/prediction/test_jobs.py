"""Jobs of a prediction: what is kept, what is completed, and damaged cases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medseg.data.case import Case
from medseg.engine.engine import Engine
from medseg.engine.local import LocalEngine
from medseg.errors import InputError
from medseg.formats.polygons import PolygonOptions
from medseg.labels import LabelTable
from medseg.prediction import writer as prediction_writer
from medseg.prediction.file_predictor import FilePredictor
from medseg.prediction.jobs import Request, Written, check_conflicts, find_jobs, run_jobs, warn_of_others
from medseg.prediction.record import RECORD, Origin, Record
from medseg.prediction.writer import Writer
from medseg.sample import Channel, DataSpec

NAMES = ("a", "b", "c")


class Fake(FilePredictor):
    """A predictor whose label files hold the checkpoint's name; some images can't be read."""

    def __init__(self, checkpoint: str, damaged: Sequence[str] = ()) -> None:
        self.checkpoint, self.damaged = checkpoint, damaged
        self.asked: list[str] = []

    @property
    def spec(self) -> DataSpec:
        return DataSpec((Channel("B4"),), LabelTable.declare({"background": 0, "road": 1}), 2)

    def case(
        self, files: Sequence[Path], target: Path, *, groups: Any, facts: Any, absent: Any = (), on_rows: Any = None
    ) -> Path:
        assert (groups, facts) == ((), None)
        self.asked.append(target.stem)
        if target.stem in self.damaged:
            raise InputError(f"{files[0]}: can't be read")
        on_rows(1, 2)
        target.write_text(f"{self.checkpoint} {target.stem}")
        return target


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in NAMES:
        (tmp_path / f"{name}.tif").write_text(name)

    def polygons(raster: Path, target: Path, labels: Any, options: PolygonOptions, *, probabilities: Any) -> None:
        target.write_text(f"{raster.read_text(encoding='utf-8')} over {options.min_area_m2:g}")

    monkeypatch.setattr(prediction_writer, "polygons", polygons)
    return tmp_path / "out"


def run(
    out: Path,
    fake: Fake,
    request: Request | None = None,
    *,
    overwrite: bool = False,
    names: Any = NAMES,
    engine: Engine | None = None,
) -> Written:
    request = request or Request()
    cases = [Case(name, (out.parent / f"{name}.tif",), None, name) for name in names]
    record = Record(out, Origin(fake.checkpoint, f"{fake.checkpoint}.ckpt", {}))
    jobs = find_jobs(cases, [f"{name}.tif" for name in names], record, request)
    if not overwrite:
        check_conflicts(jobs, out)
    warn_of_others(jobs, record, request)
    writer = Writer(lambda: fake, fake.spec.labels, request.polygons or PolygonOptions())
    return run_jobs(jobs, writer, record, request, overwrite=overwrite, engine=engine or LocalEngine())


def texts(out: Path) -> dict[str, str]:
    found = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != RECORD]
    return {path.relative_to(out).as_posix(): path.read_text(encoding="utf-8") for path in found}


def test_a_newer_checkpoint_never_keeps_older_files(out: Path) -> None:
    assert run(out, Fake("old")) == Written(3, 0)
    assert run(out, Fake("old")) == Written(0, 0)
    newer = Fake("new")
    with pytest.raises(InputError) as error:
        run(out, newer)
    assert str(error.value) == (
        f"output={out}: 3 of 3 label files are there already and can't be kept: 3 made by another checkpoint (such as "
        "a.tif); overwrite=true replaces them, or choose another output"
    )
    assert newer.asked == [], "it stops before anything is predicted"
    assert run(out, newer, overwrite=True) == Written(3, 0)
    assert texts(out) == {"a.tif": "new a", "b.tif": "new b", "c.tif": "new c"}


def test_a_prediction_killed_before_its_polygons_writes_them(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: Any, **settings: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prediction_writer, "polygons", killed)
        with pytest.raises(KeyboardInterrupt):
            run(out, Fake("a"), Request(polygons=PolygonOptions()))
    assert texts(out) == {"a.tif": "a a"}
    again = Fake("a")
    assert run(out, again, Request(polygons=PolygonOptions())) == Written(2, 1)
    assert again.asked == ["b", "c"], "labels that were finished are not predicted again"
    assert [name for name in texts(out) if "polygons" in name] == [f"polygons/{name}.gpkg" for name in NAMES]


def test_outputs_can_be_added_to_a_finished_folder(out: Path) -> None:
    run(out, Fake("a"))
    fake = Fake("a")
    assert run(out, fake, Request(polygons=PolygonOptions(5))) == Written(0, 3)
    assert texts(out)["polygons/b.gpkg"] == "a b over 5"
    assert run(out, fake, Request(polygons=PolygonOptions(7))) == Written(0, 3)
    assert texts(out)["polygons/b.gpkg"] == "a b over 7"
    assert fake.asked == []


def test_overwriting_leaves_no_polygons_of_the_old_labels(out: Path) -> None:
    run(out, Fake("old"), Request(polygons=PolygonOptions()))
    run(out, Fake("new"), overwrite=True)
    assert list(texts(out)) == ["a.tif", "b.tif", "c.tif"]


def test_a_damaged_image_does_not_stop_the_others(out: Path) -> None:
    with pytest.raises(InputError, match=r"b\.tif: can't be read \(the other 2 of 3 cases are in .*out\)"):
        run(out, Fake("a", damaged=["b"]))
    assert list(texts(out)) == ["a.tif", "c.tif"]
    assert run(out, Fake("a")) == Written(1, 0)


def test_a_damaged_image_leaves_no_label_of_the_old_checkpoint(out: Path) -> None:
    run(out, Fake("old"))
    with pytest.raises(InputError, match=r"b\.tif: can't be read"):
        run(out, Fake("new", damaged=["b"]), overwrite=True)
    assert texts(out) == {"a.tif": "new a", "c.tif": "new c"}


def test_several_damaged_images_are_a_line_each(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"2 of 3 cases could not be predicted and are listed above; the other 1 of 3"):
        run(out, Fake("a", damaged=["a", "c"]))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"error: {n}: {out.parent}/{n}.tif: can't be read" for n in ("a", "c")]
    with pytest.raises(InputError, match=r"3 of 3 .* listed above; the first: .*a\.tif: can't be read"):
        run(out, Fake("b", damaged=NAMES), overwrite=True)


def test_files_of_other_cases_by_another_checkpoint_are_warned_of(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(out, Fake("old"), names=["a", "b"])
    run(out, Fake("new"), names=["c"])
    told = capsys.readouterr().err
    assert told.startswith("warning: ")
    assert "also holds 2 label file(s) of other cases, made by another checkpoint" in told
