import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.geometry.box import Box
from medseg.inference.bands import probability_bands
from medseg.inference.decide import decide
from medseg.inference.sliding_window import slabs, window_batches, window_starts
from medseg.inference.stream import ExtraBands, SceneNetwork, Strip, stream, unread_boxes
from medseg.inference.tiling import Tiling
from medseg.labels import LabelTable

TABLE = LabelTable.declare({"land": 0, "water": 4, "ice": 9})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


class Rows:
    """A sink in memory."""

    def __init__(self, shape: tuple[int, ...], n_bands: int = 1, nodata: int = 255) -> None:
        self.dtype, self.nodata = np.dtype(np.uint8), nodata
        self.kept = np.zeros((n_bands, 0, *shape[1:]), np.uint8)

    @property
    def rows_done(self) -> int:
        return self.kept.shape[1]

    def keep(self, rows: int) -> None:
        self.kept = self.kept[:, :rows]

    def append(self, cells: np.ndarray) -> None:
        assert cells.dtype == self.dtype
        self.kept = np.concatenate([self.kept, cells], axis=1)


def network(ndim: int, outputs: int = 3) -> nn.Module:
    torch.manual_seed(3)
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[ndim]
    return nn.Sequential(kind(2, 4, 3, padding=1), nn.ReLU(), kind(4, outputs, 3, padding=1), nn.Dropout(0.5))


