"""How each family of transformers' encoders is built, and how its features are taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from medseg.weights.positions import resample

Read = Callable[[nn.Module, Tensor, "Family", Sequence[int]], list[Tensor]]
"""Network, image, family and indices to features."""


@dataclass(frozen=True)
class Family:
    """How a family is built and read.

    Attributes:
        network: Its class in transformers.
        read: Gives the features.
        tokens: Whether they are tokens.
        prefix: Number of tokens without a place, without registers.
        norm: Name of the last normalisation, if every feature is to pass it.
        depth: Name of the setting that counts blocks of a plain transformer, or that lists blocks of each stage.
        names: Names of the stages in transformers, where they are not all but the stem.
        settings: Settings of the configuration that leave out what no feature depends on.
        options: Constructor arguments that leave out what no feature depends on.
        call: Arguments of ``forward``.
        idle: Names of modules and parameters that no feature depends on; taken out.
    """

    network: str
    read: Read
    tokens: bool = False
    prefix: int = 0
    norm: str = ""
    depth: str = "num_hidden_layers"
    names: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    call: Mapping[str, object] = field(default_factory=dict)
    idle: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether all blocks are alike, so that features may be taken after any."""
        return self.depth == "num_hidden_layers"

    @property
    def source(self) -> type[PreTrainedModel]:
        """The class of transformers; imported only now."""
        network: type[PreTrainedModel] = getattr(transformers, self.network)
        return network

    def prepare(self, config: PreTrainedConfig) -> PreTrainedConfig:
        """A configuration, changed in place: all stages are given, and nothing that no feature depends on."""
        for name, value in self.settings.items():
            setattr(config, name, value)
        if self.read is stages:
            config.out_features = list(self.names) or [name for name in config.stage_names if name != "stem"]
        return config

    def build(self, config: PreTrainedConfig) -> PreTrainedModel:
        """The network of a configuration that is prepared, without what no feature depends on."""
        net = self.source(config, **self.options)
        for name in self.idle:
            parent, _, leaf = name.rpartition(".")
            owner = net.get_submodule(parent)
            setattr(owner, leaf, nn.Identity() if isinstance(getattr(owner, leaf), nn.Module) else None)
        return net


def blocks(net: nn.Module, image: Tensor, family: Family, indices: Sequence[int]) -> list[Tensor]:
    """Tokens after blocks of a plain transformer, normalised where the family says so."""
    states = net(image, output_hidden_states=True, **family.call).hidden_states
    norm = net.get_submodule(family.norm) if family.norm else nn.Identity()
    return [norm(states[i + 1]) for i in indices]


def states(net: nn.Module, image: Tensor, family: Family, indices: Sequence[int]) -> list[Tensor]:
    """Grids after each stage."""
    hidden = net(image, output_hidden_states=True).hidden_states
    return [hidden[i] for i in indices]


def stages(net: nn.Module, image: Tensor, family: Family, indices: Sequence[int]) -> list[Tensor]:
    """Grids after each stage, as transformers' backbones give them: normalised, where they have layers for it."""
    maps = net(image).feature_maps
    return [maps[i] for i in indices]


def sam(net: nn.Module, image: Tensor, family: Family, indices: Sequence[int]) -> list[Tensor]:
    """Grids after blocks of SAM's encoder, without its neck.

    Transformers' own ``forward`` takes one image size. Here absolute positions are resampled (bicubic) for
    others; relative ones are interpolated by the blocks themselves.
    """
    encoder: Any = net.get_submodule("vision_encoder")
    cells = encoder.patch_embed.projection(image).permute(0, 2, 3, 1)
    if encoder.pos_embed is not None:
        cells = cells + resample(encoder.pos_embed[0], cells.shape[1:3])
    features = []
    for i, block in enumerate(encoder.layers.children()):
        cells = block(cells)
        if i in indices:
            features.append(cells.permute(0, 3, 1, 2))
    return features


def sam2(net: nn.Module, image: Tensor, family: Family, indices: Sequence[int]) -> list[Tensor]:
    """Grids after each stage of SAM 2's Hiera, without its neck."""
    hidden = net(image).intermediate_hidden_states
    return [hidden[i].permute(0, 3, 1, 2) for i in indices]


_ANY_SHAPE = {"interpolate_pos_encoding": True}
_NO_POOLING = {"add_pooling_layer": False}
_MASK = ("embeddings.mask_token",)

FAMILIES = {
    "dinov2": Family(
        "Dinov2Model", blocks, tokens=True, prefix=1, norm="layernorm", settings={"use_mask_token": False},
    ),
    "dinov2_with_registers": Family(
        "Dinov2WithRegistersModel", blocks, tokens=True, prefix=1, norm="layernorm", idle=_MASK,
    ),
    "dinov3_vit": Family("DINOv3ViTModel", blocks, tokens=True, prefix=1, norm="norm", idle=_MASK),
    "dinov3_convnext": Family("DINOv3ConvNextBackbone", stages, depth="depths"),
    "sam_vision_model": Family("SamVisionModel", sam, idle=("vision_encoder.neck",)),
    "sam2_hiera_det_model": Family("Sam2HieraDetModel", sam2, depth="blocks_per_stage"),
    "cvt": Family("CvtModel", states, depth="depth"),
    "vit": Family(
        "ViTModel", blocks, tokens=True, prefix=1, options=_NO_POOLING, call=_ANY_SHAPE, idle=("layernorm",),
    ),
    "clip_vision_model": Family(
        "CLIPVisionModel", blocks, tokens=True, prefix=1, call=_ANY_SHAPE, idle=("post_layernorm",),
    ),
    "siglip_vision_model": Family(
        "SiglipVisionModel", blocks, tokens=True, settings={"vision_use_head": False}, call=_ANY_SHAPE,
        idle=("post_layernorm",),
    ),
    "beit": Family(
        "BeitModel", blocks, tokens=True, prefix=1, settings={"use_mean_pooling": True}, options=_NO_POOLING,
        call=_ANY_SHAPE,
    ),
    "vitdet": Family("VitDetBackbone", stages),
    "swin": Family("SwinBackbone", stages, depth="depths", idle=("swin.layernorm",)),
    "swinv2": Family("Swinv2Backbone", stages, depth="depths"),
    "convnext": Family("ConvNextBackbone", stages, depth="depths"),
    "convnextv2": Family("ConvNextV2Backbone", stages, depth="depths"),
    "segformer": Family("SegformerModel", states, depth="depths", settings={"reshape_last_stage": True}),
    "pvt_v2": Family("PvtV2Backbone", stages, depth="depths"),
    "focalnet": Family(
        "FocalNetBackbone", stages, depth="depths", names=("stem", "stage1", "stage2", "stage4"),
        idle=("focalnet.layernorm",),
    ),
    "resnet": Family("ResNetBackbone", stages, depth="depths"),
}  # fmt: skip
"""By ``model_type``."""
