"""MonaiSegResNet: the encoders of SegResNet and of SegResNetDS, which is VISTA3D's, from MONAI."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from jaxtyping import Float
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.segresnet_ds import SegResEncoder, scales_for_resolution
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.network import ModelSpec

_GROUPS = 8
_NORMS: dict[str, object] = {
    "group": ("group", {"num_groups": _GROUPS}),
    "instance": ("instance", {"affine": True}),
    "batch": "batch",
}


class MonaiSegResNet(Encoder):
    """Residual blocks before normalised activations, as many stages as ``blocks``; volumes and images.

    A feature for each stage, of f, 2f, 4f, ... channels with f = ``init_filters``. Strides are 1, 2, 4, ... on
    every axis; of the kind ``ds`` with ``anisotropic``, a coarse axis is not halved, and kernels do not span it,
    until the others have reached its spacing.

    Weights that load by themselves, whatever precedes their names: complete networks and the encoder of one. Kind
    ``plain`` is SegResNet's (that of MONAI's BraTS bundle: init_filters=16), kind ``ds`` is SegResNetDS's
    (VISTA3D's ``image_encoder.encoder``: init_filters=48, blocks=[1,2,2,4,4], norm=instance).

    Args:
        spec: Data and plan; the spacing for ``anisotropic``; kernels and strides are not used.
        kind: ``plain`` or ``ds``.
        init_filters: Channels of the first stage; a multiple of 8 if groups are normalised.
        blocks: Residual blocks of each stage.
        norm: Normalisation: ``group`` (8 groups of channels), ``instance`` or ``batch``.
        anisotropic: Whether strides and kernels follow the spacing; kind ``ds`` only.
        loading: See ``Encoder``.

    Raises:
        InputError: Settings that do not fit each other.

    References:
        Myronenko, 3D MRI brain tumor segmentation using autoencoder regularization, 2018; He et al., VISTA3D,
        2024.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        kind: str = "plain",
        init_filters: int = 32,
        blocks: Sequence[int] = (1, 2, 2, 4),
        norm: str = "group",
        anisotropic: bool = False,
        **loading: Any,
    ) -> None:
        _check_settings(kind, init_filters, norm, anisotropic=anisotropic)
        scales = [(2,) * spec.ndim] * len(blocks)
        if anisotropic:
            scales = [tuple(map(int, s)) for s in scales_for_resolution(list(spec.spacing), len(blocks))]
        strides = [tuple(prod(s[a] for s in scales[:i]) for a in range(spec.ndim)) for i in range(len(blocks))]
        features = [Feature(init_filters * 2**i, stride) for i, stride in enumerate(strides)]
        super().__init__(spec, features, strides[-1], **loading)
        self.kind = kind
        shared = {"norm": _NORMS[norm], "blocks_down": tuple(blocks)}
        if kind == "plain":
            net = SegResNet(spec.ndim, init_filters, spec.in_channels, blocks_up=(1,) * (len(blocks) - 1), **shared)
            parts = {"convInit": net.convInit, "down_layers": net.down_layers}
        else:
            anisotropic_scales = tuple(scales) if anisotropic else None
            net = SegResEncoder(
                spec.ndim, init_filters, spec.in_channels, anisotropic_scales=anisotropic_scales, **shared
            )
            parts = {"conv_init": net.conv_init, "layers": net.layers}
        self.net = nn.ModuleDict(parts)

    @property
    def trunk(self) -> nn.Module:
        """The encoder's part of MONAI's network, under MONAI's names."""
        return self.net

    @property
    def stem(self) -> str:
        """The first convolution."""
        return "convInit.conv.weight" if self.kind == "plain" else "conv_init.weight"

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        first, stages = self.net.values()
        features, feature = [], first(image)
        for stage in stages.children():
            if isinstance(stage, nn.ModuleDict):  # halves after its blocks
                features.append(stage["blocks"](feature))
                feature = stage["downsample"](features[-1])
            else:
                feature = stage(feature)
                features.append(feature)
        return features


def _check_settings(kind: str, init_filters: int, norm: str, *, anisotropic: bool) -> None:
    """Raise on settings that are unknown or do not fit each other."""
    if kind not in ("plain", "ds") or norm not in _NORMS:
        raise InputError(f"MonaiSegResNet: kind={kind}, norm={norm}: expected plain or ds; {', '.join(_NORMS)}")
    if norm == "group" and init_filters % _GROUPS:
        raise InputError(f"MonaiSegResNet: init_filters={init_filters} must be a multiple of {_GROUPS} groups")
    if anisotropic and kind == "plain":
        raise InputError("MonaiSegResNet: anisotropic needs kind=ds; SegResNet itself halves all axes alike")
