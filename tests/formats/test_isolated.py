"""Reading in a process of its own: what becomes of a crash, a hang and a refusal there."""

from pathlib import Path

import numpy as np
import pytest

from medseg import formats
from medseg.errors import InputError
from medseg.formats import isolated
from medseg.geometry.grid import Grid


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "a.nii"
    formats.write(path, np.zeros((3, 4, 5), np.uint8), Grid.regular((3, 4, 5), (1, 1, 1)))
    return path


def instead(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Run other code in the process that reads."""
    run = isolated.subprocess.run

    def other(command: list[str], **settings: object) -> object:
        return run([command[0], "-c", body], **settings)  # type: ignore[call-overload]

    monkeypatch.setattr(isolated.subprocess, "run", other)


def test_a_readable_file_passes_and_another_is_refused_in_its_own_words(volume: Path) -> None:
    isolated.probe(volume, cells=True)
    volume.write_bytes(volume.read_bytes()[:400])
    with pytest.raises(InputError, match=r"a\.nii: cannot be read.*promises 60 bytes of cells, but 48 are stored"):
        isolated.probe(volume)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", r"ended its process \(SIGSEGV\)"),
        ("import os; os.abort()", r"ended its process \(SIGABRT\)"),
        ("raise ValueError('of its own')", r"ended its process \(ValueError: of its own\)"),
        ("import time; time.sleep(60)", r"had not ended after 0.2 s"),
    ],
)
def test_a_crash_or_a_hang_is_a_line(volume: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str) -> None:
    instead(monkeypatch, body)
    with pytest.raises(InputError, match=rf"a\.nii: reading it {words}") as refused:
        isolated.probe(volume, seconds=0.1 if "sleep" in body else 60)
    assert "\n" not in str(refused.value)


def test_memory_is_bounded(volume: Path) -> None:
    with pytest.raises(InputError, match=r"a\.nii: reading it ended its process"):
        isolated.probe(volume, memory=100 << 20)
