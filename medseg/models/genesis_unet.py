"""GenesisUNet: the U-Net that Models Genesis and SuPreM trained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, cat, nn

from medseg.models.layers import CONV, CONV_TRANSPOSED, INSTANCE_NORM
from medseg.models.network import ModelSpec, Network

_DOWN = ("down_tr64", "down_tr128", "down_tr256", "down_tr512")
_UP = ("up_tr256", "up_tr128", "up_tr64")
_POOL: dict[int, type[nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_DIVISOR = 8


class GenesisUNet(Network):
    """Four stages of two convolutions, pooled by their maximum; strides of 2 on every axis.

    Parts have the upstream's names, so that the weights of Models Genesis and of SuPreM's U-Net load. Upstream
    normalises by the statistics of each batch, in prediction too; here each image is normalised by its own, which is
    the same for batches of one.

    Args:
        spec: Data and plan; kernels and strides are not used.
        features: Channels after the first convolution; 32 upstream.

    References:
        Zhou et al., Models Genesis, 2021; Li et al., How Well Do Supervised 3D Models Transfer to Medical Imaging
        Tasks?, 2024 (SuPreM).
    """

    def __init__(self, spec: ModelSpec, *, features: int = 32) -> None:
        super().__init__(spec.in_channels, (_DIVISOR,) * spec.ndim, min_cells=2)
        widths = [2 * features * 2**i for i in range(len(_DOWN))]
        before = [spec.in_channels, *widths]
        self.pool = _POOL[spec.ndim](2)
        for i, name in enumerate(_DOWN):
            self.add_module(name, _Down(_pair((before[i], widths[i] // 2, widths[i]), spec.ndim)))
        for i, name in zip((2, 1, 0), _UP, strict=True):
            up = CONV_TRANSPOSED[spec.ndim](widths[i + 1], widths[i + 1], 2, 2)
            self.add_module(name, _Up(up, _pair((widths[i + 1] + widths[i], widths[i], widths[i]), spec.ndim)))
        self.out_tr = nn.ModuleDict({"final_conv": CONV[spec.ndim](widths[0], spec.out_channels, 1)})

    @property
    def stem_kernel(self) -> str:
        """The first convolution."""
        return "down_tr64.ops.0.conv1.weight"

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell."""
        return self.decode(self.encode(image), image)

    def encode(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """Features of each stage, fine to coarse."""
        self.check(image)
        features: list[Tensor] = []
        for name in _DOWN:
            feature = self.pool(features[-1]) if features else image
            features.append(self.get_submodule(name)(feature))
        return features

    def decode(self, features: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits from the features of each stage; the image itself is not used."""
        del image
        feature = features[-1]
        for name, skip in zip(_UP, reversed(features[:-1]), strict=True):
            feature = self.get_submodule(name)(feature, skip)
        logits: Tensor = self.out_tr["final_conv"](feature)
        return logits


class _Down(nn.Module):
    def __init__(self, ops: nn.Module) -> None:
        super().__init__()
        self.ops = ops

    def forward(self, feature: Float[Tensor, "b c *s"]) -> Float[Tensor, "b f *s"]:
        """Features of a stage of the encoder."""
        return self.ops(feature)


class _Up(nn.Module):
    def __init__(self, up_conv: nn.Module, ops: nn.Module) -> None:
        super().__init__()
        self.up_conv, self.ops = up_conv, ops

    def forward(self, feature: Float[Tensor, "b c *s"], skip: Float[Tensor, "b d *t"]) -> Float[Tensor, "b f *t"]:
        """Features of a stage of the decoder."""
        return self.ops(cat((self.up_conv(feature), skip), dim=1))


class _ConvNorm(nn.Module):
    def __init__(self, before: int, after: int, ndim: int) -> None:
        super().__init__()
        self.conv1 = CONV[ndim](before, after, 3, padding=1)
        self.bn1 = INSTANCE_NORM[ndim](after, affine=True)
        self.act = nn.ReLU()

    def forward(self, feature: Float[Tensor, "b c *s"]) -> Float[Tensor, "b f *s"]:
        """Convolution, normalisation, ReLU."""
        return self.act(self.bn1(self.conv1(feature)))


def _pair(widths: tuple[int, int, int], ndim: int) -> nn.Sequential:
    return nn.Sequential(*(_ConvNorm(before, after, ndim) for before, after in pairwise(widths)))
