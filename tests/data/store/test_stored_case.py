import json
from pathlib import Path

import numpy as np
import pytest

from medseg.data.preprocessing.preprocess import PreprocessTrace, crop
from medseg.data.store.stored_case import DamagedEntry, StoredCase, write_case
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
    windows = [(Box.whole(grid.shape), sample)]
    return write_case(folder / "case", windows, grid, PreprocessTrace.unmoved(grid), TARGETS, (4, 4, 4))


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


def test_windows_give_the_same_case_as_the_whole(tmp_path: Path, sample: Sample) -> None:
    whole = stored(tmp_path, sample)
    boxes = [Box.at((i, j, 0), (4, 8, 8)).clip(sample.grid.shape) for i in (0, 4, 8) for j in (0, 8)]
    windows = [(box, crop(sample, box)) for box in boxes]
    args = (sample.grid, PreprocessTrace.unmoved(sample.grid), TARGETS, (4, 4, 4))
    pieces = write_case(tmp_path / "pieces", windows, *args)
    for name in ("image", "label", "valid"):
        np.testing.assert_array_equal(getattr(pieces.read(), name), getattr(whole.read(), name))
    assert pieces.stored == whole.stored
    for name, cells in whole.cells.items():
        assert set(map(tuple, cells.tolist())) == set(map(tuple, pieces.cells[name].tolist()))
    bare = write_case(tmp_path / "bare", windows, *args, arrays=False)
    assert sorted(p.name for p in bare.folder.iterdir()) == ["case.json", "cells.npz"]
    assert bare.counts == {
        "a": int((sample.label[sample.valid] == 1).sum()),
        "b": int((sample.label[1:] == 2).sum()),
        "annotated": 10 * 9 * 7,
    }
    assert bare.n_valid == 10 * 9 * 7


def test_no_bit_that_flips_is_read_as_other_values(tmp_path: Path, sample: Sample) -> None:
    written = stored(tmp_path, sample)
    rng, noticed = np.random.default_rng(0), 0
    for path in sorted(written.folder.iterdir()):
        content = path.read_bytes()
        for _ in range(60):
            place, bit = int(rng.integers(len(content))), int(rng.integers(8))
            altered = bytearray(content)
            altered[place] ^= 1 << bit
            path.write_bytes(altered)
            try:
                case = StoredCase(written.folder)
                case.check()
                back, cells = case.read(), case.cells
            except DamagedEntry:
                noticed += 1
                continue
            np.testing.assert_array_equal(back.image, sample.image)
            np.testing.assert_array_equal(back.label, sample.label)
            np.testing.assert_array_equal(back.valid, sample.valid)
            assert {name: len(found) for name, found in cells.items()} == written.counts
        path.write_bytes(content)
    assert noticed > 200, "most flips are in cells"


def test_facts_that_are_altered_are_damage(tmp_path: Path, sample: Sample) -> None:
    folder = stored(tmp_path, sample).folder
    facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    for altered in (facts | {"group": "patient_2"}, facts | {"n_valid": facts["n_valid"] + 1}):
        (folder / "case.json").write_text(json.dumps(altered))
        with pytest.raises(DamagedEntry, match="the prepared case is damaged"):
            StoredCase(folder).check()
    (folder / "case.json").write_text(json.dumps(facts))
    StoredCase(folder).check()


@pytest.mark.parametrize("name", ["case.json", "cells.npz", "image.b2nd", "label.b2nd"])
@pytest.mark.parametrize("kept", [None, 0, 40])
def test_a_file_that_is_missing_or_cut_short_is_damage(
    tmp_path: Path, sample: Sample, name: str, kept: int | None
) -> None:
    folder = stored(tmp_path, sample).folder
    path = folder / name
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedEntry, match=rf"{folder}: the prepared case is damaged .*delete this folder"):
        StoredCase(folder).check()


def test_a_sound_case_passes_and_one_without_arrays_does_where_none_are_expected(
    tmp_path: Path, sample: Sample
) -> None:
    case = stored(tmp_path, sample)
    case.check()
    (case.folder / "image.b2nd").unlink()
    StoredCase(case.folder).check(arrays=False)


class _Broken:
    shape = (2, 11, 9, 7)

    def __getitem__(self, key: object) -> None:
        raise RuntimeError("Error while getting the buffer")


def test_cells_that_do_not_decode_are_damage_in_loader_processes_too(tmp_path: Path, sample: Sample) -> None:
    case = stored(tmp_path, sample)
    case.__dict__["_image"] = _Broken()
    with pytest.raises(DamagedEntry, match=r"is damaged \(RuntimeError\); delete") as raised:
        case.read()
    line = str(raised.value)
    handed_on = DamagedEntry(
        f"Caught DamagedEntry in DataLoader worker process 0.\nTraceback:\n a.DamagedEntry: {line}\n"
    )
    assert str(handed_on) == line
