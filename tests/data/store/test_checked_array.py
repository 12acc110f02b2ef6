import gc
import os
from pathlib import Path

import blosc2
import numpy as np
import pytest

from medseg.data.store import checked_array
from medseg.data.store.checked_array import CheckedArray, record_of

CELLS = np.random.default_rng(0).normal(size=(2, 9, 7)).astype(np.float32)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, dict]:
    path = tmp_path / "a.b2nd"
    array = blosc2.asarray(CELLS, urlpath=str(path), chunks=(1, 4, 4), blocks=(1, 2, 2))
    return path, record_of(array)


def test_windows_are_those_of_the_array(stored: tuple[Path, dict]) -> None:
    array = CheckedArray(*stored)
    assert array.shape == CELLS.shape
    for window in (np.s_[:, 3:6, 2:7], np.s_[0:1, 0:9, 0:1], np.s_[:, 4:4, :]):
        np.testing.assert_array_equal(array[window], CELLS[window])


def test_only_chunks_that_a_window_touches_are_compared(stored: tuple[Path, dict]) -> None:
    path, record = stored
    record["crc32"][0] += 1
    array = CheckedArray(path, record)
    np.testing.assert_array_equal(array[:, 4:9, :], CELLS[:, 4:9])
    with pytest.raises(ValueError, match="chunk 0 differs from its checksum"):
        array[0:1, 0:1, 0:1]


@pytest.mark.parametrize(("key", "value"), [("shape", [2, 7, 9]), ("dtype", "int32"), ("blocks", [1, 4, 4])])
def test_another_form_is_refused(stored: tuple[Path, dict], key: str, value: object) -> None:
    path, record = stored
    with pytest.raises(ValueError, match="expected"):
        CheckedArray(path, record | {key: value})


def test_a_missing_checksum_is_refused(stored: tuple[Path, dict]) -> None:
    path, record = stored
    with pytest.raises(ValueError, match="11 checksums, expected 12"):
        CheckedArray(path, record | {"crc32": record["crc32"][:-1]})


MAPS = Path("/proc/self/maps")


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not list the files that a process maps")
def test_no_more_files_are_mapped_than_a_process_may_hold_open(
    stored: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    gc.collect()  # arrays of other tests
    monkeypatch.setattr(checked_array, "MOST_MAPPED", len(CheckedArray._mapped) + 2)

    def mapped() -> int:
        return sum(line.endswith(str(stored[0])) for line in MAPS.read_text().splitlines())

    arrays = [CheckedArray(*stored) for _ in range(5)]
    assert mapped() == 2
    for array in arrays:
        np.testing.assert_array_equal(array[:, 3:6, 2:7], CELLS[:, 3:6, 2:7])
    del array, arrays
    gc.collect()
    assert mapped() == 0
    again = CheckedArray(*stored)
    assert mapped() == 1
    assert again.shape == CELLS.shape


def test_a_file_that_was_cut_is_refused_before_anything_is_mapped(stored: tuple[Path, dict]) -> None:
    path, record = stored
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(RuntimeError, match="NULL"):
        CheckedArray(path, record)
