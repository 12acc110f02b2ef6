from pathlib import Path

import numpy as np
import pytest

from medseg.data.preprocess import Trace
from medseg.data.store import StoredCase, content_key, foreground_cells, write_case
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.labels import IGNORE
from medseg.sample import Sample

TARGETS = (("a", (1,)), ("b", (2,)))


@pytest.fixture
def sample() -> Sample:
    rng = np.random.default_rng(0)
    shape = (11, 9, 7)
    valid = np.ones(shape, bool)
    valid[0] = False
    return Sample(
        image=rng.normal(size=(2, *shape)).astype(np.float32),
        label=rng.integers(0, 3, shape).astype(np.int16),
        valid=valid,
        grid=Grid.regular(shape, (1.0, 2.0, 3.0)),
        case="case_1",
        group="patient_1",
    )


def stored(folder: Path, sample: Sample) -> StoredCase:
    grid = sample.grid
    trace = Trace(grid, (0, 1, 2), (False, False, False), Box.whole(grid.shape), grid)
    return write_case(folder / "case", sample, trace, TARGETS, (4, 4, 4))


def test_whole_case_comes_back(tmp_path: Path, sample: Sample) -> None:
    back = stored(tmp_path, sample).read()
    np.testing.assert_array_equal(back.image, sample.image)
    np.testing.assert_array_equal(back.label, sample.label)
    np.testing.assert_array_equal(back.valid, sample.valid)
    assert back.grid.offset_from(sample.grid) == 0
    assert (back.case, back.group) == ("case_1", "patient_1")


def test_window_equals_the_padded_slice(tmp_path: Path, sample: Sample) -> None:
    window = stored(tmp_path, sample).read(Box((-2, 3, 5), (4, 8, 10)))
    inside = (slice(0, 4), slice(3, 8), slice(5, 7))
    np.testing.assert_array_equal(window.image[:, 2:, :, :2], sample.image[(slice(None), *inside)])
    np.testing.assert_array_equal(window.valid[2:, :, :2], sample.valid[inside])
    assert not window.valid[:2].any()
    assert not window.valid[..., 2:].any()
    assert (window.label[:2] == IGNORE).all()
    assert (window.image[:, :2] == 0).all()
    np.testing.assert_allclose(window.grid.to_world([[2, 0, 0]]), sample.grid.to_world([[0, 3, 5]]))


def test_fully_valid_case_is_invalid_only_outside(tmp_path: Path, sample: Sample) -> None:
    sample.valid[:] = True
    case = stored(tmp_path, sample)
    assert not (case.folder / "valid.b2nd").exists()
    window = case.read(Box((-1, 0, 0), (3, 9, 7)))
    assert window.valid.sum() == 3 * 9 * 7


def test_failed_write_leaves_nothing(tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        stored(tmp_path, sample)
    assert list(tmp_path.iterdir()) == []


def test_second_writer_of_the_same_case_does_no_harm(tmp_path: Path, sample: Sample) -> None:
    first = stored(tmp_path, sample)
    stored(tmp_path, sample)
    np.testing.assert_array_equal(first.read().image, sample.image)
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_foreground_cells_are_of_their_class_and_bounded() -> None:
    label = np.zeros((60, 60, 60), np.int16)
    label[:50] = 1
    label[55, 5, 5] = 2
    cells = foreground_cells(label, TARGETS)
    assert len(cells["a"]) == max(10_000, -(-50 * 60 * 60 // 100))
    assert (label[tuple(cells["a"].T)] == 1).all()
    assert len({tuple(c) for c in cells["a"].tolist()}) == len(cells["a"])
    assert cells["b"].tolist() == [[55, 5, 5]]
    assert "annotated" not in cells


def test_annotated_cells_where_some_are_ignored() -> None:
    label = np.full((4, 4), IGNORE, np.int16)
    label[1, 2] = 0
    assert foreground_cells(label, TARGETS)["annotated"].tolist() == [[1, 2]]


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
