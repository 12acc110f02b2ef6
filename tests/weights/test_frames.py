"""Weights of clips become weights of images."""

import pytest
import timm
import torch

from medseg.errors import InputError
from medseg.models.network import ModelSpec
from medseg.models.timm.encoder import Timm
from medseg.sample import Channel
from medseg.weights.frames import without_time
from tests.weights.test_essential import spec

HLS = tuple(Channel(n) for n in ("B2", "B3", "B4", "B8A", "B11", "B12"))


def clip(kernel_frames, frames, grid=2, prefix=1, width=4):
    """State of a file, and of the module for images, with positions that say which frame they are of."""
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(width, 3, kernel_frames, 2, 2, generator=generator)
    places = torch.randn(frames, grid * grid, width, generator=generator)
    first = torch.randn(prefix, width, generator=generator)
    state = {"proj.weight": kernel, "pos_embed": torch.cat([first, places.flatten(0, 1)])[None]}
    own = {"proj.weight": torch.zeros(width, 3, 2, 2), "pos_embed": torch.zeros(1, prefix + grid * grid, width)}
    return state, own, first, places


def stilled(state, own, frames=None):
    return without_time(state, own, {name: name for name in own}, ["proj.weight"], frames)


def test_an_axis_of_time_of_length_one_is_removed():
    state, own, *_ = clip(kernel_frames=1, frames=1)
    still = stilled(state, own)
    assert torch.equal(still.state["proj.weight"], state["proj.weight"][:, :, 0])
    assert torch.equal(still.state["pos_embed"], state["pos_embed"])
    assert still.notes == {"proj.weight": "axis of time of length 1 removed"}


def test_a_still_scene_gives_the_response_of_the_clip():
    state, own, *_ = clip(kernel_frames=3, frames=1)
    image = torch.randn(1, 3, 2, 2)
    expected = torch.nn.functional.conv3d(image.unsqueeze(2).expand(-1, -1, 3, -1, -1), state["proj.weight"])
    given = torch.nn.functional.conv2d(image, stilled(state, own).state["proj.weight"])
    torch.testing.assert_close(given, expected[:, :, 0])


@pytest.mark.parametrize("prefix", [0, 1])
def test_positions_of_frames_become_their_mean(prefix):
    state, own, first, places = clip(kernel_frames=1, frames=3, prefix=prefix)
    still = stilled(state, own)
    assert torch.allclose(still.state["pos_embed"][0, prefix:], places.mean(0))
    assert torch.equal(still.state["pos_embed"][0, :prefix], first)
    assert still.notes["pos_embed"] == "mean over 3 frames"


def test_frames_that_are_not_certain_are_asked_for():
    """16 positions are 1 grid of 4 x 4 or 4 of 2 x 2; the module, of another grid, does not say which."""
    state, own, _, places = clip(kernel_frames=1, frames=4, prefix=0)
    own["pos_embed"] = torch.zeros(1, 9, 4)
    with pytest.raises(InputError, match=r"16 positions, .* 1 or 4 or 16 frames; set model\.encoder\.frames"):
        stilled(state, own)
    assert torch.allclose(stilled(state, own, frames=4).state["pos_embed"][0], places.mean(0))


def test_frames_that_do_not_divide_the_positions():
    state, own, *_ = clip(kernel_frames=1, frames=4, prefix=0)
    with pytest.raises(InputError, match=r"model\.encoder\.frames=3: pos_embed has 16 positions"):
        stilled(state, own, frames=3)


def test_kernels_of_volumes_are_left_alone():
    state, own, *_ = clip(kernel_frames=2, frames=1)
    own["proj.weight"] = torch.zeros(4, 3, 2, 2, 2)
    assert stilled(state, own).notes == {}


@pytest.mark.parametrize("frames", [1, 4])
def test_a_file_named_as_prithvi_does_loads_into_a_vision_transformer(tmp_path, frames):
    net = timm.create_model("test_vit", pretrained=False, in_chans=6, img_size=160, num_classes=0)
    state = {f"encoder.{k}": v.clone() for k, v in net.state_dict().items()}
    state["encoder.patch_embed.proj.weight"] = net.patch_embed.proj.weight.data[:, :, None].clone()
    grid = net.pos_embed.data[:, 1:]
    state["encoder.pos_embed"] = torch.cat([net.pos_embed.data[:, :1]] + [grid] * frames, 1)
    torch.save(state, tmp_path / "eo.pt")
    made = spec(HLS, (160, 160))
    assert isinstance(made, ModelSpec)
    encoder = Timm(
        made,
        name="test_vit",
        weights=str(tmp_path / "eo.pt"),
        settings={"img_size": 160},
        trained_on=[c.name for c in HLS],
    )
    report = encoder.initialise()
    assert report is not None
    assert report.share == 1
    assert [origin for _, origin in report.channels] == [f"copied from {c.name}" for c in HLS]
    assert torch.equal(encoder.net.patch_embed.proj.weight, net.patch_embed.proj.weight)
    torch.testing.assert_close(encoder.net.pos_embed, net.pos_embed)
    notes = {row.name: row.note for row in report.rows if row.note}
    assert any("axis of time of length 1 removed" in note for note in notes.values())
    assert ("mean over 4 frames" in " ".join(notes.values())) == (frames == 4)
