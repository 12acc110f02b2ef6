"""SatMAE: the authors' own files, whose folder SATMAE names (a copy of github.com/sustainlab-group/SatMAE)."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import torch
from check_upstream import Row, build, compare, drawn, noise, of_channels
from timm.layers import resample_abs_pos_embed
from torch import nn

from medseg.models.earth.groups import of_groups
from medseg.models.earth.satmae import GROUPS, SIZES
from medseg.models.earth.satmae_temporal import PUBLISHED
from medseg.models.earth.satmae_temporal import SIZES as TEMPORAL


def _source(name: str) -> Any:
    """A file of the authors, who wrote for a numpy that had ``np.float``."""
    sys.path.insert(0, os.environ.get("SATMAE", "SATMAE"))
    setattr(np, "float", float)  # noqa: B010
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def rows() -> Iterator[Row]:
    """Both networks."""
    yield from _multispectral()
    yield from _temporal()


def _temporal() -> Iterator[Row]:
    """Three dates of photographs, which upstream is written for."""
    source = _source("models_vit_temporal")
    width, depth, heads = TEMPORAL["base"]
    for side in (224, 160):
        torch.manual_seed(0)
        net: Any = drawn(
            source.VisionTransformer(
                img_size=side, patch_size=16, embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=4, qkv_bias=True,
                norm_layer=partial(nn.LayerNorm, eps=1e-6), num_classes=0,
            )
        )  # fmt: skip
        state = dict(net.state_dict())
        if side != 224:  # upstream's positions are those of its own shape; ours are resampled from 224 cells
            torch.manual_seed(1)
            state["pos_embed"] = torch.randn(1, 197, width - 384)
            net.pos_embed.data = resample_abs_pos_embed(state["pos_embed"], [side // 16] * 2)
        about = of_channels(PUBLISHED.channels * 3, (side, side), 3)
        encoder: Any = build("satmae_temporal", about, {"size": "base", "hour": 10}, {"model": state})
        image = noise(2, 9, side, side)
        days = torch.tensor(
            [[date(2015 + i, 3 * i + 2, 1).toordinal() - date(1970, 1, 1).toordinal() for i in range(3)]]
        )
        stamps = torch.tensor([[[13 + i, 3 * i + 1, 10] for i in range(3)]]).expand(2, -1, -1)
        outputs: list[torch.Tensor] = []
        net.norm.register_forward_hook(lambda _, __, out, into=outputs: into.append(out))
        with torch.no_grad():
            ours = encoder(image, days=days.expand(2, -1))[-1]
            net.forward_features(image.unflatten(1, (3, 3)), stamps)
        ahead, placed = outputs[0].tensor_split([1], dim=1)
        expected = torch.cat((ahead, placed.unflatten(1, (3, -1)).mean(1)), dim=1)
        yield compare(("satmae", "temporal base", "last feature, 3 dates", "R G B"), (side, side), [ours], [expected])


def _multispectral() -> Iterator[Row]:
    """Sentinel-2 in both sizes; upstream gives the class token, so tokens are those of its last block."""
    source = _source("models_vit_group_channels")
    seen = of_groups(GROUPS, [g.name for g in GROUPS])
    order = [seen.channels.index(c) for c in sorted(seen.channels, key=lambda c: c.wavelength_nm or 0.0)]
    for size, (width, depth, heads) in SIZES.items():
        torch.manual_seed(0)
        net: Any = drawn(
            source.GroupChannelsVisionTransformer(
                img_size=96, patch_size=8, in_chans=10, embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=4,
                qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6), num_classes=0,
            )
        )  # fmt: skip
        state = {"model": net.state_dict(), "epoch": 199}
        encoder = build("satmae", of_channels(seen.channels, (96, 96)), {"size": size}, state)
        image = noise(2, 10, 96, 96)
        outputs: list[torch.Tensor] = []
        net.norm.register_forward_hook(lambda _, __, out, into=outputs: into.append(out))
        with torch.no_grad():
            ours = encoder(image)[-1]
            net.forward_features((image / 4 + 0.5)[:, order])
        ahead, placed = outputs[0].tensor_split([1], dim=1)
        expected = torch.cat((ahead, placed.unflatten(1, (3, -1)).mean(1)), dim=1)
        yield compare(("satmae", size, "last feature", "10 of Sentinel-2"), (96, 96), [ours], [expected])
