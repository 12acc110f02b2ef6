from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.inference.postprocess import PostProcess
from medseg.inference.predictor import Predictor, Tiling
from medseg.labels import LabelTable
from medseg.sample import Channel, DataSpec, Sample

TABLE = LabelTable.declare({"background": 0, "left": 4, "right": 300}, pairs=[["left", "right"]])
SHAPE = (5, 6, 7)
_TURN = Rotation.from_euler("zyx", [25, -15, 35], degrees=True).as_matrix()
ORIENTATIONS = [
    np.eye(3)[list(order)] * signs for order in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)
]


class Levels(nn.Module):
    """Recognises 0, 1 and 2 by their intensity; a cell at a time, so that geometry is all that can go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.calls.append(tuple(image.shape))
        return -((image[:, :1] - torch.arange(3.0).view(1, 3, *[1] * (image.ndim - 2))) ** 2)


class Halves(nn.Module):
    """Calls the first half of the window left and the second half right: all it knows is where a cell lies."""

    def forward(self, image: Tensor) -> Tensor:
        half = image.shape[2] // 2
        logits = torch.zeros(len(image), 3, *image.shape[2:])
        logits[:, 1, :half], logits[:, 2, half:] = 1, 1
        return logits


def predictor(
    network: nn.Module, *, spacing: Sequence[float] = (1.0, 1.0, 1.0), window: Sequence[int] = (4, 4, 4),
    channels: int = 1, tiling: dict[str, Any] | None = None,
) -> Predictor[Preprocess]:  # fmt: skip
    spec = DataSpec(tuple(Channel(f"c{i}") for i in range(channels)), TABLE, len(spacing))
    prepare = Preprocess(tuple(spacing), (Normalisation("none"),) * channels)
    return Predictor(network, prepare=prepare, tiling=Tiling(tuple(window), **(tiling or {})), spec=spec)


def affine(linear: np.ndarray, origin: Sequence[float] = (12.0, -7.5, 300.25)) -> np.ndarray:
    return np.block([[linear, np.array(origin)[:, None]], [np.zeros(3), 1]])


@pytest.fixture
def index() -> np.ndarray:
    """Classes without any symmetry, inside a border of zeros that is cropped off."""
    index = np.random.default_rng(0).integers(0, 3, SHAPE)
    index[0], index[:, -2:] = 0, 0
    return index


SAVED = np.array([0, 4, 300], dtype=np.uint16)


class Diverged(Levels):
    """Has weights of NaN."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) * float("nan")


def test_network_that_is_not_finite_is_named_and_not_the_data() -> None:
    grid = Grid(SHAPE, affine(np.eye(3)), "ras_mm")
    with pytest.raises(InputError, match=r"case array: the network gives values that are not finite.*diverged"):
        predictor(Diverged(), spacing=(2.0, 2.0, 2.0))(np.ones((1, *SHAPE), np.float32), grid)


@pytest.mark.parametrize("linear", [*ORIENTATIONS, _TURN, _TURN[:, [2, 0, 1]], _TURN * (1, -1, 1)])
def test_label_lies_on_the_very_cells_of_the_image(linear: np.ndarray, index: np.ndarray) -> None:
    found = predictor(Levels())(index.astype(np.float32), Grid(SHAPE, affine(linear)))
    np.testing.assert_array_equal(found, SAVED[index])
    assert found.dtype == np.uint16


def test_resampling_is_undone() -> None:
    """A ball at 1 x 1 x 2.5 mm through a network that works at 1.3 mm: off by less than a cell of its border."""
    grid = Grid((30, 28, 12), affine(np.diag([-1, 1, 2.5]), (15, -14, -15)))
    cells = np.argwhere(np.ones(grid.shape, bool))
    ball = (np.linalg.norm(grid.to_world(cells), axis=1) < 9).reshape(grid.shape)
    found = predictor(Levels(), spacing=(1.3, 1.3, 1.3), window=(16, 16, 16))(2.0 * ball + 0.001, grid) == 300
    assert found.shape == grid.shape
    assert 2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.93
    centre = grid.to_world(np.argwhere(found)).mean(axis=0)
    np.testing.assert_allclose(centre, grid.to_world(np.argwhere(ball)).mean(axis=0), atol=0.15)


