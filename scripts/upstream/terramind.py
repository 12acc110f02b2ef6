"""TerraMind next to the network of its authors, as terratorch has it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from check_upstream import Row, build, compare, drawn, noise, spec
from terratorch.models.backbones.terramind.model.terramind_vit import TerraMindViT
from terratorch.models.backbones.terramind.model.tm_utils import LayerNorm
from torch import nn

from medseg.models.earth.terramind import MODALITIES

_SMALL = {"depth": 4, "num_heads": 4}
_CASES = (
    ("tiny", ("S2L2A",), "mean"),
    ("small", ("S2L1C", "S1RTC", "DEM"), "max"),
    ("base", ("S2L2A", "S1GRD"), "mean"),
    ("large", ("S2L2A", "S1RTC", "DEM"), "concat"),
    ("base", ("RGB", "DEM"), "mean"),
)


def rows() -> Iterator[Row]:
    """Each way of merging, of one modality to three, with the layers of each size."""
    for size, modalities, merge in _CASES:
        gated = size in ("base", "large")
        upstream_names = ["S2RGB" if name == "RGB" else name for name in modalities]
        torch.manual_seed(0)
        upstream: Any = drawn(
            TerraMindViT(
                modalities=upstream_names,
                merge_method=merge,
                dim=48,
                encoder_depth=4,
                num_heads=4,
                qkv_bias=not gated,
                proj_bias=not gated,
                mlp_bias=not gated,
                norm_layer=partial(LayerNorm, eps=1e-6, bias=False),
                act_layer=nn.SiLU if gated else nn.GELU,
                gated_mlp=gated,
            )
        )
        groups = [MODALITIES[name] for name in modalities]
        names = [channel.name for group in groups for channel in group.channels]
        for shape in ((224, 224), (64, 160)):
            optical, *others = modalities
            radar = next((name for name in others if name.startswith("S1")), "S1GRD")
            settings = {"size": size, "embed_dim": 48, "optical": optical, "radar": radar, "merge": merge, **_SMALL}
            encoder = build("terramind", spec(names, shape), settings, upstream.state_dict())
            image = noise(2, len(names), *shape)
            parts = dict(zip(upstream_names, image.split([len(g.channels) for g in groups], dim=1), strict=True))
            with torch.no_grad():
                given, expected = encoder(image), upstream(parts)
            compared = f"4 blocks, {merge} of {' + '.join(modalities)}"
            yield compare(("terramind", size, compared, str(len(names))), shape, given, expected)
