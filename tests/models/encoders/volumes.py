"""What the tests of encoders for volumes share."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from medseg.models.decoders.unet import UNet
from medseg.models.encoder_decoder import EncoderDecoder
from medseg.models.encoders.encoder import Encoder
from medseg.models.network import ModelSpec
from medseg.sample import Channel

MODALITIES = {n: tuple(Channel(name) for name in ("T1", "T1c", "T2", "FLAIR")[:n]) for n in (1, 2, 4)}
BANDS = {n: tuple(Channel(f"X{i}") for i in range(n)) for n in (2, 3, 5, 13)}


def spec(
    patch: Sequence[int] = (32, 32, 32), channels: Sequence[Channel] = MODALITIES[1], spacing: Sequence[float] = ()
) -> ModelSpec:
    n = len(patch)
    return ModelSpec(
        in_channels=len(channels),
        out_channels=2,
        patch_shape=tuple(patch),
        spacing=tuple(spacing) or (1.0,) * n,
        kernels=((3,) * n,) * 2,
        strides=((1,) * n, (2,) * n),
        channels=tuple(channels),
    )


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scrambled(module: nn.Module, seed: int = 0) -> nn.Module:
    """In evaluation, with every parameter and running statistic away from where it starts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator) * 0.1
                tensor.add_(drawn.abs() if name.endswith("running_var") else drawn)
    return module.eval()


def written(path: Path, state: Mapping[str, Tensor], prefix: str = "", **more: object) -> str:
    """A checkpoint as upstreams write it: tensors under ``state_dict``, names with a prefix."""
    torch.save({"state_dict": {prefix + name: tensor for name, tensor in state.items()}, **more}, path)
    return str(path)


@torch.no_grad()
def features(encoder: Encoder, image: Tensor) -> list[Tensor]:
    """What it gives in evaluation."""
    return encoder.eval()(image)


def learns(make: Callable[[ModelSpec], Encoder], about: ModelSpec, *, steps: int = 4) -> None:
    """Beneath a U-Net's decoder, the loss falls within a few steps on one batch, and every parameter is reached."""
    torch.manual_seed(0)
    decoder = partial(UNet, base_features=4, deep_supervision=False)
    net = EncoderDecoder(about, encoder=make, decoder=decoder).train()
    image = noise(2, about.in_channels, *(net.fixed_shape or net.nearest(about.patch_shape)))
    label = (image[:, 0] > 0).long()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(net(image), label)
        optimizer.zero_grad()
        loss.backward()
        assert {name for name, p in net.named_parameters() if p.grad is None} == set()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