@pytest.mark.parametrize("linear", [*ORIENTATIONS[::7], _TURN])
def test_right_is_the_right_of_the_patient(linear: np.ndarray) -> None:
    shape = (8, 8, 8)
    grid = Grid(shape, affine(linear))
    found = predictor(Halves(), window=shape)(np.ones(shape, np.float32), grid)
    axes, flips = grid.canonical()
    lateral = grid.to_world(np.argwhere(np.ones(shape, bool))) @ grid.reorient(axes, flips).affine[:3, 0]
    order = (lateral > np.median(lateral)).reshape(shape)
    np.testing.assert_array_equal(found, np.where(order, 300, 4))


def test_flips_average_mirrored_images_and_exchange_sides_back() -> None:
    shape, image = (8, 8, 8), np.ones((8, 8, 8), np.float32)
    grid = Grid.regular(shape, (1, 1, 1))
    plain = predictor(Halves(), window=shape)(image, grid)
    sided = {"flip_axes": (0, 1, 2), "lateral_axis": 0, "swap": TABLE.mirror_outputs()}
    np.testing.assert_array_equal(predictor(Halves(), window=shape, tiling=sided)(image, grid), plain)
    confused = predictor(Halves(), window=shape, tiling={"flip_axes": (0,)})(image, grid)
    assert (confused == 4).all(), "left and right tie everywhere; the lower index is taken"
    network = Levels()
    predictor(network, window=shape, tiling=sided)(image, grid)
    assert len(network.calls) == 8


def test_windows_are_of_the_tiling_and_batched() -> None:
    network = Levels()
    predictor(network, window=(4, 6, 4), tiling={"batch_size": 2})(
        np.ones((8, 3, 4), np.float32), Grid.regular((8, 3, 4), (1, 1, 1))
    )
    assert network.calls == [(2, 1, 4, 6, 4), (1, 1, 4, 6, 4)]  # three windows along axis 0; axis 1 is padded


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_cells_become_background_and_spoil_nothing(value: float, index: np.ndarray) -> None:
    image = index.astype(np.float32)
    bad = np.zeros(SHAPE, bool)
    bad[2:4, 1, 3], bad[4, 0, 0] = True, True
    image[bad] = value
    found = predictor(Levels())(image, Grid.regular(SHAPE, (1, 1, 1)))
    np.testing.assert_array_equal(found, np.where(bad, 0, SAVED[index]))


def test_nonfinite_cells_are_background_whatever_the_network_says() -> None:
    """The network calls every cell left or right, and works at another spacing, over which a NaN would spread."""
    image = np.ones((8, 8, 8), np.float32)
    image[2:5, 3, 1:6] = np.nan
    found = predictor(Halves(), spacing=(0.8, 0.8, 0.8), window=(10, 10, 10))(image, Grid.regular((8, 8, 8), (1, 1, 1)))
    expected = np.full(image.shape, 300)
    expected[:4] = 4
    np.testing.assert_array_equal(found, np.where(np.isnan(image), 0, expected))


class Bright(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(image), image - 0.5, torch.zeros_like(image)], dim=1)


def test_nonfinite_cells_do_not_spread_when_resampled() -> None:
    image = np.ones((8, 8, 8), np.float32)
    image[4, 4, 4] = np.nan
    made = predictor(Bright(), spacing=(0.8, 0.8, 0.8), window=(10, 10, 10))
    found = made(image, Grid.regular((8, 8, 8), (1, 1, 1)))
    assert (found[0] == 4).all()
    assert (found == 4).sum() > 8**3 - 3**3


def test_a_cell_counts_only_if_all_its_channels_are_finite(index: np.ndarray) -> None:
    image = np.stack([index, index]).astype(np.float32)
    image[1, 3, 3, 3] = np.nan
    found = predictor(Levels(), channels=2)(image, Grid.regular(SHAPE, (1, 1, 1)))
    expected = SAVED[index]
    expected[3, 3, 3] = 0
    np.testing.assert_array_equal(found, expected)


def test_image_that_does_not_fit_is_refused() -> None:
    grid = Grid.regular(SHAPE, (1, 1, 1))
    with pytest.raises(InputError, match=r"image of shape \(1, 5, 6, 8\) with a grid of shape \(5, 6, 7\)"):
        predictor(Levels())(np.zeros((5, 6, 8), np.float32), grid)
    with pytest.raises(InputError, match=r"got an image with 2 channels, the network takes 1: \['c0'\]"):
        predictor(Levels())(np.zeros((2, *SHAPE), np.float32), grid)


