"""Backbones of terratorch's registry by the adapter, and as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from check_upstream import Row, build, compare, drawn, noise, spec
from terratorch.registry import BACKBONE_REGISTRY


def rows() -> Iterator[Row]:
    """Backbones of its registry, as they are, with the tensors of another one of the same name."""
    names = ("B2", "B3", "B4", "B8A", "B11", "B12")
    for name, settings, bands in (
        ("prithvi_eo_v2_300", {"embed_dim": 64, "depth": 4, "num_heads": 4}, "bands"),
        ("prithvi_eo_v2_tiny_tl", {}, "bands"),
        ("ssl4eos12_resnet18_sentinel2_all_moco", {"out_indices": [1, 2, 3, 4]}, "model_bands"),
        ("satlas_swin_t_sentinel2_si_ms", {"out_indices": [1, 3, 5, 7]}, "model_bands"),
        ("ssl4eos12_vit_small_patch16_224_sentinel2_all_moco", {}, "model_bands"),
    ):
        words = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
        torch.manual_seed(0)
        upstream: Any = drawn(BACKBONE_REGISTRY.build(name, **{bands: words}, **settings))
        encoder: Any = None
        for shape in ((224, 224), (96, 160)):
            about = spec(names, shape)
            given = {"name": name, "settings": settings, "trained_on": list(names)}
            encoder = build("terratorch", about, given, upstream.state_dict())
            if encoder.fixed_shape not in (None, shape):
                continue
            image = noise(2, 6, *shape)
            with torch.no_grad():
                given_features, outputs = encoder(image), upstream(image)
            expected = [taken(outputs) for taken in encoder.taken]
            yield compare(("terratorch", name, f"{len(expected)} features", "6"), shape, given_features, expected)
