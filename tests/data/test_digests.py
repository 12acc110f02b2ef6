from pathlib import Path

import pytest

from medseg.data.digests import Digests, content_key


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


@pytest.mark.parametrize("content", [b'{"a": ', b"[1]", b"\xff\xfe"])
def test_a_damaged_file_counts_as_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    path = tmp_path / "digests.json"
    path.write_bytes(content)
    assert Digests(path).memory == {}
    assert capsys.readouterr().err == f"warning: {path} is damaged; the files of the dataset are read again\n"
