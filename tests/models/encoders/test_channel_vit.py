"""ChannelViT beside its definition, written out token by token, and beside timm's transformer of one channel."""

from functools import partial

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.encoders.channel_tokens import encode, sample_channels
from medseg.models.encoders.channel_vit import ChannelViT
from medseg.models.encoders.encoder import check_features
from medseg.sample import Channel
from medseg.weights.pretrained import Pretrained
from tests.models.encoders.spectral import assert_close
from tests.models.encoders.volumes import BANDS, MODALITIES, features, learns, noise, scrambled, spec, written

SMALL = {"token": 8, "width": 12, "depth": 3, "num_heads": 3, "mlp_ratio": 2.0}
SHAPE = (16, 24)
RGB = (Channel("R"), Channel("G"), Channel("B"))
SENTINEL = (
    Channel("B02", wavelength_nm=490.0),
    Channel("B03", wavelength_nm=560.0),
    Channel("B08", wavelength_nm=840.0),
)


def published(channels: int = 3, grid: int = 6, *, table: bool = False) -> dict[str, Tensor]:
    """A random state under the names and in the shapes of the authors' code; ``table`` as of its sampling variant."""
    d, hidden = 12, 24
    shapes = {
        "cls_token": (1, 1, d), "pos_embed": (1, 1 + grid, d), "patch_embed.proj.weight": (d, 1, 1, 8, 8),
        "patch_embed.proj.bias": (d,), "norm.weight": (d,), "norm.bias": (d,), "head.weight": (5, d),
    }  # fmt: skip
    shapes |= (
        {"patch_embed.channel_embed.weight": (channels, d)}
        if table
        else {"patch_embed.channel_embed": (1, d, channels, 1, 1)}
    )
    for i in range(3):
        block = {
            "norm1.weight": (d,), "norm1.bias": (d,), "attn.qkv.weight": (3 * d, d), "attn.qkv.bias": (3 * d,),
            "attn.proj.weight": (d, d), "attn.proj.bias": (d,), "norm2.weight": (d,), "norm2.bias": (d,),
            "mlp.fc1.weight": (hidden, d), "mlp.fc1.bias": (hidden,), "mlp.fc2.weight": (d, hidden),
            "mlp.fc2.bias": (d,),
        }  # fmt: skip
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return {name: 0.3 * noise(*shape, seed=i) for i, (name, shape) in enumerate(sorted(shapes.items()))}


def defined(state: dict[str, Tensor], image: Tensor, channels: list[int]) -> Tensor:
    """The last feature ``[b, n, d]`` of an image, of which only some channels are given; by the definition."""
    rows, columns = image.shape[2] // 8, image.shape[3] // 8
    tokens = [(state["cls_token"] + state["pos_embed"][:, :1])[0].expand(len(image), -1)]
    for c in channels:
        for i in range(rows):
            for j in range(columns):
                patch = image[:, c, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8]
                token = torch.einsum("bhw,dhw->bd", patch, state["patch_embed.proj.weight"][:, 0, 0])
                token = token + state["patch_embed.proj.bias"] + state["patch_embed.channel_embed"][0, :, c, 0, 0]
                tokens.append(token + state["pos_embed"][0, 1 + i * columns + j])
    x = torch.stack(tokens, 1)

    def part(name: str, at: int | None = None) -> tuple[Tensor, Tensor]:
        prefix = name if at is None else f"blocks.{at}.{name}"
        return state[f"{prefix}.weight"], state[f"{prefix}.bias"]

    for k in range(3):
        y = functional.layer_norm(x, (12,), *part("norm1", k), eps=1e-6)
        q, key, v = functional.linear(y, *part("attn.qkv", k)).chunk(3, dim=2)
        heads = []
        for h in (slice(0, 4), slice(4, 8), slice(8, 12)):
            weight = (q[..., h] @ key[..., h].transpose(1, 2) / 2).softmax(2)
            heads.append(weight @ v[..., h])
        x = x + functional.linear(torch.cat(heads, 2), *part("attn.proj", k))
        y = functional.layer_norm(x, (12,), *part("norm2", k), eps=1e-6)
        x = x + functional.linear(functional.gelu(functional.linear(y, *part("mlp.fc1", k))), *part("mlp.fc2", k))
    x = functional.layer_norm(x, (12,), *part("norm"), eps=1e-6)[:, 1:]
    return x.unflatten(1, (len(channels), -1)).mean(1)


