"""SatMAE: files in the format of the publication, groups of bands, grids of other shapes."""

import argparse

import pytest
import torch

from medseg.errors import InputError
from medseg.models.earth import satmae
from tests.models.earth import upstream as p
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4}
OF_FILES = ("B2", "B3", "B4", "B8", "B5", "B6", "B7", "B8A", "B11", "B12")


def shapes(*, finetuned: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state under ``model``."""
    found = {"cls_token": (1, 1, 32), "pos_embed": (1, 145, 16), "channel_embed": (1, 3, 16)}
    for i, count in enumerate((4, 4, 2)):
        found |= p.conv(f"patch_embed.{i}.proj", 32, count, 8, 8)
    found |= s.of_blocks("blocks.", 4, 32, 128) | p.norm("norm", 32)
    if finetuned:
        return found | {"channel_cls_embed": (1, 1, 16)} | p.linear("head", 62, 32)
    found |= {"mask_token": (1, 1, 16), "decoder_pos_embed": (1, 145, 8), "decoder_channel_embed": (1, 4, 8)}
    for i, count in enumerate((4, 4, 2)):
        found |= p.linear(f"decoder_pred.{i}", 64 * count, 16)
    return found | s.of_blocks("decoder_blocks.", 6, 16, 64) | p.linear("decoder_embed", 16, 32)


@pytest.fixture(scope="module")
def state():
    return s.drawn(shapes())


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    """As the authors' script writes it, with its arguments."""
    content = {"model": state, "optimizer": {"state": {}}, "epoch": 199, "args": argparse.Namespace(lr=1e-4)}
    return p.saved(tmp_path_factory.mktemp("satmae") / "pretrain-vit-base-e199.pth", content)


def test_published_files_fill_the_encoder(checkpoint):
    encoder = s.build("satmae", s.spec(OF_FILES), weights=checkpoint, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert {row.how for row in report.rows if row.how != "unexpected"} == {"copied"}
    assert {origin for _, origin in report.channels} == {f"copied from {name}" for name in OF_FILES}
    s.keeps_its_promises(encoder, (16, 24))


@pytest.mark.parametrize("bands", s.SOME.values())
def test_some_bands_on_any_shape(checkpoint, bands):
    encoder = s.build("satmae", s.spec(bands), weights=checkpoint, **SMALL)
    assert encoder.initialise().share == 1
    s.keeps_its_promises(encoder, (16, 24))


def test_groups_without_a_channel_are_no_sign_of_a_larger_network(checkpoint):
    encoder = s.build("satmae", s.spec(("B11", "B12")), weights=checkpoint, **SMALL)
    assert encoder.initialise().share == 1
    assert list(encoder.places) == ["2"]


def test_a_file_of_more_blocks_is_refused(tmp_path):
    path = p.saved(tmp_path / "large.pth", s.drawn(shapes() | s.of_blocks("blocks.", 6, 32, 128)))
    encoder = s.build("satmae", s.spec(OF_FILES), weights=path, **SMALL)
    with pytest.raises(InputError, match="the file has further layers of the same kind"):
        encoder.initialise()


def test_fine_tuned_files_add_to_the_class_token(tmp_path):
    state = s.drawn(shapes(finetuned=True))
    encoder = s.build("satmae", s.spec(OF_FILES), weights=p.saved(tmp_path / "finetune.pth", state), **SMALL)
    assert encoder.initialise().share == 1
    token = encoder.trunk.cls_token.detach()[0, 0]
    torch.testing.assert_close(token[:16], state["cls_token"][0, 0, :16])
    torch.testing.assert_close(token[16:], state["cls_token"][0, 0, 16:] + state["channel_cls_embed"][0, 0])


def test_positions_of_the_same_grid_are_the_published_ones(state, checkpoint):
    encoder = s.build("satmae", s.spec(("B11",), (96, 96)), weights=checkpoint, **SMALL)
    encoder.initialise()
    encoder.trunk.patch_embed["2"].proj.bias.data.zero_()
    tokens = encoder.embed(torch.full((1, 1, 96, 96), -2.0))  # 0 of the weights
    torch.testing.assert_close(tokens[0, 1:, :16], state["pos_embed"][0, 1:])
    torch.testing.assert_close(tokens[0, 1:, 16:], state["channel_embed"][:, 2].expand(144, -1))
    torch.testing.assert_close(tokens[0, 0, :16], state["cls_token"][0, 0, :16] + state["pos_embed"][0, 0])


@pytest.mark.parametrize("size", satmae.SIZES)
def test_every_size_builds_on_the_meta_device(size):
    encoder = s.builds_on_meta("satmae", s.spec(OF_FILES), (16, 24), size=size)
    assert encoder.features[0].channels == satmae.SIZES[size].embed_dim
    assert encoder.trunk.channel_embed.shape == (1, 3, 256)


def test_statistics_of_the_data_are_compared(checkpoint):
    encoder = s.build("satmae", s.spec(("B4", "B8")), weights=checkpoint, **SMALL)
    report = encoder.initialise({"mean": [0.11, 0.17], "std": [0.09, 0.12]})
    assert any("B4 0.09 instead of 965.2" in w and "plan.std=[965.2,1233]" in w for w in report.warnings)


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(("B2", "VV")), {}, "encoder satmae has no kind of token for VV; it takes B2, B3, "),
        (s.spec(), {"size": "huge"}, "size=huge: expected one of base, large"),
        (s.spec(), {"embed_dim": 36}, "embed_dim=36: expected a multiple of 8"),
        (s.spec(), {"weights": "pretrained"}, "none are published of size base; give a file, model.encoder.weights=F"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("satmae", about, **SMALL | settings).initialise()


def test_of_red_green_and_blue_is_a_transformer_of_timm(tmp_path):
    """``fmow_pretrain.pth``: a masked autoencoder of timm's names, in images of 224 cells."""
    found = {"cls_token": (1, 1, 64), "pos_embed": (1, 197, 64), "mask_token": (1, 1, 32)}
    found |= p.conv("patch_embed.proj", 64, 3, 16, 16) | s.of_blocks("blocks.", 2, 64, 256) | p.norm("norm", 64)
    found |= s.of_blocks("decoder_blocks.", 1, 32, 128) | {"decoder_pos_embed": (1, 197, 32)}
    path = p.saved(tmp_path / "fmow_pretrain.pth", {"model": s.drawn(found), "args": argparse.Namespace(epochs=800)})
    settings = {"embed_dim": 64, "depth": 2, "num_heads": 4}
    encoder = s.build("timm", s.spec(), name="vit_large_patch16_224", settings=settings, weights=path)
    assert encoder.initialise().share == 1
