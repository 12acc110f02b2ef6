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
"""Modules that are of volumes as soon as their parts are: nothing in them counts axes. Heads are never run."""
_GEOMETRY = ("kernel_size", "stride", "padding", "dilation")
_ACTIVATIONS = ("torch.nn.modules.activation", "timm.layers.activations")


@dataclass(frozen=True)
class Depth:
    """How layers go along the new axis.

    Attributes:
        axis: Which of the three spatial axes is new.
        stride: Whether strides are those of the plane, or 1.
        kernel: Most cells of a kernel; None for as many as in the plane.
    """

    axis: int
    stride: bool
    kernel: int | None

    def geometry(self, layer: nn.Module) -> dict[str, tuple[int, int, int]]:
        """Kernel, stride, padding and dilation on three axes of a layer of images.

        Along the new axis, odd kernels whose padding keeps the size have as many cells as in the plane; means
        have those of the stride, as have kernels that tile the image; any other kernel stays in the plane.

        Raises:
            InputError: A kernel that strides, but neither keeps the size otherwise nor tiles.
        """
        flat = {key: _two(getattr(layer, key, 1)) for key in _GEOMETRY}
        kernel, stride, padding, dilation = (flat[key] for key in _GEOMETRY)
        step = max(stride) if self.stride else 1
        keeps = all(k % 2 == 1 and p == d * (k // 2) for k, p, d in zip(kernel, padding, dilation, strict=True))
        if keeps and (isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.MaxPool2d) and step > 1)):
            cells = min(max(kernel), self.kernel or max(kernel))
            along = (cells, step, max(dilation) * (cells // 2), max(dilation))
        elif step == 1 or isinstance(layer, nn.AvgPool2d) or (kernel == stride and padding == (0, 0)):
            along = (step, step, 0, 1)
        else:
            raise InputError(
                f"model/encoder=inflated: a {type(layer).__name__} of kernel {kernel}, stride {stride}, padding "
                f"{padding} can't be strided along slices; choose model.encoder.depth_stride=false"
            )
        return {key: self._with(pair, new) for (key, pair), new in zip(flat.items(), along, strict=True)}

    def _with(self, plane: tuple[int, int], value: int) -> tuple[int, int, int]:
        placed = [*plane[: self.axis], value, *plane[self.axis :]]
        return placed[0], placed[1], placed[2]


def inflate_modules(module: nn.Module, depth: Depth) -> bool:
    """Make the layers within a module those of volumes; names of parameters stay.

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
    kind, place = type(module).__name__, type(module).__module__
    known = any(place.startswith(start) and kind in names.split() for start, names in _ALIKE.items())
    if not known and type(module) not in _OTHER_FORWARD.values() and not place.startswith(_ACTIVATIONS):
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
    made = nn.Conv3d(flat.in_channels, flat.out_channels, groups=flat.groups, bias=flat.bias is not None, **geometry)
    with torch.no_grad():
        cells = made.weight.numel() / flat.weight.numel()
        made.weight.normal_(std=float(flat.weight.std(correction=0)) / cells**0.5)
        if made.bias is not None:
            made.bias.copy_(flat.bias)
    return made


def _two(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class OnPlanes:
    """For layers that treat all cells alike, or pool them all: the last two axes count as one meanwhile."""

    def forward(self, feature: Float[Tensor, "b c h w d"]) -> Float[Tensor, "b c h w d"]:
        """The layer's own result."""
        given: Tensor = super().forward(feature.flatten(3))  # type: ignore[misc]
        return given.reshape(feature.shape)


class LayerNormOfVolumes(OnPlanes, LayerNorm2d):
    """Normalises over channels."""


class LayerNormActOfVolumes(OnPlanes, LayerNormAct2d):
    """Normalises over channels, and activates."""


class BatchNormActOfVolumes(OnPlanes, BatchNormAct2d):
    """Normalises over the batch, and activates."""


class SEModuleOfVolumes(OnPlanes, SEModule):
    """Weighs channels by what the whole volume shows."""


class SqueezeExciteOfVolumes(OnPlanes, SqueezeExcite):
    """Weighs channels by what the whole volume shows."""


class ResponseNormOfVolumes(GlobalResponseNorm):
    """Weighs channels by their share of the response in the whole volume."""

    def forward(self, feature: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """The layer's own result, of features whose channels are last or first."""
        first = 2 if self.channel_dim == -1 else 3
        given: Tensor = super().forward(feature.flatten(first, first + 1))
        return given.reshape(feature.shape)


class ConvNeXtBlockOfVolumes(ConvNeXtBlock):
    """A depthwise convolution and a perceptron, added to what came."""

    def forward(self, feature: Float[Tensor, "b c h w d"]) -> Float[Tensor, "b f u v e"]:
        """As ``ConvNeXtBlock``, which names the axes of images."""
        given = self.conv_dw(feature)
        if self.use_conv_mlp:
            given = self.mlp(self.norm(given))
        else:
            given = self.mlp(self.norm(given.movedim(1, -1))).movedim(-1, 1)
        if self.gamma is not None:
            given = given * self.gamma.view(-1, 1, 1, 1)
        added: Tensor = self.drop_path(given) + self.shortcut(feature)
        return added


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