def loaded(path, state, channels=RGB, shape=SHAPE, prefix="", **settings) -> ChannelViT:
    encoder = ChannelViT(spec(shape, channels), **SMALL, **settings, weights=written(path / "a.pt", state, prefix))
    encoder.initialise()
    return encoder.eval()


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_takes_the_authors_names_and_is_what_the_definition_says(tmp_path, prefix):
    state, image = published(), noise(2, 3, *SHAPE)
    encoder = loaded(tmp_path, state, prefix=prefix)
    report = encoder.initialise()
    assert report.share == 1
    assert [row.name for row in report.rows if row.how == "unexpected"] == [f"{prefix}head.weight"]
    torch.testing.assert_close(features(encoder, image)[-1], defined(state, image, [0, 1, 2]), rtol=1e-4, atol=1e-4)


def test_takes_embeddings_of_channels_from_a_table(tmp_path):
    state, image = published(table=True), noise(1, 3, *SHAPE)
    encoder = loaded(tmp_path, state)
    state["patch_embed.channel_embed"] = state["patch_embed.channel_embed.weight"].T[None, :, :, None, None]
    torch.testing.assert_close(features(encoder, image)[-1], defined(state, image, [0, 1, 2]), rtol=1e-4, atol=1e-4)


def test_of_one_channel_it_is_timms_transformer(tmp_path):
    net = timm.create_model(
        "vit_tiny_patch16_224", img_size=SHAPE, patch_size=8, embed_dim=12, depth=3, num_heads=3, mlp_ratio=2,
        in_chans=1, pretrained=False,
    )  # fmt: skip
    scrambled(net)
    image = noise(2, 1, *SHAPE)
    encoder = loaded(tmp_path, net.state_dict(), MODALITIES[1])
    torch.nn.init.zeros_(encoder.trunk.patch_embed.channel_embed)
    with torch.no_grad():
        expected = net.forward_intermediates(image, norm=True, output_fmt="NLC", intermediates_only=True)
    assert_close(features(encoder, image), expected)


def test_missing_channels_are_left_out_whatever_stands_in_them(tmp_path):
    state, image = published(), noise(2, 3, *SHAPE)
    encoder = loaded(tmp_path, state)
    present = torch.tensor([[True, False, True], [False, True, False]])
    image[0, 1] = torch.nan
    with torch.no_grad():
        given = encoder(image, present=present)[-1]
    expected = torch.cat([defined(state, image[:1], [0, 2]), defined(state, image[1:], [1])])
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)
    zero = image.masked_fill(~present[:, :, None, None], 0)
    torch.testing.assert_close(features(encoder, zero)[-1], expected, rtol=1e-4, atol=1e-4)


def test_a_patch_of_zeros_counts_as_present(tmp_path):
    state, image = published(), torch.zeros(1, 3, *SHAPE)
    encoder = loaded(tmp_path, state)
    torch.testing.assert_close(features(encoder, image)[-1], defined(state, image, [0, 1, 2]), rtol=1e-4, atol=1e-4)


def test_channels_may_change_places_with_their_embeddings(tmp_path):
    state, image, order = published(), noise(1, 3, *SHAPE), [2, 0, 1]
    given = features(loaded(tmp_path, state), image)
    state["patch_embed.channel_embed"] = state["patch_embed.channel_embed"][:, :, order]
    assert_close(features(loaded(tmp_path, state), image[:, order]), given)


def test_training_takes_the_channels_that_are_drawn():
    encoder, image = scrambled(ChannelViT(spec(SHAPE, BANDS[5]), **SMALL)), noise(2, 5, *SHAPE)
    sizes = set()
    for seed in range(8):
        torch.manual_seed(seed)
        chosen = sample_channels(torch.ones(2, 5, dtype=torch.bool))
        sizes.add(len(chosen))
        torch.manual_seed(seed)
        with torch.no_grad():
            given = encoder.train()(image)
            present = torch.zeros(2, 5, dtype=torch.bool).index_fill(1, chosen, True)
            assert_close(given, encoder.eval()(image, present=present))
    assert len(sizes) > 2
    state = torch.get_rng_state()
    whole = features(encoder, image)
    assert torch.equal(torch.get_rng_state(), state)
    encoder.sampling = False
    with torch.no_grad():
        assert_close(encoder.train()(image), whole)


def test_draws_are_uniform_in_their_number_then_among_the_channels():
    torch.manual_seed(0)
    drawn = [sample_channels(torch.ones(1, 4, dtype=torch.bool)).tolist() for _ in range(4000)]
    assert all(d == sorted(set(d)) for d in drawn)
    for m in range(1, 5):
        assert 0.22 < sum(len(d) == m for d in drawn) / 4000 < 0.28
    for c in range(4):
        assert 0.59 < sum(c in d for d in drawn) / 4000 < 0.66  # (1 + 2 + 3 + 4) / 16


def test_draws_leave_every_sample_a_channel():
    seen = torch.tensor([[True, False, False, False], [False, False, True, False], [False, False, False, False]])
    torch.manual_seed(0)
    for _ in range(50):
        assert {0, 2} <= set(sample_channels(seen).tolist())