def scene(shape: tuple[int, ...], holes: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(len(shape))
    valid = rng.random(shape) > 0.2 if holes else np.ones(shape, bool)
    valid[: shape[0] // 3] &= not holes
    return np.where(valid, rng.normal(size=(2, *shape)), 0).astype(np.float32), valid


def reader(image: np.ndarray, valid: np.ndarray, asked: list[Box] | None = None) -> Callable[[Box], Any]:
    def read(box: Box) -> tuple[np.ndarray, np.ndarray]:
        assert box.clip(valid.shape) == box
        if asked is not None:
            asked.append(box)
        return image[(slice(None), *box.slices)], valid[box.slices]

    return read


def stream_with_probabilities(
    member: SceneNetwork, shape: tuple[int, ...], labels: LabelTable, sink: Rows, probabilities: Rows
) -> None:
    stream([member], shape, labels, sink, extra=[ExtraBands(probability_bands, probabilities)])


CASES = [
    ((23, 17), (8, 6), 0.5, 1),
    ((23, 17), (8, 6), 0.3, 5),  # batches that run on into the next row of windows
    ((5, 31), (8, 8), 0.5, 2),  # lower than the window
    ((19, 4), (6, 9), 0.25, 3),  # narrower
    ((3, 4), (8, 7), 0.5, 2),
    ((29,), (7,), 0.5, 2),
    ((11, 9, 10), (4, 6, 5), 0.5, 3),
]


@pytest.mark.parametrize(("shape", "window", "overlap", "batch"), CASES)
def test_equals_the_decision_in_memory_wherever_a_run_goes_on(
    shape: tuple[int, ...], window: tuple[int, ...], overlap: float, batch: int
) -> None:
    image, valid = scene(shape)
    tiling, net = Tiling(window, overlap, batch), network(len(shape))
    logits = tiling.logits(torch.from_numpy(image), net)
    expected = np.where(valid, TABLE.to_saved(decide(logits, TABLE).numpy()), 255)
    prob = np.where(valid, (logits.softmax(0) * 254).round().numpy(), 255)
    for first in range(shape[0] + 1):
        sink, probabilities = Rows(shape), Rows(shape, 3)
        sink.append(np.full((1, first, *shape[1:]), 7, np.uint8))
        probabilities.append(np.full((3, min(first + 2, shape[0]), *shape[1:]), 8, np.uint8))  # was ahead when killed
        stream_with_probabilities(SceneNetwork(reader(image, valid), tiling, net), shape, TABLE, sink, probabilities)
        assert (sink.kept[0, :first] == 7).all()
        np.testing.assert_array_equal(sink.kept[0, first:], expected[first:])
        np.testing.assert_allclose(probabilities.kept[:, first:].astype(int), prob[:, first:], atol=1)
        assert (probabilities.kept[:, first:] == 255).all(axis=0).tolist() == (~valid[first:]).tolist()


@pytest.mark.parametrize(("shape", "window", "overlap", "batch"), CASES)
def test_slabs_from_any_row_are_those_of_a_whole_run_to_the_last_bit(
    shape: tuple[int, ...], window: tuple[int, ...], overlap: float, batch: int
) -> None:
    image, valid = scene(shape, holes=False)
    tiling, net = Tiling(window, overlap, batch), network(len(shape))
    whole = tiling.logits(torch.from_numpy(image), net)
    for first in range(shape[0]):
        tiles = {"window": window, "overlap": overlap, "batch_size": batch, "first": first}
        boxes = [box for boxes in window_batches(shape, **tiles) for box in boxes]
        with tiling.running(net, torch.device("cpu")) as run, Strip(reader(image, valid), shape, boxes) as strip:
            given = list(slabs(strip.window, shape, run, **tiles))
        assert [row for row, _ in given][:1] == [first]
        assert torch.equal(torch.cat([rows for _, rows in given], dim=1), whole[:, first:])


@given(
    st.lists(st.integers(1, 14), min_size=1, max_size=3), st.integers(2, 6), st.sampled_from([0.0, 0.3, 0.5, 0.75]),
    st.integers(1, 5), st.integers(0, 13),
)  # fmt: skip
def test_identity_network_returns_the_image_without_a_seam(
    shape: list[int], edge: int, overlap: float, batch: int, first: int
) -> None:
    shape_, first = tuple(shape), min(first, shape[0] - 1)
    image, valid = scene(shape_, holes=False)
    tiles = {"window": [edge + axis for axis in range(len(shape))], "overlap": overlap, "batch_size": batch}
    boxes = [box for boxes in window_batches(shape_, **tiles, first=first) for box in boxes]
    with Strip(reader(image, valid), shape_, boxes) as strip:
        rows = torch.cat([r for _, r in slabs(strip.window, shape_, lambda n: n, **tiles, first=first)], dim=1)
    torch.testing.assert_close(rows, torch.from_numpy(image[:, first:]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "window", "overlap", "batch"), CASES)
def test_every_cell_is_read_once(shape: tuple[int, ...], window: tuple[int, ...], overlap: float, batch: int) -> None:
    asked: list[Box] = []
    image, valid = scene(shape)
    stream(
        [SceneNetwork(reader(image, valid, asked), Tiling(window, overlap, batch), network(len(shape)))],
        shape,
        TABLE,
        Rows(shape),
    )
    counts = np.zeros(shape, int)
    for box in asked:
        counts[box.slices] += 1
    assert (counts == 1).all()


def test_unread_boxes_by_hand_when_a_run_goes_on_in_the_middle_of_a_row_of_windows() -> None:
    windows = [Box((0, 4), (4, 8)), Box((2, 0), (6, 4)), Box((2, 4), (6, 8))]
    found = [(box.start, box.stop) for box in unread_boxes(windows, (6, 8))]
    assert found == [((0, 0), (4, 8)), ((4, 0), (6, 4)), ((4, 4), (6, 8))]


def test_regions_are_decided_and_their_probabilities_are_sigmoids() -> None:
    shape = (9, 8)
    image, valid = scene(shape, holes=False)
    tiling, net = Tiling((4, 4)), network(2, outputs=2)
    sink, probabilities = Rows(shape), Rows(shape, 2)
    stream_with_probabilities(SceneNetwork(reader(image, valid), tiling, net), shape, REGIONS, sink, probabilities)
    logits = tiling.logits(torch.from_numpy(image), net)
    assert set(np.unique(sink.kept)) == {0, 1, 2}
    np.testing.assert_array_equal(sink.kept[0], decide(logits, REGIONS).numpy())
    np.testing.assert_array_equal(probabilities.kept, (logits.sigmoid() * 254).round().numpy())


def test_windows_without_a_valid_cell_skip_the_network() -> None:
    class Counting(nn.Module):
        calls = 0

        def forward(self, image: Tensor) -> Tensor:
            self.calls += len(image)
            return torch.cat([image[:, :1], image[:, :1] + 1, image[:, :1]], dim=1)

    image, valid = np.zeros((1, 24, 24), np.float32), np.zeros((24, 24), bool)
    net, sink = Counting(), Rows((24, 24))
    stream([SceneNetwork(reader(image, valid), Tiling((8, 8), 0.0), net)], (24, 24), TABLE, sink)
    assert net.calls == 0
    assert (sink.kept == 255).all()
    valid[10, 3] = True
    sink = Rows((24, 24))
    stream([SceneNetwork(reader(image, valid), Tiling((8, 8), 0.0), net)], (24, 24), TABLE, sink)
    assert net.calls == 1
    assert np.argwhere(sink.kept[0] != 255).tolist() == [[10, 3]]
    assert sink.kept[0, 10, 3] == 4


def test_slabs_without_an_image_need_the_number_of_logits() -> None:
    with pytest.raises(ValueError, match="give n_outputs to slabs"):
        list(slabs(lambda box: None, (8, 8), lambda n: n, window=(4, 4)))
    empty = list(slabs(lambda box: None, (8, 6), lambda n: n, window=(4, 4), n_outputs=2))
    assert sum(rows.shape[1] for _, rows in empty) == 8
    assert all(rows.shape[0] == 2 and not rows.any() for _, rows in empty)


def test_memory_is_the_rows_of_a_window_and_a_few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, window = (200, 30), (10, 8)
    image, valid = scene(shape, holes=False)
    largest: list[int] = []
    zeros, made = Tensor.new_zeros, torch.zeros

    def spied(self: Tensor, size: Any, **given: Any) -> Tensor:
        largest.append(int(size[-2]))
        return zeros(self, size, **given)

    def spied_image(size: Any, **given: Any) -> Tensor:
        largest.append(int(size[-2]))
        return made(size, **given)

    monkeypatch.setattr(Tensor, "new_zeros", spied)
    monkeypatch.setattr(torch, "zeros", spied_image)
    lead, alive, done = [], [], [0]
    asked: list[Box] = []
    masks: list[weakref.ref[np.ndarray]] = []

    def read(box: Box) -> tuple[np.ndarray, np.ndarray]:
        cells, mask = reader(image, valid, asked)(box)
        mask = mask.copy()
        masks.append(weakref.ref(mask))
        return cells, mask

    def told(rows: int) -> None:
        done[0] = rows
        lead.append(max(box.stop[0] for box in asked) - rows)
        alive.append(sum(mask() is not None for mask in masks))

    stream([SceneNetwork(read, Tiling(window), network(2))], shape, TABLE, Rows(shape), on_rows=told)
    assert set(largest) == {10}
    assert done == [200]
    assert max(alive) <= 4 * len(window_starts(30, 8, 0.5)), "of four rows of windows at most"
    assert max(lead) <= 2 * 10, "what is read lies no further ahead than the window below"
    assert max(np.prod(box.shape) for box in asked) <= np.prod(window)


def test_reading_happens_in_a_thread_of_its_own_and_its_error_comes_through() -> None:
    image, valid = scene((40, 8))
    threads = set()

    def read(box: Box) -> tuple[np.ndarray, np.ndarray]:
        threads.add(threading.current_thread().name)
        if box.stop[0] > 20:
            raise OSError("cut short")
        return reader(image, valid)(box)

    sink = Rows((40, 8))
    with pytest.raises(OSError, match="cut short"):
        stream([SceneNetwork(read, Tiling((8, 8)), network(2))], (40, 8), TABLE, sink)
    assert len(threads) == 1
    assert threading.current_thread().name not in threads
    assert not any(thread.name in threads for thread in threading.enumerate())
    assert 0 < sink.rows_done < 20


class Mean(nn.Module):
    """The mean over the neighbours within its margin, and its negative."""

    margin = (2, 1)

    def forward(self, image: Tensor) -> Tensor:
        mean = nn.functional.avg_pool2d(image[:, :1], (5, 3), stride=1)
        return torch.cat([mean, -mean, mean - 0.1], dim=1)


@pytest.mark.parametrize(
    ("shape", "window", "batch"), [((23, 17), (12, 8), 1), ((23, 17), (12, 8), 5), ((4, 5), (12, 8), 2)]
)
@pytest.mark.parametrize("stop", [0, 7])
def test_a_network_with_a_margin_streams_as_in_memory_wherever_a_run_goes_on(
    shape: tuple[int, int], window: tuple[int, int], batch: int, stop: int
) -> None:
    image, valid = scene(shape, holes=False)
    tiling = Tiling(window, batch_size=batch)
    sink = Rows(shape)
    expected = TABLE.to_saved(decide(tiling.logits(torch.from_numpy(image), Mean()), TABLE).numpy())
    sink.kept = expected[None, :stop].astype(np.uint8)
    stream([SceneNetwork(reader(image, valid), tiling, Mean())], shape, TABLE, sink)
    assert np.array_equal(sink.kept[0], expected)
