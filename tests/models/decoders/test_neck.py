"""The neck beside shapes worked by hand, and beside a pyramid whose kernels only copy."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.decoders.neck import Neck, to_grid
from medseg.models.encoders.encoder import Feature

HALF = Fraction(7, 2)


def pyramid(features: list[Feature], shape: tuple[int, ...]) -> tuple[Neck, list[Tensor]]:
    """A neck that is asked for a pyramid, and what it makes of noise."""
    torch.manual_seed(0)
    neck = Neck(features, "pyramid")
    given = []
    for feature in features:
        grid = [int(s // d) for s, d in zip(shape, feature.stride, strict=True)]
        n = int(torch.tensor(grid).prod())
        size = (2, feature.prefix + n, feature.channels) if feature.tokens else (2, feature.channels, *grid)
        given.append(torch.randn(size))
    return neck, neck(given, shape)


@pytest.mark.parametrize(
    "stride, n, shape, strides, grids",
    [
        ((16, 16), 4, (96, 64), [(4, 4), (8, 8), (16, 16), (32, 32)], [(24, 16), (12, 8), (6, 4), (3, 2)]),
        ((16, 16), 3, (96, 64), [(8, 8), (16, 16), (32, 32)], [(12, 8), (6, 4), (3, 2)]),
        ((16, 16), 2, (96, 64), [(16, 16), (32, 32)], [(6, 4), (3, 2)]),
        ((8, 8), 4, (64, 32), [(2, 2), (4, 4), (8, 8), (16, 16)], [(32, 16), (16, 8), (8, 4), (4, 2)]),
        ((4, 4), 4, (64, 32), [(2, 2), (4, 4), (8, 8), (16, 16)], [(32, 16), (16, 8), (8, 4), (4, 2)]),
        ((14, 14), 4, (518, 70), [(HALF, HALF), (7, 7), (14, 14), (28, 28)], [(148, 20), (74, 10), (37, 5), (19, 3)]),
        (
            (4, 16, 16), 4, (16, 64, 32), [(2, 4, 4), (2, 8, 8), (4, 16, 16), (8, 32, 32)],
            [(8, 16, 8), (8, 8, 4), (4, 4, 2), (2, 2, 1)],
        ),
        (
            (1, 16, 16), 4, (5, 32, 32), [(1, 4, 4), (1, 8, 8), (1, 16, 16), (1, 32, 32)],
            [(5, 8, 8), (5, 4, 4), (5, 2, 2), (5, 1, 1)],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", [None, 0, 5])
def test_tokens_of_one_stride_become_a_pyramid(
    stride: tuple[int, ...],
    n: int,
    shape: tuple[int, ...],
    strides: list[tuple[int, ...]],
    grids: list[tuple[int, ...]],
    prefix: int | None,
) -> None:
    given = [Feature(8, stride, tokens=prefix is not None, prefix=prefix or 0)] * n
    neck, levels = pyramid(given, shape)
    assert [f.stride for f in neck.features] == strides
    assert [tuple(level.shape) for level in levels] == [(2, 8, *grid) for grid in grids]
    assert not any(f.tokens or f.prefix for f in neck.features)


def test_a_pyramid_of_the_encoder_is_passed_on() -> None:
    features = [Feature(4, (1, 2, 2)), Feature(6, (2, 4, 4)), Feature(8, (2, 8, 8))]
    neck, levels = pyramid(features, (4, 16, 16))
    assert neck.features == tuple(features)
    assert [tuple(level.shape[2:]) for level in levels] == [(4, 8, 8), (2, 4, 4), (2, 2, 2)]
    assert list(neck.parameters()) == []


def test_finer_levels_copy_and_coarser_ones_take_the_largest() -> None:
    """With kernels that copy, a transposed convolution repeats each cell; the oracle is ``repeat_interleave``."""
    neck = Neck([Feature(2, (4, 4))] * 3, "pyramid")
    with torch.no_grad():
        for module in neck.modules():
            if isinstance(module, nn.ConvTranspose2d):
                module.weight.copy_(torch.eye(2)[:, :, None, None].expand(2, 2, 2, 2))
                module.bias.zero_()
        grid = torch.arange(24.0).reshape(1, 2, 3, 4)
        fine, same, coarse = neck([grid] * 3, (12, 16))
    assert torch.equal(fine, grid.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.equal(same, grid)
    assert torch.equal(coarse[0, 0], torch.tensor([[5.0, 7.0], [9.0, 11.0]]))  # the third row is pooled by itself


def test_two_steps_up_have_the_layers_of_the_simple_feature_pyramid() -> None:
    first = Neck([Feature(8, (16, 16))] * 4, "pyramid").levels[0]
    assert [type(layer).__name__ for layer in first] == ["ConvTranspose2d", "CellNorm", "GELU", "ConvTranspose2d"]


def test_grids_are_left_at_their_strides() -> None:
    neck = Neck([Feature(3, (14, 14), tokens=True, prefix=1)] * 2, "grids")
    grids = neck([torch.randn(1, 1 + 6, 3)] * 2, (28, 42))
    assert [f.stride for f in neck.features] == [(14, 14)] * 2
    assert [tuple(g.shape) for g in grids] == [(1, 3, 2, 3)] * 2


def test_tokens_stand_where_they_were_in_the_image_in_three_dimensions_too() -> None:
    feature = Feature(1, (2, 2, 4), tokens=True, prefix=2)
    tokens = torch.arange(-2.0, 2 * 3 * 2).reshape(1, -1, 1)
    assert torch.equal(to_grid(tokens, feature, (4, 6, 8)), torch.arange(12.0).reshape(1, 1, 2, 3, 2))


@pytest.mark.parametrize(
    "strides, line",
    [
        (
            [(8, 8), (4, 4)],
            r"got features of strides \['8 x 8', '4 x 4'\], expected each coarser than the one before it",
        ),
        ([(4, 4), (8, 8), (8, 8)], "expected each coarser"),
        ([(4, 8), (8, 4)], "expected each coarser"),
        ([(16, 16)] * 7, "7 features of stride 16 x 16 can't become a pyramid; ask the encoder for 6 or fewer"),
        ([(2, 2)] * 4, "ask the encoder for 3 or fewer"),
    ],
)
def test_strides_that_make_no_pyramid_are_refused(strides: list[tuple[int, ...]], line: str) -> None:
    with pytest.raises(InputError, match=line):
        Neck([Feature(2, stride) for stride in strides], "pyramid")
    Neck([Feature(2, stride) for stride in strides], "grids")  # whoever takes any grids takes these
