"""Layers of images made into layers of volumes, in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.grn import GlobalResponseNorm
from timm.layers.norm import LayerNorm2d
from timm.layers.norm_act import BatchNormAct2d, LayerNormAct2d
from timm.layers.squeeze_excite import SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from medseg.errors import InputError

_ALIKE = {
    "torch.nn.modules": "Sequential ModuleList Identity Linear Dropout GroupNorm LayerNorm",
    "timm.layers": "ConvNormAct DropPath GroupNormAct LayerNorm Linear Mlp GlobalResponseNormMlp NormMlpClassifierHead "
    "ClassifierHead SelectAdaptivePool2d",
    "timm.models.resnet": "ResNet BasicBlock Bottleneck",
    "timm.models.convnext": "ConvNeXt ConvNeXtStage Downsample",
    "timm.models.regnet": "RegNet RegStage Bottleneck",
    "timm.models.densenet": "DenseNet DenseBlock DenseLayer DenseTransition",
    "timm.models.efficientnet": "EfficientNet",
    "timm.models.mobilenetv3": "MobileNetV3",
    "timm.models._efficientnet_blocks": "ConvBnAct DepthwiseSeparableConv EdgeResidual InvertedResidual "
    "UniversalInvertedResidual",
}
"""Modules that work on volumes once their children do, as they do not depend on the number of axes."""
_GEOMETRY = ("kernel_size", "stride", "padding", "dilation")
_ACTIVATIONS = ("torch.nn.modules.activation", "timm.layers.activations")


@dataclass(frozen=True)
class Depth:
    """Geometry of the layers along the new axis.

    Attributes:
        axis: Index of the new axis among the three spatial ones.
        stride: Whether strides are those of the plane, or 1.
        kernel: Largest kernel, in cells; None for the kernel in the plane.
    """

    axis: int
    stride: bool
    kernel: int | None

    def geometry(self, layer: nn.Module) -> dict[str, tuple[int, int, int]]:
        """Kernel, stride, padding and dilation on three axes of a layer of images.

        Along the new axis, odd kernels whose padding keeps the size are as large as in the plane; average pools
        and kernels that tile the image are as large as the stride; any other kernel stays in the plane.

        Raises:
            InputError: A kernel that strides, but neither keeps the size otherwise nor tiles.
        """
        flat = {key: _two(getattr(layer, key, 1)) for key in _GEOMETRY}
        along = self._along(layer, **flat)
        return {key: self._with(pair, new) for (key, pair), new in zip(flat.items(), along, strict=True)}

    def _along(
        self,
        layer: nn.Module,
        *,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> tuple[int, int, int, int]:
        """Kernel, stride, padding and dilation along the new axis; see ``geometry``."""
        step = max(stride) if self.stride else 1
        if _keeps_size(kernel_size, padding, dilation) and _spreads(layer, step):
            cells = min(max(kernel_size), self.kernel or max(kernel_size))
            return cells, step, max(dilation) * (cells // 2), max(dilation)
        if step == 1 or isinstance(layer, nn.AvgPool2d) or (kernel_size == stride and padding == (0, 0)):
            return step, step, 0, 1
        raise InputError(
            f"model/encoder=inflated: a {type(layer).__name__} of kernel {kernel_size}, stride {stride}, padding "
            f"{padding} can't be strided along slices; choose model.encoder.depth_stride=false"
        )

    def _with(self, plane: tuple[int, int], value: int) -> tuple[int, int, int]:
        """Values of the two axes of the plane, with ``value`` inserted at the new axis."""
        values = [*plane[: self.axis], value, *plane[self.axis :]]
        return values[0], values[1], values[2]


def _keeps_size(kernel: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]) -> bool:
    """Whether the output of a layer without stride is as large as its input: odd kernels, padded by half."""
    return all(k % 2 == 1 and p == d * (k // 2) for k, p, d in zip(kernel, padding, dilation, strict=True))


def _spreads(layer: nn.Module, step: int) -> bool:
    """Whether the kernel reaches along the new axis: convolutions do, max pools only where they stride."""
    return isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.MaxPool2d) and step > 1)


def inflate_modules(module: nn.Module, depth: Depth) -> bool:
    """Replace the layers of a module by those of volumes; names of parameters stay.

    Returns:
        Whether any of them reaches into neighbouring slices.

    Raises:
        InputError: A layer that is not known to work on volumes.
    """
    _check(module)
    reaches = False
    for name, child in module.named_children():
        if type(child) in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d):
            geometry = depth.geometry(child)
            reaches |= geometry["kernel_size"][depth.axis] > geometry["stride"][depth.axis]
            setattr(module, name, _of_volumes(child, geometry))
        elif type(child) in _OTHER_FORWARD:
            child.__class__ = _OTHER_FORWARD[type(child)]  # the same parameters
            if isinstance(child, ConvNeXtBlock):
                reaches |= inflate_modules(child, depth)
        else:
            reaches |= inflate_modules(child, depth)
    return reaches


def _check(module: nn.Module) -> None:
    """Raise on a module that is not known to work on volumes."""
    kind, place = type(module).__name__, type(module).__module__
    listed = any(place.startswith(start) and kind in names.split() for start, names in _ALIKE.items())
    if not listed and type(module) not in _OTHER_FORWARD.values() and not place.startswith(_ACTIVATIONS):
        raise InputError(
            f"model/encoder=inflated knows timm's ResNet, ConvNeXt, RegNet, DenseNet, EfficientNet and MobileNet, "
            f"but no {kind} ({place}); model/encoder=sliced runs any encoder slice by slice"
        )


def _of_volumes(flat: Any, geometry: Mapping[str, Any]) -> nn.Module:
    """A convolution, whose random kernels keep the variance of the response, or a pool."""
    if isinstance(flat, nn.MaxPool2d):
        return nn.MaxPool3d(ceil_mode=flat.ceil_mode, **geometry)
    if isinstance(flat, nn.AvgPool2d):
        shape = {key: value for key, value in geometry.items() if key != "dilation"}
        return nn.AvgPool3d(ceil_mode=flat.ceil_mode, count_include_pad=flat.count_include_pad, **shape)
    conv = nn.Conv3d(flat.in_channels, flat.out_channels, groups=flat.groups, bias=flat.bias is not None, **geometry)
    with torch.no_grad():
        cells = conv.weight.numel() / flat.weight.numel()
        conv.weight.normal_(std=float(flat.weight.std(correction=0)) / cells**0.5)
        if conv.bias is not None:
            conv.bias.copy_(flat.bias)
    return conv


def _two(value: Any) -> tuple[int, int]:
    """A value for each of the two axes."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class OnPlanes:
    """For layers that treat all cells alike, or pool them all: they run with the last two axes merged."""

    def forward(self, feature: Float[Tensor, "b c h w d"]) -> Float[Tensor, "b c h w d"]:
        """Result of the layer itself."""
        result: Tensor = super().forward(feature.flatten(3))  # type: ignore[misc]
        return result.reshape(feature.shape)


