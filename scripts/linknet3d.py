"""A 3D LinkNet as a network of one's own (docs/how-to/extend.md), with the names of the weights of deepbet."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from medseg.models.network import ModelSpec, Network

WIDTHS = (16, 16, 32, 64, 128)
"""Channels after the first convolution, and of each stage of the encoder."""


class LinkNet3d(Network):
    """Residual encoder and light decoder; features of the encoder are added to those of the decoder.

    Args:
        spec: Data and plan; kernels and strides are not used.

    References:
        Chaurasia and Culurciello, LinkNet, 2017. Fisch et al., deepbet, 2023.
    """

    ndims = (3,)

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec.in_channels, divisor=(32,) * 3)
        first = nn.Conv3d(spec.in_channels, WIDTHS[0], 7, 2, 3, bias=False)
        self.init = nn.Sequential(*normed(first, WIDTHS[0]), nn.ReLU(), nn.MaxPool3d(3, 2, 1))
        for stage in range(4):
            stride = 1 if stage == 0 else 2
            self.add_module(f"down{stage}", Down(WIDTHS[stage], WIDTHS[stage + 1], stride))
            self.add_module(f"up{3 - stage}", Up(WIDTHS[stage + 1], WIDTHS[stage], stride))
        self.tp_conv1 = nn.Sequential(*normed(nn.ConvTranspose3d(WIDTHS[0], 8, 3, 2, 1, 1), 8), nn.ReLU())
        self.conv = nn.Sequential(*normed(nn.Conv3d(8, 8, 3, 1, 1), 8), nn.ReLU())
        self.tp_conv2 = nn.ConvTranspose3d(8, spec.out_channels, 2, 2)

    @property
    def stem_kernel(self) -> str:
        """The first convolution."""
        return "init.0.weight"

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell."""
        self.check(image)
        levels = [self.init(image)]
        for stage in range(4):
            levels.append(self.get_submodule(f"down{stage}")(levels[-1]))
        features = levels.pop()
        for stage in range(4):
            features = self.get_submodule(f"up{stage}")(features) + levels.pop()
        return self.tp_conv2(self.conv(self.tp_conv1(features)))


def normed(conv: nn.Module, channels: int) -> tuple[nn.Module, nn.Module]:
    """A convolution and the normalisation of what it gives."""
    return conv, nn.InstanceNorm3d(channels)


class Block(nn.Module):
    """Two convolutions, and what they add to."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        first = nn.Conv3d(before, after, 3, stride, 1, bias=False)
        second = nn.Conv3d(after, after, 3, 1, 1, bias=False)
        self.double_conv = nn.Sequential(*normed(first, after), nn.ReLU(), *normed(second, after))
        self.downsample = nn.Sequential(*normed(nn.Conv3d(before, after, 1, stride, bias=False), after))
        if stride == 1:
            self.downsample = nn.Sequential()

    def forward(self, image: Tensor) -> Tensor:
        """Features."""
        return (self.double_conv(image) + self.downsample(image)).relu()


class Down(nn.Module):
    """Two blocks."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.block1, self.block2 = Block(before, after, stride), Block(after, after, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Features."""
        return self.block2(self.block1(image))


class Up(nn.Module):
    """Fewer channels, more cells, then the channels of the next stage."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        width = before // 4
        self.conv1 = nn.Sequential(*normed(nn.Conv3d(before, width, 1, bias=False), width), nn.ReLU())
        larger = nn.ConvTranspose3d(width, width, 3, stride, 1, stride - 1, bias=False)
        self.tp_conv = nn.Sequential(*normed(larger, width), nn.ReLU())
        self.conv2 = nn.Sequential(*normed(nn.Conv3d(width, after, 1, bias=False), after), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        """Features."""
        return self.conv2(self.tp_conv(self.conv1(image)))
