"""Sizes of the families of transformers, as published; other settings are transformers' defaults."""

from __future__ import annotations

from collections.abc import Mapping

Sizes = Mapping[str, Mapping[str, Mapping[str, object]]]
"""By family (``model_type`` of transformers) and size: settings of its configuration. The first size is the usual."""

ALIASES = {
    "sam": "sam_vision_model", "sam2": "sam2_hiera_det_model", "clip": "clip_vision_model",
    "siglip": "siglip_vision_model", "dinov3": "dinov3_vit", "vit_mae": "vit",
}  # fmt: skip
"""Shorter names of families, and of networks whose encoder is one of another family."""


def _plain(width: int, depth: int, heads: int, **others: object) -> dict[str, object]:
    return {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads, **others}


def _mlp(width: int, depth: int, heads: int, **others: object) -> dict[str, object]:
    return _plain(width, depth, heads, intermediate_size=4 * width, **others)


def _pyramid(width: int, depths: list[int], **others: object) -> dict[str, object]:
    return {"hidden_sizes": [width * 2**i for i in range(4)], "depths": depths, **others}


def _swin(width: int, depth: int, heads: int, **others: object) -> dict[str, object]:
    return {"embed_dim": width, "depths": [2, 2, depth, 2], "num_heads": [heads * 2**i for i in range(4)], **others}


def _sam2(width: int, blocks: list[int], attend: list[int], **others: object) -> dict[str, object]:
    widths = [width * 2**i for i in range(4)]
    backbone = {"hidden_size": width, "embed_dim_per_stage": widths, "blocks_per_stage": blocks}
    return {**backbone, "global_attention_blocks": attend, **others}


_DINOV2 = {
    "small": _plain(384, 12, 6), "base": _plain(768, 12, 12), "large": _plain(1024, 24, 16),
    "giant": _plain(1536, 40, 24, use_swiglu_ffn=True),
}  # fmt: skip
_DINOV3 = {
    "small": _mlp(384, 12, 6), "small_plus": _mlp(384, 12, 6, use_gated_mlp=True, hidden_act="silu"),
    "base": _mlp(768, 12, 12), "large": _mlp(1024, 24, 16),
    "huge_plus": _mlp(1280, 32, 20, use_gated_mlp=True, hidden_act="silu"),
    "7b": _plain(4096, 40, 32, intermediate_size=8192, use_gated_mlp=True, hidden_act="silu", query_bias=False,
                 value_bias=False),
}  # fmt: skip
_CONVNEXT = {
    "tiny": _pyramid(96, [3, 3, 9, 3]), "small": _pyramid(96, [3, 3, 27, 3]), "base": _pyramid(128, [3, 3, 27, 3]),
    "large": _pyramid(192, [3, 3, 27, 3]),
}  # fmt: skip
_MIX = {
    "b0": {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2]},
    **{
        f"b{i}": {"hidden_sizes": [64, 128, 320, 512], "depths": depths}
        for i, depths in enumerate(([2, 2, 2, 2], [3, 4, 6, 3], [3, 4, 18, 3], [3, 8, 27, 3], [3, 6, 40, 3]), start=1)
    },
}
_SAM2_WIDE = {"num_attention_heads_per_stage": [2, 4, 8, 16]}

SIZES: Sizes = {
    "dinov2": {k: v | {"image_size": 518} for k, v in _DINOV2.items()},
    "dinov2_with_registers": {k: v | {"image_size": 518, "patch_size": 14} for k, v in _DINOV2.items()},
    "dinov3_vit": {k: v | {"num_register_tokens": 4} for k, v in _DINOV3.items()},
    "dinov3_convnext": _CONVNEXT,
    "sam_vision_model": {  # the published 1e-10 is for weights that are loaded; random ones would give no features
        name: _plain(width, depth, heads, global_attn_indexes=attend, initializer_range=0.02)
        for name, width, depth, heads, attend in (
            ("base", 768, 12, 12, [2, 5, 8, 11]),
            ("large", 1024, 24, 16, [5, 11, 17, 23]),
            ("huge", 1280, 32, 16, [7, 15, 23, 31]),
        )
    },
    "sam2_hiera_det_model": {
        "tiny": _sam2(96, [1, 2, 7, 2], [5, 7, 9]),
        "small": _sam2(96, [1, 2, 11, 2], [7, 10, 13]),
        "base_plus": _sam2(
            112, [2, 3, 16, 3], [12, 16, 20], window_positional_embedding_background_size=[14, 14], **_SAM2_WIDE
        ),
        "large": _sam2(144, [2, 6, 36, 4], [23, 33, 43], window_size_per_stage=[8, 4, 16, 8], **_SAM2_WIDE),
    },
    "cvt": {
        "13": {"depth": [1, 2, 10]},
        "21": {"depth": [1, 4, 16]},
        "w24": {"depth": [2, 2, 20], "embed_dim": [192, 768, 1024], "num_heads": [3, 12, 16]},
    },
    "vit": {
        "tiny": _mlp(192, 12, 3), "small": _mlp(384, 12, 6), "base": _mlp(768, 12, 12), "large": _mlp(1024, 24, 16),
        "huge": _mlp(1280, 32, 16, patch_size=14),
    },
    "clip_vision_model": {
        "base": _mlp(768, 12, 12, patch_size=16), "base_32": _mlp(768, 12, 12),
        "large": _mlp(1024, 24, 16, patch_size=14),
    },
    "siglip_vision_model": {
        "base": _mlp(768, 12, 12), "large": _mlp(1024, 24, 16),
        "so400m": _plain(1152, 27, 16, intermediate_size=4304, patch_size=14),
    },
    "beit": {
        "base": _mlp(768, 12, 12, use_relative_position_bias=True),
        "large": _mlp(1024, 24, 16, use_relative_position_bias=True),
    },
    "vitdet": {"base": _plain(768, 12, 12), "large": _plain(1024, 24, 16)},
    "swin": {
        "tiny": _swin(96, 6, 3), "small": _swin(96, 18, 3), "base": _swin(128, 18, 4, window_size=12),
        "large": _swin(192, 18, 6, window_size=12),
    },
    "swinv2": {
        "tiny": _swin(96, 6, 3, window_size=8), "small": _swin(96, 18, 3, window_size=8),
        "base": _swin(128, 18, 4, window_size=8),
    },
    "convnext": _CONVNEXT,
    "convnextv2": {
        "atto": _pyramid(40, [2, 2, 6, 2]), "femto": _pyramid(48, [2, 2, 6, 2]), "pico": _pyramid(64, [2, 2, 6, 2]),
        "nano": _pyramid(80, [2, 2, 8, 2]), **{k: v for k, v in _CONVNEXT.items() if k != "small"},
        "huge": _pyramid(352, [3, 3, 27, 3]),
    },
    "segformer": {
        name: size | {"decoder_hidden_size": 256 if name in ("b0", "b1") else 768} for name, size in _MIX.items()
    },
    "pvt_v2": {name: size | ({"mlp_ratios": [4, 4, 4, 4]} if name == "b5" else {}) for name, size in _MIX.items()},
    "focalnet": {"tiny": {"hidden_sizes": [192, 384, 768, 768]}},  # its default is a tuple, which it adds to a list
    "resnet": {
        "18": {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"},
        "34": {"hidden_sizes": [64, 128, 256, 512], "depths": [3, 4, 6, 3], "layer_type": "basic"},
        "50": {"depths": [3, 4, 6, 3]},
        "101": {"depths": [3, 4, 23, 3]},
    },
}  # fmt: skip