@pytest.mark.parametrize("channels", [BANDS[2], BANDS[5], BANDS[13]])
def test_other_channels_get_no_embedding_from_a_file_that_names_none(tmp_path, channels):
    state, image = published(), noise(1, len(channels), *SHAPE)
    encoder = loaded(tmp_path, state, channels)
    check_features(encoder, len(channels), SHAPE)
    state["patch_embed.channel_embed"] = encoder.trunk.patch_embed.channel_embed.detach()[..., None, None]
    expected = defined(state, image, list(range(len(channels))))
    torch.testing.assert_close(features(encoder, image)[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("adapt", "rows", "origins"),
    [
        ("auto", [[0, 1, 0], [0.5, 0.5, 0], [1 / 3] * 3], ["copied from B03", "by wavelength 525", "mean of all 3"]),
        ("mean", [[1 / 3] * 3] * 3, ["mean of all 3"] * 3),
        ("zero", [[0, 1, 0], [0, 0, 0], [0, 0, 0]], ["copied from B03", "zero", "zero"]),
    ],
)
def test_embeddings_follow_names_and_wavelengths(monkeypatch, adapt, rows, origins):
    state = published()
    monkeypatch.setattr("medseg.models.encoders.encoder.read", lambda source: Pretrained(dict(state), source, SENTINEL))
    wanted = (Channel("green", wavelength_nm=560.0), Channel("cyan", wavelength_nm=525.0), Channel("VV"))
    encoder = ChannelViT(spec(SHAPE, wanted), **SMALL, weights="a.pt", adapt=adapt)
    report = encoder.initialise()
    expected = torch.einsum(
        "dt,wt->dw", state["patch_embed.channel_embed"][0, :, :, 0, 0], torch.tensor(rows, dtype=torch.float32)
    )
    found = encoder.trunk.patch_embed.channel_embed.detach()[0]
    torch.testing.assert_close(found, expected)
    assert [name for name, _ in report.channels] == ["green", "cyan", "VV"]
    assert all(words in told for words, (_, told) in zip(origins, report.channels, strict=True))


def test_wavelengths_embed_any_bands_with_the_same_weights(tmp_path):
    one = scrambled(ChannelViT(spec(SHAPE, SENTINEL), **SMALL, embedding="wavelength"))
    other = loaded(tmp_path, one.trunk.state_dict(), SENTINEL[::-1], embedding="wavelength")
    image = noise(1, 3, *SHAPE)
    assert_close(features(other, image.flip(1)), features(one, image))
    alike = encode(torch.tensor([490.0, 495.0, 2200.0]), 64)
    near, far = (functional.cosine_similarity(alike[0], alike[i], dim=0) for i in (1, 2))
    assert near > far


def test_images_become_volumes(tmp_path):
    state = published(1, 4)
    encoder = loaded(tmp_path, state, MODALITIES[1], (16, 16, 24))
    assert encoder.initialise().share > 0.99
    check_features(encoder, 1, (16, 16, 24))
    image, places = noise(1, 1, 16, 16), encoder.trunk.pos_embed[0, 1:].detach().reshape(2, 2, 3, 12)
    torch.testing.assert_close(places[:, :, 2], state["pos_embed"][0, 1:].reshape(2, 2, 12))
    with torch.no_grad():
        volume = encoder.trunk.patch_embed.proj(image[..., None].expand(-1, -1, -1, -1, 24))
        flat = functional.conv2d(image, state["patch_embed.proj.weight"][:, 0], state["patch_embed.proj.bias"], 8)
    torch.testing.assert_close(volume, flat[..., None].expand_as(volume), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [MODALITIES[1], MODALITIES[2], MODALITIES[4]])
def test_its_own_weights_of_volumes_load(tmp_path, channels):
    one = scrambled(ChannelViT(spec((16, 16, 16), channels), **SMALL))
    other = loaded(tmp_path, one.trunk.state_dict(), channels, (16, 16, 16))
    image = noise(2, len(channels), 16, 16, 16)
    assert_close(features(other, image), features(one, image))


@pytest.mark.parametrize("patch", [(32, 32), (16, 16, 16)])
def test_learns_beneath_a_decoder(patch):
    learns(partial(ChannelViT, **SMALL), spec(patch, MODALITIES[2]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_heads": 5}, "width=12, num_heads=5, embedding=name: expected a multiple"),
        ({"embedding": "band"}, "embedding=band: expected .* name or wavelength"),
        ({"embedding": "wavelength"}, "embedding=wavelength: R, G, B has none; give data.wavelengths_nm"),
        ({"token": (8, 8, 8)}, "expected cells of a token, one number or 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        ChannelViT(spec(SHAPE, RGB), **{**SMALL, **settings})
