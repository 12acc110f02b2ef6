"""Primus: nnssl's names and shapes, positions on the plan's grid, axes in the order of medseg."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from medseg.errors import InputError
from medseg.models.encoders.primus import SIZES, Primus
from medseg.models.network import ModelSpec
from medseg.sample import Channel

SMALL = {"embed_dim": 24, "depth": 4, "num_heads": 2}
PATCH = (32, 24, 16)


def spec(channels: int = 1, patch: tuple[int, ...] = PATCH) -> ModelSpec:
    names = tuple(Channel(f"MR{i}") for i in range(channels))
    return ModelSpec(channels, 3, patch, (1.0,) * len(patch), (), (), names)


def blocks(prefix: str, width: int, depth: int, tokens: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the blocks as nnssl's files have them."""
    hidden = int(width * 8 / 3)
    block: dict[str, tuple[int, ...]] = {"gamma_1": (width,), "gamma_2": (width,)}
    for norm in ("norm1", "norm2", "attn.norm"):
        block |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for linear in ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.proj"):
        block[f"{linear}.weight"] = (width, width)
        if linear != "attn.k_proj":
            block[f"{linear}.bias"] = (width,)
    for gate in ("mlp.fc1_g", "mlp.fc1_x"):
        block |= {f"{gate}.weight": (hidden, width), f"{gate}.bias": (hidden,)}
    block |= {"mlp.norm.weight": (hidden,), "mlp.norm.bias": (hidden,)}
    block |= {"mlp.fc2.weight": (width, hidden), "mlp.fc2.bias": (width,)}
    names = {f"{prefix}blocks.{i}.{name}": shape for i in range(depth) for name, shape in block.items()}
    return names | {
        f"{prefix}pos_embed": (1, tokens, width),
        f"{prefix}norm.weight": (width,),
        f"{prefix}norm.bias": (width,),
    }


def state_of(tokens: int = 4 * 3 * 2, channels: int = 1) -> dict[str, Tensor]:
    """The tensors of a masked autoencoder of nnssl, whose decoder has blocks of the same names."""
    shapes = {
        "down_projection.proj.weight": (24, channels, 8, 8, 8),
        "down_projection.proj.bias": (24,),
        **blocks("eva.", 24, 4, tokens),
        **blocks("decoder.", 24, 2, tokens),
        "mask_token": (1, 1, 24),
        "up_projection.decode.0.0.weight": (24, 8, 2, 2, 2),
    }
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


def written(folder: Path, state: dict[str, Tensor]) -> Path:
    plan = {"key_to_encoder": "eva", "key_to_stem": "down_projection", "pretrain_num_input_channels": 1}
    torch.save({"network_weights": state, "citations": [], "nnssl_adaptation_plan": plan}, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


def test_every_tensor_of_the_encoder_has_its_place(tmp_path: Path) -> None:
    state = state_of()
    encoder = Primus(spec(), **SMALL, weights=str(written(tmp_path, state)))
    report = encoder.initialise()
    assert report is not None
    assert report.share == 1.0
    assert not report.named("random", "kept", "adapted")
    assert all(name.startswith(("decoder.", "mask_token", "up_proj")) for name in report.named("unexpected"))
    assert "z-scores of each volume" in report.normalisation
    for name, tensor in encoder.trunk.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_the_network_sees_slices_rows_columns_and_features_come_back(tmp_path: Path) -> None:
    encoder = Primus(spec(), **SMALL, weights=str(written(tmp_path, state_of()))).eval()
    encoder.initialise()
    image = torch.randn(2, 1, *PATCH, generator=torch.Generator().manual_seed(1))
    given = encoder(image)[0]
    tokens = encoder.trunk.down_projection.proj(image.permute(0, 1, 4, 3, 2)).flatten(2).transpose(1, 2)
    first = encoder.trunk.eva.blocks[0](
        tokens + state_of()["eva.pos_embed"], rope=encoder.trunk.eva.get_buffer("rotations")
    )
    by_place = first.unflatten(1, (2, 3, 4))
    assert torch.allclose(given.unflatten(1, (4, 3, 2)), by_place.transpose(1, 3), atol=1e-6)


def test_rotations_turn_pairs_by_their_place() -> None:
    eva = Primus(spec(), **SMALL).trunk.eva
    sines, cosines = eva.get_buffer("rotations").chunk(2, dim=1)
    # Token 3 * 4 + 1 * 4 + 2 of a grid of 2 x 3 x 4 stands at (1, 1, 2); a head of 12 has two pairs for each axis.
    angles = torch.tensor([1, 0.01, 1, 0.01, 2, 0.02]).repeat_interleave(2)
    assert torch.allclose(sines[12 + 4 + 2], angles.sin())
    assert torch.allclose(cosines[12 + 4 + 2], angles.cos())


def test_positions_of_another_patch_are_resampled(tmp_path: Path) -> None:
    report = Primus(spec(), **SMALL, weights=str(written(tmp_path, state_of(tokens=6**3)))).initialise()
    assert report is not None
    assert report.share == 1.0
    assert report.named("adapted") == ["eva.pos_embed"]


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_that_are_equal_respond_as_one(tmp_path: Path, channels: int) -> None:
    file = str(written(tmp_path, state_of()))
    one, several = (Primus(spec(n), **SMALL, weights=file, trained_on=["T1"]).eval() for n in (1, channels))
    one.initialise()
    several.initialise()
    image = torch.randn(1, 1, *PATCH, generator=torch.Generator().manual_seed(1))
    for a, b in zip(one(image), several(image.expand(-1, channels, -1, -1, -1)), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_networks_of_the_first_paper_have_no_scales(tmp_path: Path) -> None:
    state = {name: t for name, t in state_of().items() if "gamma" not in name and "attn.norm" not in name}
    settings = {"layer_scale": None, "norm_attention": False}
    report = Primus(spec(), **SMALL, **settings, weights=str(written(tmp_path, state))).initialise()
    assert report is not None
    assert report.share == 1.0


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_built_without_memory(size: str) -> None:
    """With the parameters that the upstream's networks of 160 x 160 x 160 voxels have."""
    with torch.device("meta"):
        encoder = Primus(spec(patch=(160, 160, 160)), size=size)
    millions = sum(p.numel() for p in encoder.parameters()) / 1e6
    assert round(millions) == {"S": 26, "B": 97, "M": 151, "L": 331}[size]


def test_a_larger_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="further layers of the same kind"):
        Primus(spec(), **(SMALL | {"depth": 3}), weights=str(written(tmp_path, state_of()))).initialise()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": "XL"}, "size=XL: expected one of S, B, M, L"),
        ({"embed_dim": 20, "num_heads": 2}, "embed_dim=20: expected a multiple of 12, 6 for each of 2 heads"),
        ({"indices": [3, 1]}, "expected blocks in rising order"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Primus(spec(), **settings)
    with pytest.raises(InputError, match="encoder primus"):
        Primus(spec(patch=(32, 32)))
