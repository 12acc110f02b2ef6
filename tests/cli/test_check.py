"""medseg-check: exit codes, JSON, the corrected copy."""

import json
from pathlib import Path

import pytest

from medseg.cli import check
from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from tests.doctor.sets import write_volumes
from tests.hydra_app.test_app import run


def test_command_ends_with_1_if_anything_is_wrong_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_volumes(tmp_path / "set")
    (root / "labelsTr/c1.nii.gz").unlink()
    with pytest.raises(SystemExit) as ended:
        check._run(compose("check", ["data=nnunet", f"data.root={root}", f"output={tmp_path}/out"]))
    assert ended.value.code == 1
    shown = capsys.readouterr().out
    assert "error: orphan: c1: image(s) in" in shown
    assert "5 cases: 1 error" in shown
    told = json.loads((tmp_path / "out/check.json").read_text(encoding="utf-8"))
    assert told["counts"] == {"error": 1, "warning": 0, "note": 0}
    assert told["findings"][0]["cases"] == ["c1"]
    assert (tmp_path / "out/check.html").is_file()


def test_sound_data_ends_with_0_and_writes_nothing_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_volumes(tmp_path / "set")
    check._run(compose("check", ["data=nnunet", f"data.root={root}", "fast=true"]))
    assert "6 cases: nothing found" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_bad_input_to_the_command_ends_with_2(tmp_path: Path) -> None:
    done = run("check", "data=nnunet", "data.root=set", "fix=true", cwd=tmp_path)
    assert done.returncode == 2
    assert "fix=true: the corrected copy needs a place; add output=DIR" in done.stderr


def test_missing_root_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/dataset.json: no such file"):
        check.check(compose("check", ["data=nnunet", f"data.root={tmp_path}/nowhere"]))


def test_copy_that_fix_writes_is_sound(tmp_path: Path) -> None:
    root = write_volumes(tmp_path / "set")
    (root / "labelsTr/c1.nii.gz").unlink()
    options = ["data=nnunet", f"output={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    assert [f.check for f in check.check(compose("check", [*options, f"data.root={root}", "fix=true"]))] == ["orphan"]
    fixed = compose("check", ["data=nnunet", f"data.root={tmp_path}/out/fixed", "fast=true"])
    assert check.check(fixed) == []
    assert (root / "imagesTr/c1_0000.nii.gz").exists()
