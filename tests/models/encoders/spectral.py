"""What the tests of encoders of satellite images share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from medseg.models.encoders.encoder import Encoder, check_features
from medseg.models.network import ModelSpec
from medseg.sensors.bands import bands_of

CONF = Path(__file__).parents[3] / "conf" / "model" / "encoder"
SENTINEL2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
RGB = ("B4", "B3", "B2")
SOME = {2: ("B8", "B4"), 5: ("B2", "B3", "B4", "B8", "B12"), 13: SENTINEL2}
"""Bands of Sentinel-2, by how many there are."""


def spec(
    bands: Sequence[str] = RGB, shape: Sequence[int] = (32, 48), *, sensor: str | None = "sentinel-2",
    spacing: Sequence[float] = (10.0, 10.0),
) -> ModelSpec:  # fmt: skip
    channels = bands_of(bands, sensor)
    return ModelSpec(
        in_channels=len(channels),
        out_channels=3,
        patch_shape=tuple(shape),
        spacing=tuple(spacing),
        kernels=(),
        strides=(),
        channels=channels,
    )


def volume() -> ModelSpec:
    return ModelSpec(in_channels=1, out_channels=2, patch_shape=(32,) * 3, spacing=(1.0,) * 3, kernels=(), strides=())


def build(option: str, about: ModelSpec, **settings: Any) -> Encoder:
    """The encoder of an option of conf/, with some of its settings changed."""
    cfg = OmegaConf.merge(OmegaConf.load(CONF / "weights_defaults.yaml"), OmegaConf.load(CONF / f"{option}.yaml"))
    del cfg["defaults"]
    changed = OmegaConf.merge(cfg, settings)
    assert set(changed) == set(cfg), "only settings that the yaml has"
    torch.manual_seed(0)
    encoder: Encoder = instantiate(changed, _convert_="all")(about)
    return encoder.eval()


def noise(encoder: Encoder, shape: Sequence[int], batch: int = 1) -> Tensor:
    return torch.randn(batch, len(encoder.channels), *shape, generator=torch.Generator().manual_seed(1))


def moved(net: nn.Module, seed: int = 2) -> nn.Module:
    """The network, in evaluation, with no parameter left at a zero or one that would hide it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def recorded(blocks: Iterable[nn.Module], run: Callable[[], Any]) -> list[Tensor]:
    """What each block gives in a run of a network."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, given: found.append(given)) for block in blocks]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return found


def features(encoder: Encoder, image: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return encoder(image)


def assert_close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def keeps_its_promises(encoder: Encoder, shape: Sequence[int]) -> None:
    """Features as declared, on the meta device and in truth; every parameter that trains is reached; half precision."""
    moved(encoder)
    check_features(encoder, len(encoder.channels), shape)
    image = noise(encoder, shape, batch=2)
    given = encoder(image)
    for feature, tensor in zip(encoder.features, given, strict=True):
        grid = [int(s // d) for s, d in zip(shape, feature.stride, strict=True)]
        cells = (2, feature.prefix + grid[0] * grid[1], feature.channels)
        assert tensor.shape == (cells if feature.tokens else (2, feature.channels, *grid))
        assert tensor.isfinite().all()
    last = [t[:, f.prefix :] if f.tokens else t for f, t in zip(encoder.features, given, strict=True)]
    weights = torch.Generator().manual_seed(3)
    sum((t * torch.randn(t.shape, generator=weights)).sum() for t in last).backward()
    trained = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    assert {name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0} == set()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = encoder(image)
    for one, other in zip(half, given, strict=True):
        assert (one.float() - other).square().mean().sqrt() < 0.05 * other.std()
    with torch.no_grad():
        changed = [encoder(image.index_fill(1, torch.tensor(c), 0.0))[-1] for c in range(image.shape[1])]
    assert not any(torch.allclose(given[-1], other) for other in changed)  # every channel matters


def drawn(shapes: Mapping[str, Sequence[int]], seed: int = 7) -> dict[str, Tensor]:
    """Random tensors of a checkpoint, by its names and shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(tuple(shape), generator=generator) for name, shape in shapes.items()}


def of_blocks(prefix: str, depth: int, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the blocks of timm's vision transformer."""
    each = {
        "norm1.weight": (width,), "norm1.bias": (width,), "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,), "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
        "norm2.weight": (width,), "norm2.bias": (width,), "mlp.fc1.weight": (hidden, width), "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (width, hidden), "mlp.fc2.bias": (width,),
    }  # fmt: skip
    return {f"{prefix}{i}.{name}": shape for i in range(depth) for name, shape in each.items()}


def builds_on_meta(option: str, about: ModelSpec, shape: Sequence[int], **settings: Any) -> Encoder:
    """An encoder in its real size, without memory; its features are as declared."""
    with torch.device("meta"):
        encoder = build(option, about, **settings)
    check_features(encoder, len(encoder.channels), shape)
    return encoder
