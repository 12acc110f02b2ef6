"""MonaiResNet: residual networks of volumes, from MONAI, with the weights of MedicalNet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from monai.networks.nets.resnet import ResNet, resnet_params
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.network import ModelSpec
from medseg.weights import hub
from medseg.weights.pretrained import Pretrained

_BIASED = re.compile(r"\.downsample\.0\.bias$")
_BLUNT = (18, 34)
"""Depths whose shortcuts in MedicalNet have no parameters."""


class MonaiResNet(Encoder):
    """A residual network with batch normalisation; volumes and images.

    Five features: after the stem, and after each of the four stages. With ``stem_stride=2`` their strides are 2,
    4, 8, 16 and 32 on every axis; with ``[2, 2, 1]``, for slices that lie far apart along the last axis, 1, 2, 4,
    8 and 16 there. The pooling and the stages halve all axes: MONAI's know nothing else.

    Weights that load by themselves, whatever precedes their names: MedicalNet's ``resnet_*.pth`` and
    ``resnet_*_23dataset.pth`` (``module.layer1.0.conv1.weight``; one channel, each scan with mean 0 and standard
    deviation 1; of depths 18 and 34 with ``shortcut=A``), and any ResNet of MONAI, also with its default of a
    bias before the normalisation of shortcuts, which is taken into that normalisation. MedicalNet's authors
    dilate the last two stages instead of halving; the kernels are the same.

    Args:
        spec: Data and plan; kernels and strides are not used.
        depth: Number of layers: 10, 18, 34, 50, 101, 152 or 200.
        width: Channels of the first stage; they double with every stage (four times that from depth 50).
        stem_stride: Stride of the first convolution, of kernel 7; one number, or one for each axis.
        shortcut: Shortcut where a block changes resolution or channels: ``B``, a convolution of kernel 1; ``A``, its
            input subsampled and padded with zeros; None as in MedicalNet, A for depths 18 and 34.
        loading: See ``Encoder``; for ``weights``, ``pretrained`` are MedicalNet's, downloaded.

    Raises:
        InputError: Unknown depth or shortcut, or another number of strides than axes.

    References:
        He et al., Deep Residual Learning, 2016; Chen et al., Med3D: Transfer Learning for 3D Medical Image
        Analysis, 2019.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        depth: int = 18,
        width: int = 64,
        stem_stride: int | Sequence[int] = 2,
        shortcut: str | None = None,
        **loading: Any,
    ) -> None:
        _check_settings(depth, shortcut)
        first = _per_axis(stem_stride, spec.ndim)
        block, layers, *_ = resnet_params[f"resnet{depth}"]
        expansion = 4 if block == "bottleneck" else 1
        stages = [width * 2**i for i in range(4)]
        widths = [width, *(stage * expansion for stage in stages)]
        strides = [tuple(s * 2**i for s in first) for i in range(len(widths))]
        features = [Feature(w, stride) for w, stride in zip(widths, strides, strict=True)]
        super().__init__(spec, features, strides[-1], **loading)
        self.depth = depth
        self.net = ResNet(
            block,
            layers,
            stages,
            spatial_dims=spec.ndim,
            n_input_channels=spec.in_channels,
            conv1_t_stride=first,
            shortcut_type=shortcut or ("A" if depth in _BLUNT else "B"),
            feed_forward=False,
            bias_downsample=False,
        )
        _replace_shortcuts(self.net, expansion)

    @property
    def trunk(self) -> nn.Module:
        """MONAI's ``ResNet``, without its classifier."""
        return self.net

    @property
    def stem(self) -> str:
        """The first convolution."""
        return "conv1.weight"

    def fetch(self, source: str) -> Pretrained:
        """Weights by the words of ``model.encoder.weights``; ``pretrained`` are MedicalNet's of this depth.

        Raises:
            InputError: See ``Encoder.fetch``; they can't be downloaded.
        """
        if source != "pretrained":
            return super().fetch(source)
        more = "_23dataset" if resnet_params[f"resnet{self.depth}"][-1] else ""
        repository, file = f"TencentMedicalNet/MedicalNet-Resnet{self.depth}", f"resnet_{self.depth}{more}.pth"
        return super().fetch(f"{hub.PREFIX}{repository}/{file}")

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file under MONAI's names; biases before a normalisation move into its mean."""
        renamed = {name: tensor for name, tensor in state.items() if not _BIASED.search(name)}
        for name in state.keys() - renamed.keys():
            mean = _BIASED.sub(".downsample.1.running_mean", name)
            if mean in renamed:
                renamed[mean] = renamed[mean] - state[name]
        return renamed

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        net = self.net
        features = [net.act(net.bn1(net.conv1(image)))]
        feature = net.maxpool(features[0])
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            feature = stage(feature)
            features.append(feature)
        return features


def _check_settings(depth: int, shortcut: str | None) -> None:
    """Raise on a depth or a shortcut that MONAI does not have."""
    depths = [int(name.removeprefix("resnet")) for name in resnet_params]
    if depth not in depths:
        raise InputError(f"model.encoder.depth={depth}: expected one of {', '.join(map(str, depths))}")
    if shortcut not in (None, "A", "B"):
        raise InputError(f"model.encoder.shortcut={shortcut}: expected A, B or null")


def _per_axis(stride: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """The stride of the stem on each axis."""
    strides = (stride,) * ndim if isinstance(stride, int) else tuple(stride)
    if len(strides) != ndim:
        raise InputError(f"model.encoder.stem_stride={list(strides)}: expected one number, or {ndim}")
    return strides


def _replace_shortcuts(net: Any, expansion: int) -> None:
    """Replace MONAI's shortcuts without parameters, which cut the gradient, by ``Thinned``."""
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        shortcut = stage[0].downsample
        if shortcut is not None and not isinstance(shortcut, nn.Module):
            stage[0].downsample = Thinned(stage[0].bn1.num_features * expansion, stage[0].stride)


class Thinned(nn.Module):
    """Every ``stride``-th cell, with channels of zeros appended up to ``channels``.

    MONAI's own gives the same values, but cuts the gradient (it reads ``out.data``), so that the layers before a
    shortcut learn through the parallel convolutions only.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, feature: Float[Tensor, "b c *s"]) -> Float[Tensor, "b f *t"]:
        """The shortcut of a block that halves the resolution."""
        ndim = feature.ndim - 2
        every = [slice(None, None, self.stride)] * ndim
        thin = feature[(slice(None), slice(None), *every)]
        return functional.pad(thin, (0, 0) * ndim + (0, self.channels - thin.shape[1]))
