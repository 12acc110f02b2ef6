"""medseg-prepare: listing, exit codes, options; the datasets are tested in tests/data/conversion."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.cli import prepare
from medseg.data.conversion.preparation import SETTINGS
from tests import image_layouts, volume_layouts


def call(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["medseg-prepare", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        prepare.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_help_lists_each_dataset_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    for name in prepare.dataset_names():
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        assert len(line.split()) > 4


def test_help_of_a_dataset_has_its_docstring_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "totalsegmentator", "--help") == 0
    shown = capsys.readouterr().out
    assert "splits_final.json" in shown
    assert "--classes {all,organs,vertebrae,cardiac,muscles,ribs}" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["drvie", "a", "b"], "got the dataset 'drvie'; did you mean 'drive'?"),
        ([], "the following arguments are required: NAME, SOURCE, TARGET; medseg-prepare --help"),
        (["drive", "a"], "the following arguments are required: TARGET; medseg-prepare drive --help"),
        (["drive", "absent", "out"], "absent: not there, expected the folder of DRIVE"),
        (["totalsegmentator", ".", "out", "--classes=bones"], "invalid choice: 'bones'"),
        (["drive", ".", "out", "--classes=organs"], "unrecognized arguments: --classes=organs"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_an_error_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image_layouts.write_isbi2012(tmp_path / "raw", sections=2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("x", encoding="utf-8")
    assert call(monkeypatch, "isbi2012", tmp_path / "raw", tmp_path / "out") == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_verify_names_damaged_files_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image_layouts.write_isbi2012(tmp_path / "raw", sections=2)
    words = ("isbi2012", tmp_path / "raw", tmp_path / "out")
    assert call(monkeypatch, *words) == 0
    assert "2 written, 0 were there already" in capsys.readouterr().out
    assert call(monkeypatch, *words, "--verify") == 0
    assert "2 entries are complete" in capsys.readouterr().out
    (tmp_path / "out/masks/01.png").unlink()
    assert call(monkeypatch, *words, "--verify") == 1
    assert capsys.readouterr().err.startswith("1 file(s) are missing or damaged: masks/01.png; ")


def test_options_are_settings_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    volume_layouts.write_totalsegmentator(tmp_path / "raw", names=volume_layouts.CARDIAC)
    words = ("totalsegmentator", tmp_path / "raw", tmp_path / "out")
    assert call(monkeypatch, *words, "--classes=cardiac") == 0
    stored = json.loads((tmp_path / "out" / SETTINGS).read_text(encoding="utf-8"))
    assert stored == {"dataset": "TotalSegmentator", "settings": {"classes": "cardiac"}}
    assert call(monkeypatch, *words) == 2
    assert "expected" in capsys.readouterr().err


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: object, work: object) -> int:
        raise OSError(28, "No space left on device", "out/manifest.sha256")

    image_layouts.write_isbi2012(tmp_path / "raw", sections=2)
    monkeypatch.setattr(prepare.Preparation, "fill", fail)
    assert call(monkeypatch, "isbi2012", tmp_path / "raw", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("error: out/manifest.sha256: no space is left")


def test_neither_help_nor_a_preparation_imports_torch(tmp_path: Path) -> None:
    image_layouts.write_isbi2012(tmp_path / "raw", sections=2)
    code = (
        "import sys; from medseg.cli.prepare import prepare; "
        "prepare(['isbi2012', 'raw', 'out']); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"