class LayerNormOfVolumes(OnPlanes, LayerNorm2d):
    """Normalises over channels."""


class LayerNormActOfVolumes(OnPlanes, LayerNormAct2d):
    """Normalises over channels, and activates."""


class BatchNormActOfVolumes(OnPlanes, BatchNormAct2d):
    """Normalises over the batch, and activates."""


class SEModuleOfVolumes(OnPlanes, SEModule):
    """Weighs channels by their mean over the volume."""


class SqueezeExciteOfVolumes(OnPlanes, SqueezeExcite):
    """Weighs channels by their mean over the volume."""


class ResponseNormOfVolumes(GlobalResponseNorm):
    """Weighs channels by their fraction of the response over the volume."""

    def forward(self, feature: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """Result of the layer itself, of features whose channels are last or first."""
        first = 2 if self.channel_dim == -1 else 3
        result: Tensor = super().forward(feature.flatten(first, first + 1))
        return result.reshape(feature.shape)


class ConvNeXtBlockOfVolumes(ConvNeXtBlock):
    """A depthwise convolution and a perceptron, added to the input."""

    def forward(self, feature: Float[Tensor, "b c h w d"]) -> Float[Tensor, "b f u v e"]:
        """As ``ConvNeXtBlock``, which names the axes of images."""
        result = self.conv_dw(feature)
        if self.use_conv_mlp:
            result = self.mlp(self.norm(result))
        else:
            result = self.mlp(self.norm(result.movedim(1, -1))).movedim(-1, 1)
        if self.gamma is not None:
            result = result * self.gamma.view(-1, 1, 1, 1)
        block: Tensor = self.drop_path(result) + self.shortcut(feature)
        return block


_OTHER_FORWARD: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: nn.BatchNorm3d,
    BatchNormAct2d: BatchNormActOfVolumes,
    LayerNorm2d: LayerNormOfVolumes,
    LayerNormAct2d: LayerNormActOfVolumes,
    SEModule: SEModuleOfVolumes,
    SqueezeExcite: SqueezeExciteOfVolumes,
    GlobalResponseNorm: ResponseNormOfVolumes,
    ConvNeXtBlock: ConvNeXtBlockOfVolumes,
}
