"""Archives of medseg-export are unpacked safely, and what was unpacked is removed."""

import stat
import zipfile
from pathlib import Path

import pytest
import torch

from medseg.errors import InputError
from medseg.weights import exported
from medseg.weights.exported import is_archive, unpacked
from medseg.weights.pretrained import read

HELD = {"out/predictor.json": "{}", "out/selection.yaml": "a: 1", "out/model.ckpt": "weights", "out/runner.py": "raise"}


def archive(folder: Path, entries: dict[str, str] = HELD, **more: str) -> Path:
    path = folder / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in {**entries, **more}.items():
            packed.writestr(name, content)
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught, unpacked(path, "checkpoint"):
        pytest.fail("was unpacked")
    assert str(caught.value).startswith(f"checkpoint={path}: ")
    assert "\n" not in str(caught.value)


def test_checkpoints_and_descriptions_alone_are_unpacked_for_a_while(tmp_path: Path) -> None:
    path = archive(tmp_path, **{"out/model_2.ckpt": "more", "out/sub/model_3.ckpt": "", "model_4.ckpt": ""})
    with unpacked(path, "checkpoint") as folder:
        assert sorted(file.name for file in folder.iterdir()) == [
            "model.ckpt", "model_2.ckpt", "predictor.json", "selection.yaml",
        ]  # fmt: skip
        assert (folder / "model.ckpt").read_text() == "weights"
    assert not folder.exists()


def test_it_is_removed_after_an_error_which_names_the_archive(tmp_path: Path) -> None:
    path = archive(tmp_path)
    with pytest.raises(InputError, match=f"^{path}/model.ckpt: damaged") as caught, unpacked(path, "x") as folder:
        raise InputError(f"{folder}/model.ckpt: damaged")
    assert not folder.exists(), caught.value


@pytest.mark.parametrize("name", ["../evil.ckpt", "/evil.ckpt", "out/../../evil.ckpt", "out\\..\\evil.ckpt", "C:/evil"])
def test_entries_outside_of_the_archive_are_refused(name: str, tmp_path: Path) -> None:
    refused(archive(tmp_path, **{name: ""}), "is a path outside of the archive")
    assert not list(tmp_path.rglob("evil*"))


def test_links_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, {name: text for name, text in HELD.items() if "ckpt" not in name})
    with zipfile.ZipFile(path, "a") as packed:
        link = zipfile.ZipInfo("out/model.ckpt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/hostname")
    refused(path, r"its entry 'out/model.ckpt' is a link")


def test_bombs_are_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path, **{"out/model_2.ckpt": "0" * 1_000_000})
    with unpacked(path, "checkpoint"):
        pass
    monkeypatch.setattr(exported, "_LARGE", 100_000)
    refused(path, r"'out/model_2.ckpt' grows from \d+ to 1000000 bytes")
    monkeypatch.undo()
    monkeypatch.setattr(exported, "_MOST_TEXT", 3)
    refused(path, "'out/selection.yaml' grows from")


def test_a_disk_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 3})())
    refused(archive(tmp_path), "set TMPDIR to a folder with more space, or unpack")


def test_other_archives(tmp_path: Path) -> None:
    assert is_archive(archive(tmp_path))
    refused(archive(tmp_path, **{"other/predictor.json": ""}), "holds 2 files predictor.json, expected 1")
    assert not is_archive(archive(tmp_path, {"a.txt": ""}))
    (tmp_path / "cut.zip").write_bytes(archive(tmp_path).read_bytes()[:100])
    assert not is_archive(tmp_path / "cut.zip")
    assert not is_archive(tmp_path / "missing.zip")
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.zip")
    assert not is_archive(tmp_path / "weights.zip"), "torch's own files are zip files"
    assert list(read(tmp_path / "weights.zip").state) == ["a"]


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    path = archive(tmp_path)
    content = bytearray(path.read_bytes())
    at = content.index(b"out/model.ckpt") + len("out/model.ckpt")
    content[at : at + 4] = b"\xff" * 4
    path.write_bytes(content)
    refused(path, r"can't be read as an archive \(error\); it is cut short, damaged or encrypted")
    assert not list(tmp_path.glob("**/model.ckpt"))


def test_weights_of_an_archive(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.arange(3.0)}, tmp_path / "model.ckpt")
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("predictor.json", "{}")
        packed.write(tmp_path / "model.ckpt", "model.ckpt")
    found = read(str(path))
    assert found.state["a.weight"].tolist() == [0, 1, 2]
    assert found.source == str(path)
    with zipfile.ZipFile(path, "a") as packed:
        packed.write(tmp_path / "model.ckpt", "model_2.ckpt")
    with pytest.raises(InputError, match=r"export.zip: .*holds model.ckpt, model_2.ckpt: unpack it, and name the one"):
        read(path)
