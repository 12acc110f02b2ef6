"""Image encoders of BiomedCLIP (open_clip) and MedSAM (transformers, under the names of SAM's authors)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from check_upstream import Row, compare, drawn, noise
from upstream.medical_volumes import encoder

from medseg.models.network import ModelSpec
from medseg.sample import Channel

_SHAPE = (224, 224)
_RGB = tuple(Channel(name) for name in "RGB")
_SAM = (
    ("vision_encoder.", "image_encoder."), (".layers.", ".blocks."), ("patch_embed.projection", "patch_embed.proj"),
    ("neck.conv1", "neck.0"), ("neck.layer_norm1", "neck.1"), ("neck.conv2", "neck.2"), ("neck.layer_norm2", "neck.3"),
    (".layer_norm", ".norm"),
)  # fmt: skip


def rows() -> Iterator[Row]:
    """The features of four blocks."""
    yield from _medsam()
    yield from _biomedclip()


def _spec() -> ModelSpec:
    return ModelSpec(3, 4, _SHAPE, (1.0, 1.0), (), (), _RGB)


def _medsam() -> Iterator[Row]:
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionModel

    config = {
        "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "mlp_dim": 96, "image_size": 224,
        "window_size": 14, "global_attn_indexes": [1, 3], "output_channels": 256,
    }  # fmt: skip
    torch.manual_seed(0)
    net: Any = drawn(SamVisionModel(SamVisionConfig(**config)))
    content = {}
    for name, tensor in net.state_dict().items():
        for new, old in _SAM:
            name = name.replace(new, old)
        content[name] = tensor
    image = noise(1, 3, *_SHAPE)
    settings = {"embed_dim": 24, "depth": 4, "num_heads": 3, "global_attn_indexes": [1, 3], "img_size": 224}
    options: dict[str, dict[str, Any]] = {
        "transformers": {"family": "sam", "config": config},
        "timm": {"name": "samvit_base_patch16", "settings": settings, "norm": False},
    }
    with torch.no_grad():
        states = net(image, output_hidden_states=True).hidden_states[1:]
        for option, chosen in options.items():
            given = encoder(option, content, _spec(), **chosen)(image)
            expected = [f.permute(0, 3, 1, 2) for f in states]
            yield compare(("MedSAM", "4 blocks", f"4 features, encoder={option}", "RGB"), _SHAPE, given, expected)


def _biomedclip() -> Iterator[Row]:
    from open_clip.timm_model import TimmModel

    torch.manual_seed(0)
    net: Any = drawn(TimmModel("vit_tiny_patch16_224", embed_dim=512, image_size=224, pool="", proj="linear"))
    content = {f"visual.{name}": tensor for name, tensor in net.state_dict().items()}
    own = encoder("timm", content, _spec(), name="vit_tiny_patch16_224")
    image = noise(2, 3, *_SHAPE)
    with torch.no_grad():
        expected = net.trunk.forward_features(image)
        yield compare(("BiomedCLIP", "ViT-Ti/16", "last feature", "RGB"), _SHAPE, [own(image)[-1]], [expected])