def test_the_network_is_judged_in_evaluation_and_goes_on_in_training(index: np.ndarray) -> None:
    network = nn.Sequential(Levels(), nn.Dropout(0.5)).train()
    image = torch.from_numpy(index[None].astype(np.float32))
    logits = Tiling((4, 4, 4)).logits(image, network)
    assert network.training
    assert not logits.requires_grad
    torch.testing.assert_close(logits, Tiling((4, 4, 4)).logits(image, Levels()))


def test_half_precision_blends_in_float32(index: np.ndarray) -> None:
    network = nn.Conv3d(1, 3, 1)
    image = torch.from_numpy(index[None].astype(np.float32))
    exact, half = (Tiling((4, 4, 4), precision=p).logits(image, network) for p in ("fp32", "bf16"))
    assert half.dtype == torch.float32
    assert not torch.equal(exact, half)
    torch.testing.assert_close(exact, half, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("linear", ORIENTATIONS[::11])
def test_probabilities_lie_on_the_very_cells_and_agree_with_the_index(linear: np.ndarray, index: np.ndarray) -> None:
    sample = Sample(index[None].astype(np.float32), None, np.ones(SHAPE, bool), Grid(SHAPE, affine(linear)), "a", "a")
    made = predictor(Levels())
    found, prob = made.index_and_prob(sample)
    np.testing.assert_array_equal(found, made.index(sample))
    exact = np.exp(-((np.arange(3)[:, None] - np.arange(3)) ** 2))
    expected = (exact / exact.sum(axis=0))[:, index]
    inside = np.zeros(SHAPE, bool)
    inside[1:, :-2] = True
    np.testing.assert_allclose(prob[:, inside], expected[:, inside], rtol=1e-5)
    np.testing.assert_array_equal(prob[:, ~inside].T, np.broadcast_to([1, 0, 0], ((~inside).sum(), 3)))


def test_probabilities_of_regions_do_not_exclude_each_other(index: np.ndarray) -> None:
    nested = LabelTable.declare({"background": 0, "a": [1, 2, 3], "b": [2, 3], "c": 3}, regions_class_order=[1, 2, 3])
    made = predictor(Levels())
    made.spec = replace(made.spec, labels=nested)
    grid = Grid.regular(SHAPE, (1, 1, 1))
    _, prob = made.index_and_prob(Sample(index[None].astype(np.float32), None, np.ones(SHAPE, bool), grid, "a", "a"))
    exact = 1 / (1 + np.exp((np.arange(3)[:, None] - np.arange(3)) ** 2))
    np.testing.assert_allclose(prob[:, 1:, :-2], exact[:, index[1:, :-2]], rtol=1e-5)
    assert (prob[:, 0] == 0).all(), "what is cropped away is of no region"


def test_two_dimensions() -> None:
    index = np.random.default_rng(1).integers(0, 3, (9, 11))
    grid = Grid.regular(index.shape, (1, 1), frame="pixel")
    found = predictor(Levels(), spacing=(1.0, 1.0), window=(4, 5))(index.astype(np.float32), grid)
    np.testing.assert_array_equal(found, SAVED[index])


def test_post_processing_leaves_cells_that_are_not_valid_as_they_are() -> None:
    """A hole of cells without data is not filled, and what is next to it neither: it may be open there."""
    filling = predictor(Levels())
    filling.postprocess = PostProcess.from_list([{"step": "fill_holes", "classes": ["left"]}], TABLE)
    index = np.ones((3, 8, 3), dtype=np.int64)
    index[1, 1:3, 1] = index[1, 5:7, 1] = 0
    valid = np.ones(index.shape, dtype=bool)
    valid[1, 1, 1] = False
    shape, unit = (9, 10, 9), np.ones((9, 10, 9), dtype=np.int64)
    unit[3:6, 1:9, 3:6] = index
    known = np.ones(shape, dtype=bool)
    known[3:6, 1:9, 3:6] = valid
    finished = filling.finished(unit, known, Grid(shape, np.eye(4)))
    assert np.argwhere(finished == 0).tolist() == [[4, 2, 4], [4, 3, 4]]
