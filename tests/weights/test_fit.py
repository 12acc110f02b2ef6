import pytest
import torch
from timm.layers import resample_abs_pos_embed

from medseg.sample import Channel
from medseg.weights.fit import Rules, fit, plausible
from medseg.weights.positions import Grids

RGB = tuple(Channel(n) for n in "RGB")
CT = (Channel("CT"),)


def rules(**changed):
    return Rules(**{"stems": frozenset({"stem"}), "trained": RGB, "wanted": CT} | changed)


def test_the_same_shape_is_copied():
    tensor = torch.randn(3, 4)
    found = fit("norm", torch.zeros(3, 4), tensor, rules())
    assert found.tensor is tensor
    assert found.note == ""


def test_the_same_numbers_are_reshaped():
    tensor = torch.randn(6, 4)
    found = fit("proj", torch.zeros(6, 4, 1, 1), tensor, rules())
    assert torch.equal(found.tensor[..., 0, 0], tensor)
    assert found.note == "[6, 4] -> [6, 4, 1, 1], the same numbers"
    assert fit("proj", torch.zeros(4, 6), tensor, rules()) is None


@pytest.mark.parametrize("how", ["centre", "mean"])
def test_kernels_of_images_enter_volumes(how):
    tensor = torch.randn(6, 4, 3, 3)
    found = fit("conv", torch.zeros(6, 4, 3, 3, 3), tensor, rules(inflate=how))
    assert torch.allclose(found.tensor.sum(-1), tensor, atol=1e-6)
    assert found.note.startswith("2D kernel")
    assert fit("conv", torch.zeros(6, 4, 5, 5, 5), tensor, rules()) is None
    assert fit("conv", torch.zeros(6, 5, 3, 3, 3), tensor, rules()) is None


def test_stem_of_a_volume_from_that_of_photographs():
    tensor = torch.randn(6, 3, 3, 3)
    found = fit("stem", torch.zeros(6, 1, 3, 3, 3), tensor, rules())
    assert torch.allclose(found.tensor[:, 0, ..., 1], tensor.sum(1), atol=1e-5)
    assert found.tensor[..., 0].abs().max() == 0
    assert found.note == "2D kernel centred in 3 cells of axis 2, 3 channels -> 1"
    assert found.origins == ("mean of all 3, times 3",)


def test_stem_with_the_same_channels_is_copied():
    found = fit("stem", torch.zeros(6, 3, 3, 3), torch.randn(6, 3, 3, 3), rules(wanted=RGB))
    assert found.note == ""
    turned = fit("stem", torch.zeros(6, 3, 3, 3), torch.randn(6, 3, 3, 3), rules(wanted=RGB[::-1]))
    assert turned.note == "3 channels -> 3"


def test_linear_stem_knows_where_its_channels_lie():
    patches = torch.randn(6, 3, 4)  # three channels of patches of four cells
    first = fit("stem", torch.zeros(6, 4), patches.reshape(6, 12), rules())
    last = fit("stem", torch.zeros(6, 4), patches.transpose(1, 2).reshape(6, 12), rules(stem_layout="last"))
    assert torch.allclose(first.tensor, patches.sum(1), atol=1e-6)
    assert torch.allclose(last.tensor, patches.sum(1), atol=1e-6)
    turned = fit(
        "stem", torch.zeros(6, 12), patches.transpose(1, 2).reshape(6, 12), rules(stem_layout="last", wanted=RGB[::-1])
    )
    assert torch.equal(turned.tensor, patches.flip(1).transpose(1, 2).reshape(6, 12))


def test_linear_stem_and_convolution_are_the_same():
    kernel = torch.randn(6, 3, 2, 2)
    flat = fit("stem", torch.zeros(6, 12), kernel, rules(wanted=RGB))
    assert torch.equal(flat.tensor, kernel.flatten(1))
    back = fit("stem", torch.zeros(6, 3, 2, 2), kernel.flatten(1), rules(wanted=RGB))
    assert torch.equal(back.tensor, kernel)


@pytest.mark.parametrize("shape", [(7, 3, 3, 3), (6, 3, 5, 5), (6, 11)])
def test_stems_of_another_width_or_patch_do_not_fit(shape):
    assert fit("stem", torch.zeros(6, 1, 3, 3), torch.randn(shape), rules()) is None


def test_positions_of_the_same_number_move_if_their_grids_differ():
    tensor, own = torch.randn(1, 16, 4), torch.zeros(1, 16, 4)
    moved = fit("pos_embed", own, tensor, rules(grids=Grids(grid=(2, 8), trained=(4, 4))))
    assert torch.equal(moved.tensor, resample_abs_pos_embed(tensor, [2, 8], [4, 4], num_prefix_tokens=0))
    assert fit("pos_embed", own, tensor, rules()).note == ""
    assert fit("pos_embed", own, tensor[0], rules()).note.endswith("the same numbers")
    odd = fit("pos_embed", torch.zeros(1, 7, 4), torch.randn(1, 7, 4), rules(grids=Grids(grid=(2, 8), trained=(4, 4))))
    assert odd.note == "", "not of these grids"


@pytest.mark.parametrize(
    "name, own, file, told",
    [
        ("a", (3, 4), (3, 4), True), ("a", (3, 4), (4, 3), False), ("stem", (6, 1, 3, 3), (6, 3, 3, 3), True),
        ("a", (6, 1, 3, 3), (6, 3, 3, 3), False), ("stem", (6, 1, 3, 3), (5, 3, 3, 3), False),
        ("pos_embed", (1, 16, 4), (1, 25, 4), True), ("pos_embed", (1, 16, 4), (1, 25, 5), False),
        ("pos_embed", (1, 4, 2, 2), (1, 4, 3, 3), True), ("a.rel_pos_h", (5, 4), (7, 4), True),
        ("relative_position_bias_table", (9, 4), (25, 4), True), ("b", (6, 4, 3, 3, 3), (6, 4, 3, 3), True),
        ("b", (6, 4, 3, 3, 3), (6, 4, 5, 5), False), ("b", (), (), True),
    ],
)  # fmt: skip
def test_shapes_tell_what_may_fit(name, own, file, told):
    assert plausible(name, own, file, frozenset({"stem"})) is told
