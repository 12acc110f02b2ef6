"""torchgeo's weights by the names of their enums, with the networks that they are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torchvision  # type: ignore[import-untyped]
from jaxtyping import Float
from torch import Tensor, nn
from torchgeo.models import get_model, get_model_weights

from medseg.errors import InputError
from medseg.models.axes import check_axes
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.encoders.vit import choose
from medseg.models.network import ModelSpec
from medseg.models.timm.encoder import Timm
from medseg.models.torchgeo import weights as torchgeo_weights
from medseg.weights.pretrained import Pretrained

_STAGES = 4
_WAY = "model.encoder.file=PATH"
_USUAL = "resnet18"
"""The network where neither its name nor weights are given."""


def torchgeo(
    spec: ModelSpec,
    *,
    name: str | None = None,
    file: str | None = None,
    indices: Sequence[int] | None = None,
    weights: str | None = None,
    **loading: Any,
) -> Encoder:
    """The network that weights of torchgeo are for: a ResNet or ViT of timm, or a Swin of torchvision; 2D only.

    Args:
        spec: Data and plan.
        name: torchgeo's name of the network, such as ``resnet50``; None to follow from ``weights``, or ``resnet18``.
        file: Where the file of ``weights`` lies; None downloads it, or takes it from torch's cache.
        indices: Which features; see ``Timm`` and ``Swin``.
        weights: An entry of torchgeo's enums, such as ``ResNet50_Weights.SENTINEL2_ALL_MOCO``; None for random
            ones.
        loading: See ``Encoder``.

    Raises:
        InputError: Volumes; an unknown entry or network, or one without features; a network other than the entry's.
    """
    if weights is not None:
        model, _ = torchgeo_weights.find(weights)
        if name not in (None, model):
            raise InputError(f"model.encoder.name={name}, but {weights} is for {model}; set model.encoder.name=null")
    else:
        model = torchgeo_weights.check_model(name or _USUAL)
    if file is not None and weights is None:
        raise InputError(f"model.encoder.file={file} needs model.encoder.weights, the entry of torchgeo that it is")
    kind = Swin if model.startswith("swin") else TorchGeoTimm
    return kind(spec, name=model, file=file, indices=indices, weights=weights, **loading)


class TorchGeoTimm(Timm):
    """A network of timm for weights of torchgeo; see ``Timm``, and ``torchgeo`` for the arguments."""

    def __init__(self, spec: ModelSpec, *, name: str, file: str | None, **settings: Any) -> None:
        size = _told(name, "img_size")
        super().__init__(spec, name=name, settings={} if size is None else {"img_size": size}, **settings)
        self.file = file

    def fetch(self, source: str) -> Pretrained:
        """Weights of torchgeo, with the bands and values that they were trained on."""
        return torchgeo_weights.fetch(source, file=self.file, way=_WAY)


class Swin(Encoder):
    """A Swin transformer of torchvision, of the first or second version, for weights of torchgeo; 2D only.

    Features are those of the four stages, of strides 4 to 32; that of the last stage is normalised by the last
    layer. Windows are padded, so that image shapes are free in multiples of 32.

    Args:
        spec: Data and plan.
        name: torchgeo's.
        file: See ``torchgeo``.
        indices: Which stages, from 0 to 3; None for all. Stages after the last of them are left out.
        loading: See ``torchgeo``.

    Raises:
        InputError: Volumes; indices that are not stages in order.

    References:
        Liu et al., Swin Transformer V2, 2022; Bastani et al., SatlasPretrain, 2023.
    """

    ndims = (2,)

    def __init__(
        self,
        spec: ModelSpec,
        *,
        name: str,
        file: str | None,
        indices: Sequence[int] | None,
        **loading: Any,
    ) -> None:
        check_axes(f"encoder {name} of torchgeo", self.ndims, spec)
        stages = choose(_STAGES, indices)
        net = _build_swin(name, spec.in_channels)
        width = net.features[0][0].out_channels
        features = [Feature(width * 2**stage, (4 * 2**stage,) * 2) for stage in stages]
        unit = 4 * 2 ** stages[-1]
        super().__init__(spec, features, (unit, unit), **loading)
        self.net: Any = net
        self.file, self.stages = file, stages
        net.features = net.features[: 2 * stages[-1] + 2]  # patches, then stages with a merging before each
        if stages[-1] + 1 < _STAGES:
            net.norm = nn.Identity()

    @property
    def trunk(self) -> nn.Module:
        """The network of torchvision, without its classifier."""
        return self.net

    @property
    def stem(self) -> str | None:
        """The kernel of the patches."""
        return "features.0.0.weight"

    def left_out(self, name: str) -> bool:
        """Stages after the last feature."""
        return name.startswith("features.") and int(name.split(".")[1]) < 2 * _STAGES

    def fetch(self, source: str) -> Pretrained:
        """Weights of torchgeo, with the bands and values that they were trained on."""
        return torchgeo_weights.fetch(source, file=self.file, way=_WAY)

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        kept, stage = [], image
        for place, layer in enumerate(self.net.features):
            stage = layer(stage)
            if place % 2 and place // 2 in self.stages:
                kept.append(self.net.norm(stage) if place // 2 + 1 == _STAGES else stage)
        return [feature.permute(0, 3, 1, 2) for feature in kept]


def _build_swin(name: str, in_channels: int) -> Any:
    """The network without its classifier; with windows of the size that the weights of its name have."""
    window = _told(name, "window_size")
    if name == "swin_b" and window is not None:  # torchgeo's own function takes the size only together with weights
        net = torchvision.models.SwinTransformer(
            patch_size=[4, 4],
            embed_dim=128,
            depths=[2, 2, 18, 2],
            num_heads=[4, 8, 16, 32],
            window_size=[window, window],
            stochastic_depth_prob=0.5,
        )
    else:
        net = get_model(name)
    kernel = net.features[0][0]
    net.features[0][0] = nn.Conv2d(in_channels, kernel.out_channels, kernel.kernel_size, kernel.stride)
    net.head = nn.Identity()
    return net


def _told(name: str, key: str) -> object:
    """What torchgeo tells of the weights of a network; None if nothing."""
    return next(iter(get_model_weights(name))).meta.get(key)
