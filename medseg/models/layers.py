"""Convolution blocks of the U-Nets, for two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from jaxtyping import Float
from torch import Tensor, nn

CONV: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
AVG_POOL: dict[int, type[nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
INSTANCE_NORM: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
BATCH_NORM: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
NORMS = ("instance", "batch", "group")
LEAK = 0.01
"""Negative slope of the leaky ReLU, and of the He initialisation that goes with it."""


class CellNorm(nn.LayerNorm):
    """Normalises every cell alone, over its channels: nothing depends on the rest of the patch, nor on the batch.

    The same as timm's ``LayerNorm2d``, for any number of axes, and without importing timm for a plain U-Net.
    """

    def forward(self, feature: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """The same shape."""
        return super().forward(feature.movedim(1, -1)).movedim(-1, 1)


def normalisation(norm: str, channels: int, ndim: int) -> nn.Module:
    """Normalisation of each image and channel alone, over the batch, or of each image over groups of channels.

    The first and the last take out of a patch how bright it is as a whole, which is right where units are arbitrary
    (MR) and wrong where brightness tells the classes apart (reflectance). Groups are at most 32 and have two channels
    or more, so that a single cell can be normalised.

    Args:
        norm: One of ``NORMS``.
        channels: Number of channels of the feature.
        ndim: Number of spatial axes.

    Example:
        >>> normalisation("group", 48, 3).num_groups, normalisation("group", 32, 3).num_groups
        (16, 16)
    """
    if norm == "group":
        groups = gcd(channels, 32)
        return nn.GroupNorm(groups if groups < channels else max(groups // 2, 1), channels)
    return BATCH_NORM[ndim](channels) if norm == "batch" else INSTANCE_NORM[ndim](channels, affine=True)


def conv_norm(
    in_channels: int, features: int, kernel: Sequence[int], stride: Sequence[int], norm: str
) -> nn.Sequential:
    """Convolution and normalisation: same size if the stride is 1 and kernels are odd.

    The convolution has no bias, as the normalisation subtracts it again (nnU-Net keeps it; the function
    is the same).
    """
    ndim, kernel, stride = len(kernel), tuple(kernel), tuple(stride)
    padding = tuple(k // 2 for k in kernel)
    conv = CONV[ndim](in_channels, features, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, normalisation(norm, features, ndim))


class ConvBlock(nn.Sequential):
    """Convolution, normalisation, leaky ReLU."""

    def __init__(
        self, in_channels: int, features: int, kernel: Sequence[int], stride: Sequence[int], norm: str
    ) -> None:
        super().__init__(*conv_norm(in_channels, features, kernel, stride, norm), nn.LeakyReLU(LEAK, inplace=True))


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the block's input, then leaky ReLU.

    Where the stride exceeds 1 the input is averaged, and where channels change it is projected by a
    convolution of kernel 1. The last normalisation starts at zero, so that the block starts out as its
    own shortcut.

    References:
        He et al., Bag of Tricks for Image Classification, 2019 (ResNet-D shortcut, zero start), as in
        nnU-Net's residual encoder.
    """

    def __init__(
        self, in_channels: int, features: int, kernel: Sequence[int], stride: Sequence[int], norm: str
    ) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        self.first = ConvBlock(in_channels, features, kernel, stride, norm)
        self.second = conv_norm(features, features, kernel, ones, norm)
        shortcut: list[nn.Module] = []
        if tuple(stride) != ones:
            shortcut.append(AVG_POOL[len(kernel)](tuple(stride), tuple(stride)))
        if in_channels != features:
            shortcut.append(conv_norm(in_channels, features, ones, ones, norm))
        self.shortcut = nn.Sequential(*shortcut)
        self.act = nn.LeakyReLU(LEAK, inplace=True)

    def forward(self, feature: Float[Tensor, "b c *s"]) -> Float[Tensor, "b f *t"]:
        """Features of the block; ``t`` is ``s`` divided by the stride."""
        return self.act(self.second(self.first(feature)) + self.shortcut(feature))


def stack(
    block: type[ConvBlock] | type[ResidualBlock],
    n: int,
    in_channels: int,
    features: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    norm: str,
) -> nn.Sequential:
    """``n`` blocks in a row; the first changes channels and resolution."""
    first = block(in_channels, features, kernel, stride, norm)
    return nn.Sequential(first, *(block(features, features, kernel, (1,) * len(kernel), norm) for _ in range(n - 1)))


def init_he(network: nn.Module) -> None:
    """He initialisation of all convolutions for leaky ReLU; residual blocks start as their shortcut."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, a=LEAK)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.second[1].get_parameter("weight"))
