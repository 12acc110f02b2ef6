import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import resample_abs_pos_embed, resample_abs_pos_embed_nhwc
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple
from torch.nn import functional

from medseg.weights.positions import (
    ABSOLUTE,
    ALONG_AXIS,
    COMPUTED,
    TABLE,
    Grids,
    absolute,
    along_axis,
    known,
    resample,
    table,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("old, new", [((14, 14), (7, 9)), ((4, 6), (8, 8)), ((8, 2), (4, 4))])
def test_absolute_equals_timm(old, new, prefix):
    values = drawn(1, prefix + old[0] * old[1], 12)
    own = drawn(1, prefix + new[0] * new[1], 12, seed=1)
    moved, note = absolute(values, own, Grids(grid=new, trained=old), (2, 2))
    assert torch.equal(moved, resample_abs_pos_embed(values, list(new), list(old), num_prefix_tokens=prefix))
    assert note == f"positions {old[0]}x{old[1]} -> {new[0]}x{new[1]}"


def test_squares_are_the_last_resort_and_told():
    values, own = drawn(1, 1 + 16, 8), drawn(1, 1 + 36, 8)
    moved, note = absolute(values, own, Grids(), (2, 2))
    assert torch.equal(moved, resample_abs_pos_embed(values, [6, 6]))
    assert note == "positions 4x4 (taken as square) -> 6x6 (taken as square)"
    moved, note = absolute(values, own, Grids(grid=(4, 9)), (2, 2))
    assert torch.equal(moved, resample_abs_pos_embed(values, [4, 9]))
    assert note == "positions 4x4 (taken as square) -> 4x9"


@pytest.mark.parametrize("file, own", [(16, 15), (196, 20), (197, 20), (196, 21), (15, 16), (197, 60)])
def test_no_far_fetched_squares(file, own):
    # 20 = 4 + 4 x 4 and 21 = 5 + 4 x 4 may be registers, or 4 x 5 and 3 x 7 cells: nobody knows.
    assert absolute(drawn(1, file, 8), drawn(1, own, 8), Grids(), (2, 2)) is None


def test_the_same_number_moves_only_if_both_grids_are_told():
    values, own = drawn(1, 17, 8), drawn(1, 17, 8)
    assert absolute(values, own, Grids(), (2, 2)) is None
    assert absolute(values, own, Grids(grid=(2, 8)), (2, 2)) is None
    moved, note = absolute(values, own, Grids(grid=(2, 8), trained=(4, 4)), (2, 2))
    assert torch.equal(moved, resample_abs_pos_embed(values, [2, 8], [4, 4]))
    assert note == "positions 4x4 -> 2x8"
    assert table(drawn(15, 2), drawn(15, 2), Grids(window=(2, 3)), (2, 2)) is None
    assert table(drawn(15, 2), drawn(15, 2), Grids(window=(2, 3), trained_window=(3, 2)), (2, 2)) is not None


def test_grids_are_read_from_networks_of_timm_and_monai():
    import timm
    from monai.networks.nets.swin_unetr import WindowAttention

    net = timm.create_model("test_vit", pretrained=False, img_size=(32, 64))
    told = Grids(grid=(1, 1), trained=(3, 3), window=(9, 9))
    assert known(net, "pos_embed", told) == Grids((2, 4), (3, 3), (9, 9))
    wrapped = torch.nn.ModuleDict({"net": net})
    assert known(wrapped, "net.pos_embed", Grids()).grid == (2, 4)
    attention = WindowAttention(8, 2, (2, 3, 4), True)
    assert known(attention, "relative_position_bias_table", Grids()).window == (2, 3, 4)
    assert known(net, "blocks.0.norm1.weight", told) == told
    assert known(net, "no.such.module", told) == told


def test_prefix_tokens_keep_their_values():
    values, own = drawn(1, 5 + 16, 8), drawn(1, 5 + 25, 8)
    moved, _ = absolute(values, own, Grids(), (2, 2))
    assert torch.equal(moved[:, :5], values[:, :5])


def test_prefix_tokens_of_one_side_only():
    with_class, without = drawn(1, 1 + 16, 8), drawn(1, 16, 8, seed=1)
    moved, note = absolute(with_class, without, Grids(), (2, 2))
    assert torch.equal(moved, with_class[:, 1:])
    assert note.endswith("1 prefix tokens -> 0")
    moved, _ = absolute(without, with_class, Grids(), (2, 2))
    assert torch.equal(moved[:, :1], with_class[:, :1]), "stays as the module has it"
    assert torch.equal(moved[:, 1:], without)
    assert absolute(drawn(1, 4 + 16, 8), drawn(1, 2 + 16, 8), Grids(trained=(4, 4), grid=(4, 4)), (2, 2)) is None


def test_tables_of_embeddings_without_batch_axis():
    values, own = drawn(17, 8), drawn(1, 26, 8)
    moved, _ = absolute(values, own, Grids(), (2, 2))
    assert torch.equal(moved, resample_abs_pos_embed(values[None], [5, 5]))


@pytest.mark.parametrize("new", [(8, 8), (3, 5)])
def test_positions_on_a_grid_equal_timm(new):
    values = drawn(1, 4, 6, 16)
    moved, note = absolute(values, drawn(1, *new, 16), Grids(), (2, 2))
    assert torch.equal(moved, resample_abs_pos_embed_nhwc(values, list(new)))
    first, _ = absolute(values.movedim(-1, 1), drawn(1, 16, *new), Grids(), (2, 2))
    assert torch.equal(first, moved.movedim(-1, 1))
    assert note == f"positions 4x6 -> {new[0]}x{new[1]}"


def test_the_width_of_a_grid_is_the_larger_length_in_common():
    values = drawn(1, 96, 7, 7)
    first, note = absolute(values, drawn(1, 96, 9, 7), Grids(), (2, 2))
    assert torch.equal(first, functional.interpolate(values, (9, 7), mode="bicubic", antialias=True))
    assert note == "positions 7x7 -> 9x7"
    _, note = absolute(drawn(1, 64, 48, 96), drawn(1, 64, 32, 96), Grids(), (2, 2))
    assert note == "positions 64x48 -> 64x32"


def test_volumes_do_not_become_images():
    assert absolute(drawn(1, 8, 5), drawn(1, 9, 5), Grids(), (3, 2)) is None
    assert table(drawn(27, 2), drawn(25, 2), Grids(), (3, 2)) is None


def test_volumes_are_trilinear():
    values = drawn(1, 2 * 3 * 4, 5)
    moved, _ = absolute(values, drawn(1, 4 * 4 * 2, 5), Grids(grid=(4, 4, 2), trained=(2, 3, 4)), (3, 3))
    expected = functional.interpolate(values.reshape(1, 2, 3, 4, 5).movedim(-1, 1), (4, 4, 2), mode="trilinear")
    assert torch.equal(moved, expected.flatten(2).transpose(1, 2))
    cube, note = absolute(drawn(1, 8, 5), drawn(1, 27, 5), Grids(), (3, 3))
    assert cube.shape == (1, 27, 5)
    assert note == "positions 2x2x2 (taken as cube) -> 3x3x3 (taken as cube)"


@pytest.mark.parametrize("new_axis", [0, -1])
def test_images_become_volumes_by_repeating(new_axis):
    values = drawn(1, 1 + 16, 8)
    grids = Grids(grid=(4, 4, 4), trained=(4, 4), new_axis=new_axis)
    moved, _ = absolute(values, drawn(1, 1 + 64, 8), grids, (2, 3))
    volume = moved[0, 1:].reshape(4, 4, 4, 8)
    for i in range(4):
        assert torch.equal(volume.select(new_axis % 3, i).reshape(16, 8), values[0, 1:])
    assert torch.equal(moved[:, :1], values[:, :1])
    grid, _ = absolute(drawn(1, 4, 4, 8), drawn(1, 2, 2, 3, 8), Grids(), (2, 3))
    assert grid.shape == (1, 2, 2, 3, 8)
    assert torch.equal(grid[..., 0, :], grid[..., 2, :])


@pytest.mark.parametrize("extra", [0, 3])
def test_table_equals_timm(extra):
    values, own = drawn(13 * 13 + extra, 4), drawn(7 * 7 + extra, 4)
    moved, note = table(values, own, Grids(), (2, 2))
    assert torch.allclose(moved, resize_rel_pos_bias_table_simple(values, (4, 4), own.shape))
    assert note == "offsets in windows of 7x7 (taken as square) -> 4x4 (taken as square)"


def test_table_of_windows_that_are_told():
    values, own = drawn(7 * 3, 2), drawn(3 * 5, 2)
    moved, note = table(values, own, Grids(window=(2, 3), trained_window=(4, 2)), (2, 2))
    expected = functional.interpolate(values.T.reshape(1, 2, 7, 3), (3, 5), mode="bicubic")
    assert torch.allclose(moved, expected.reshape(2, 15).T)
    assert note == "offsets in windows of 4x2 -> 2x3"
    assert table(values, own, Grids(), (2, 2)) is None, "21 rows are no square"


def test_table_of_monais_volumes():
    from monai.networks.nets.swin_unetr import WindowAttention

    small, large = (WindowAttention(8, 2, (w, w, w), True) for w in (2, 3))
    own = large.relative_position_bias_table
    moved, note = table(small.relative_position_bias_table.data, own.data, Grids(), (3, 3))
    assert moved.shape == own.shape == (125, 2)
    assert note == "offsets in windows of 2x2x2 (taken as cube) -> 3x3x3 (taken as cube)"
    # The offset (0, 0, 0) is the middle row of both, and linear interpolation of odd sizes keeps it.
    assert torch.allclose(moved[62], small.relative_position_bias_table[13])


def test_table_of_images_becomes_that_of_volumes():
    values = drawn(9, 2)
    moved, _ = table(values, drawn(27, 2), Grids(), (2, 3))
    assert torch.equal(moved.reshape(3, 3, 3, 2)[:, :, 1].reshape(9, 2), values)


def test_other_heads_or_width_do_not_fit():
    assert table(drawn(9, 2), drawn(25, 3), Grids(), (2, 2)) is None
    assert along_axis(drawn(9, 2), drawn(5, 3)) is None
    assert absolute(drawn(1, 16, 8), drawn(1, 25, 9), Grids(), (2, 2)) is None
    assert absolute(drawn(1, 4, 4, 8), drawn(1, 5, 5, 9), Grids(), (2, 2)) is None


def test_along_axis_is_linear_as_in_sam():
    values = drawn(27, 6)
    moved, note = along_axis(values, drawn(11, 6))
    assert torch.equal(moved, functional.interpolate(values.T[None], 11, mode="linear")[0].T)
    assert note == "offsets 27 -> 11"


@given(st.integers(1, 3), st.lists(st.integers(1, 6), min_size=3, max_size=3), st.floats(-3, 3))
def test_constants_stay_constant(ndim, shape, value):
    old = torch.full((*(4, 3, 5)[:ndim], 2), value)
    assert torch.allclose(resample(old, shape[:ndim]), torch.full((*shape[:ndim], 2), value), atol=1e-5)


@given(st.lists(st.integers(1, 6), min_size=3, max_size=3))
def test_the_same_grid_changes_nothing(shape):
    values = drawn(*shape, 2)
    assert torch.equal(resample(values, shape), values)


def test_half_precision_is_resampled_in_single():
    values = drawn(1, 16, 8)
    half, _ = absolute(values.half(), drawn(1, 36, 8), Grids(), (2, 2))
    single, _ = absolute(values.half().float(), drawn(1, 36, 8), Grids(), (2, 2))
    assert half.dtype == torch.float16
    assert torch.equal(half, single.half())


@pytest.mark.parametrize(
    "name",
    ["pos_embed", "model.pos_embed", "absolute_pos_embed", "embeddings.position_embeddings", "positional_embedding",
     "embeddings.position_embedding.weight", "patch_embedding.position_embeddings", "encoder.pos_embedding",
     "pos_embed_window", "pos_embed.pos_embed"],
)  # fmt: skip
def test_names_of_absolute_positions(name):
    assert ABSOLUTE.search(name)
    assert not TABLE.search(name)


def test_names_of_relative_positions():
    assert TABLE.search("layers.0.blocks.1.attn.relative_position_bias_table")
    assert ALONG_AXIS.search("blocks.3.attn.rel_pos_h")
    assert COMPUTED.search("layers.0.blocks.1.attn.relative_position_index")
    assert COMPUTED.search("layers.0.blocks.1.attn_mask")
    for name in ("pos_block.0.proj.weight", "patch_embed.proj.weight", "exposure_embedding.weight", "rel_pos_embed.x"):
        assert not ABSOLUTE.search(name)
