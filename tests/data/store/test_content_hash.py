import os
from pathlib import Path

import pytest

from medseg.data.store import content_hash
from medseg.data.store.content_hash import Digests, content_key, quick_hash


def key(path: Path, memory: dict[str, str]) -> str:
    return content_key([path], {}, memory=memory)


def replaced(path: Path, content: bytes) -> None:
    """Another content of the same size, at the same time."""
    stat = path.stat()
    assert len(content) == stat.st_size
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_key_follows_content_and_settings_but_not_names_or_dates(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"abc")
    two.write_bytes(b"abc")
    assert content_key([one], {"x": 1}) == content_key([two], {"x": 1})
    assert content_key([one], {"x": 1}) != content_key([one], {"x": 2})
    memory: dict[str, str] = {}
    before = content_key([one], {}, memory=memory)
    assert len(memory) == 1
    one.write_bytes(b"abcd")
    assert content_key([one], {}, memory=memory) != before


@pytest.mark.parametrize("size", [3, 65536, 300_000])
@pytest.mark.parametrize("place", [0.0, 0.999999])
def test_a_file_replaced_by_one_of_the_same_size_and_time(tmp_path: Path, size: int, place: float) -> None:
    path, memory = tmp_path / "image.nii", {}
    path.write_bytes(bytes(size))
    before = key(path, memory)
    changed = bytearray(size)
    changed[int(place * size)] = 1
    replaced(path, bytes(changed))
    assert key(path, memory) != before


def test_a_change_between_the_blocks_is_noticed_once_all_is_read_again(tmp_path: Path) -> None:
    path, record = tmp_path / "image.nii", tmp_path / "digests.json"
    path.write_bytes(bytes(1_000_000))
    first = Digests(record)
    before = key(path, first.memory)
    first.save()
    changed = bytearray(1_000_000)
    changed[5000] = 1
    replaced(path, bytes(changed))
    assert key(path, Digests(record).memory) == before
    Digests.forget(record)
    assert key(path, Digests(record).memory) != before


def test_nothing_is_read_twice_but_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, memory = tmp_path / "image.nii", {}
    path.write_bytes(b"abc")
    before = key(path, memory)
    monkeypatch.setattr(content_hash, "sha256_of", lambda path: pytest.fail("read again"))
    assert key(path, memory) == before


def test_quick_hash_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert len(quick_hash(tmp_path / "empty")) == 16


def test_companions_count(tmp_path: Path) -> None:
    header, cells, memory = tmp_path / "a.mhd", tmp_path / "a.raw", {}
    header.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = a.raw\n"
    )
    cells.write_bytes(bytes(8))
    before = key(header, memory)
    replaced(cells, bytes([0, 0, 0, 0, 0, 0, 0, 1]))
    assert key(header, memory) != before


@pytest.mark.parametrize("content", [b'{"a": ', b"[1]", b"\xff\xfe"])
def test_a_damaged_file_counts_as_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    path = tmp_path / "digests.json"
    path.write_bytes(content)
    assert Digests(path).memory == {}
    assert capsys.readouterr().err == f"warning: {path} is damaged; the files of the dataset are read again\n"
