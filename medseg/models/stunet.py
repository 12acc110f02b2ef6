"""STUNet: the U-Net of residual blocks that STU-Net trained on TotalSegmentator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, cat, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.layers import CONV, INSTANCE_NORM, LEAK, init_he
from medseg.models.network import ModelSpec, Network
from medseg.weights.nnunet_names import turned_kernel
from medseg.weights.nnunet_plans import REVERSED
from medseg.weights.pretrained import Pretrained

_STAGES = 6


class _Size(NamedTuple):
    """Channels of the first stage, and residual blocks of each stage."""

    features: int
    blocks: int


SIZES = {"small": _Size(16, 1), "base": _Size(32, 1), "large": _Size(64, 2), "huge": _Size(96, 3)}
_WRAPPED = re.compile(r"^(?:module\.|_orig_mod\.)+")
_OUTPUT = re.compile(r"^seg_outputs\.(\d+)\.")
_WIDEST = 16
"""Channels of the last two stages for one of the first."""


class STUNet(Network):
    """Six stages of residual blocks, which start as their shortcuts; upsampling by the nearest cell.

    Strides are the first five of the plan, or with 1 for those that it lacks; kernels are 3 on every axis, as in the
    published networks. Parameters have the upstream's names, so that its checkpoints of nnU-Net v1 (``.model``) and v2
    (``.pth``) load; their kernels are turned from slices, rows, columns to the axes of medseg.

    Args:
        spec: Data and plan.
        size: One of ``SIZES``: 14, 58, 440 or 1,457 million parameters.
        features: Channels of the first stage instead of the size's; they double up to 16 times as many.
        blocks: Residual blocks of each stage, likewise.
        deep_supervision: In training, logits at each resolution instead of the finest only.

    Raises:
        InputError: An unknown size.

    References:
        Huang et al., STU-Net: Scalable and Transferable Medical Image Segmentation Models Empowered by Large-Scale
        Supervised Pre-training, 2023.
    """

    follows_plan = True

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        features: int | None = None,
        blocks: int | None = None,
        deep_supervision: bool = True,
    ) -> None:
        strides = _strides(spec)
        super().__init__(spec.in_channels, [prod(axis) for axis in zip(*strides, strict=True)], min_cells=2)
        base, depth = _chosen(size, features, blocks)
        widths = [base * min(2**i, _WIDEST) for i in range(_STAGES)]
        fine, ones, conv = widths[-2::-1], (1,) * spec.ndim, CONV[spec.ndim]
        self.deep_supervision = deep_supervision
        stages = zip([spec.in_channels, *widths], widths, strides, strict=False)
        self.conv_blocks_context = nn.ModuleList(_stage(*stage, depth) for stage in stages)
        self.upsample_layers = nn.ModuleList(
            nn.ModuleDict({"conv": conv(before, after, 1)}) for before, after in zip(widths[::-1], fine, strict=False)
        )
        self.conv_blocks_localization = nn.ModuleList(_stage(2 * after, after, ones, depth) for after in fine)
        outputs = _outputs(strides) if deep_supervision else [len(fine) - 1]
        self.seg_outputs = nn.ModuleDict({str(i): conv(fine[i], spec.out_channels, 1) for i in outputs})
        _initialise(self)

    @property
    def stem_kernel(self) -> tuple[str, ...]:
        """The first convolution, and the one next to it on the way past the block."""
        return tuple(f"conv_blocks_context.0.0.conv{i}.weight" for i in (1, 3))

    def adopt(self, found: Pretrained) -> Pretrained:
        """Weights of STU-Net with the axes of medseg; those of a checkpoint of medseg as they are."""
        if len(self.divisor) < 3 or any(name.startswith("network.") for name in found.state):
            return found
        state = {
            _WRAPPED.sub("", name): turned_kernel(tensor, REVERSED) if tensor.ndim == 5 else tensor
            for name, tensor in found.state.items()
        }
        placed = {name: t for name, t in state.items() if not (n := _OUTPUT.match(name)) or n[1] in self.seg_outputs}
        return replace(found, state=placed)

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"] | list[Tensor]:
        """Logits; a list from fine to coarse in training under deep supervision."""
        return self.decode(self.encode(image), image)

    def encode(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """Features of each stage, fine to coarse."""
        self.check(image)
        features, feature = [], image
        for stage in self.conv_blocks_context:
            feature = stage(feature)
            features.append(feature)
        return features

    def decode(
        self, features: Sequence[Tensor], image: Float[Tensor, "b c *s"]
    ) -> Float[Tensor, "b k *s"] | list[Tensor]:
        """Logits from the features of each stage; the image itself is not used."""
        del image
        feature, levels = features[-1], []
        stages = zip(self.upsample_layers, self.conv_blocks_localization, reversed(features[:-1]), strict=True)
        for i, (up, stage, skip) in enumerate(stages):
            larger = functional.interpolate(feature, skip.shape[2:], mode="nearest")
            feature = stage(cat((up.get_submodule("conv")(larger), skip), dim=1))
            if str(i) in self.seg_outputs and (self.training or i == len(self.upsample_layers) - 1):
                levels.append(self.seg_outputs[str(i)](feature))
        return levels[::-1] if self.training and self.deep_supervision else levels[-1]


def _chosen(size: str, features: int | None, blocks: int | None) -> _Size:
    """A size, with what is set apart from it."""
    if size not in SIZES:
        raise InputError(f"model.size={size}: expected one of {', '.join(SIZES)}")
    return _Size(features or SIZES[size].features, blocks or SIZES[size].blocks)


def _strides(spec: ModelSpec) -> list[tuple[int, ...]]:
    """Stride at the entrance of each stage: of the plan, then 1."""
    ones = (1,) * spec.ndim
    planned = [ones, *spec.strides[1:_STAGES]]
    return planned + [ones] * (_STAGES - len(planned))


def _outputs(strides: Sequence[tuple[int, ...]]) -> list[int]:
    """Decoder stages with logits, coarse to fine: the last of each resolution."""
    finer = list(reversed(strides))[1:]
    return [i for i, stride in enumerate(finer) if max(stride) > 1 or i == len(finer) - 1]


def _initialise(network: nn.Module) -> None:
    """He initialisation, with residual blocks that start as their shortcut."""
    init_he(network)
    for module in network.modules():
        if isinstance(module, _Residual):
            nn.init.zeros_(module.norm2.get_parameter("weight"))


class _Residual(nn.Module):
    """Two convolutions, each normalised; the input is added, by a convolution of one cell if that changes its shape."""

    def __init__(self, before: int, after: int, stride: Sequence[int], *, first: bool) -> None:
        super().__init__()
        ndim = len(stride)
        conv, norm = CONV[ndim], INSTANCE_NORM[ndim]
        self.conv1 = conv(before, after, 3, tuple(stride), 1)
        self.norm1 = norm(after, affine=True)
        self.conv2 = conv(after, after, 3, 1, 1)
        self.norm2 = norm(after, affine=True)
        self.conv3 = conv(before, after, 1, tuple(stride)) if first else nn.Identity()
        self.act = nn.LeakyReLU(LEAK)

    def forward(self, feature: Float[Tensor, "b c *s"]) -> Float[Tensor, "b f *t"]:
        """Features of the block; ``t`` is ``s`` divided by the stride."""
        inner = self.norm2(self.conv2(self.act(self.norm1(self.conv1(feature)))))
        return self.act(inner + self.conv3(feature))


def _stage(before: int, after: int, stride: Sequence[int], blocks: int) -> nn.Sequential:
    """Blocks of a stage, of which the first changes channels and resolution."""
    ones = (1,) * len(stride)
    further = (_Residual(after, after, ones, first=False) for _ in range(blocks - 1))
    return nn.Sequential(_Residual(before, after, stride, first=True), *further)
