import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from medseg.errors import InputError
from medseg.inference.sliding_window import gaussian_weight, sliding_window, window_starts


@given(st.integers(1, 60), st.integers(1, 20), st.floats(0, 0.9))
def test_windows_cover_the_axis_with_the_overlap_asked_for(size: int, window: int, overlap: float) -> None:
    starts = window_starts(size, window, overlap)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    if size > window:
        assert starts[-1] == size - window
        largest = max(1, int(window * (1 - overlap)))
        assert all(b - a <= largest for a, b in itertools.pairwise(starts))


def test_starts_by_hand() -> None:
    assert window_starts(10, 4, 0.5) == [0, 2, 4, 6]
    assert window_starts(11, 4, 0.5) == [0, 2, 4, 5, 7]  # four steps of 7/4, rounded
    assert window_starts(3, 4, 0.5) == [0]


@given(
    st.lists(st.integers(1, 13), min_size=1, max_size=3),
    st.integers(2, 6),
    st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    st.integers(1, 4),
)
def test_identity_network_returns_its_input(shape: list[int], edge: int, overlap: float, batch_size: int) -> None:
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(len(shape)))
    window = [edge + axis for axis in range(len(shape))]
    same = sliding_window(image, lambda patch: patch, window=window, overlap=overlap, batch_size=batch_size)
    torch.testing.assert_close(same, image, rtol=1e-5, atol=1e-6)


def test_every_call_has_the_window_shape_and_at_most_the_batch() -> None:
    seen = []

    def network(patch: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(patch.shape))
        return patch[:, :1]

    sliding_window(torch.zeros(3, 9, 4), network, window=(4, 6), batch_size=3)
    assert {shape[1:] for shape in seen} == {(3, 4, 6)}
    assert sum(shape[0] for shape in seen) == len(window_starts(9, 4, 0.5))
    assert max(shape[0] for shape in seen) <= 3


def test_blend_by_hand_on_one_axis() -> None:
    calls = iter([1.0, 3.0])

    def network(patch: torch.Tensor) -> torch.Tensor:
        return torch.full_like(patch, next(calls))

    weight = gaussian_weight((4,))
    blended = sliding_window(torch.zeros(1, 6), network, window=(4,), overlap=0.5)[0]
    expected = (weight[2] * 1 + weight[0] * 3) / (weight[2] + weight[0])
    torch.testing.assert_close(blended[2], expected)
    assert blended[0] == pytest.approx(1.0)
    assert blended[5] == pytest.approx(3.0)


def test_sums_are_float32_under_half_precision() -> None:
    image = torch.ones(1, 8, 8)
    half = sliding_window(image, lambda patch: patch.bfloat16(), window=(4, 4))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, image)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"window \(4,\) has 1 axes, the image \(8, 8\) has 2"):
        sliding_window(torch.zeros(1, 8, 8), lambda patch: patch, window=(4,))
    with pytest.raises(InputError, match=r"inference.overlap=1.0 is out of range"):
        sliding_window(torch.zeros(1, 8), lambda patch: patch, window=(4,), overlap=1.0)


@given(st.lists(st.integers(1, 13), min_size=1, max_size=3), st.integers(2, 6), st.sampled_from([0.0, 0.25, 0.5]))
def test_a_network_with_a_margin_sees_beyond_each_window_and_zeros_beyond_the_image(
    shape: list[int], edge: int, overlap: float
) -> None:
    """A mean over neighbours within the margin is that of the whole image with zeros around it."""
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(sum(shape)))
    pool = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[len(shape)]
    margin = [1 + axis % 2 for axis in range(len(shape))]
    kernel = [2 * m + 1 for m in margin]

    def mean(batch: torch.Tensor) -> torch.Tensor:
        return pool(batch, kernel, stride=1)

    around = functional.pad(image, [n for m in reversed(margin) for n in (m, m)])
    found = sliding_window(image, mean, window=[edge] * len(shape), overlap=overlap, margin=margin)
    torch.testing.assert_close(found, mean(around[None])[0], rtol=1e-5, atol=1e-6)
