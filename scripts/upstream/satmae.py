"""SatMAE: the authors' own files, whose folder SATMAE names (a copy of github.com/sustainlab-group/SatMAE)."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from check_upstream import Row, build, compare, drawn, noise, of_channels
from torch import nn

from medseg.models.earth.groups import of_groups
from medseg.models.earth.satmae import GROUPS, SIZES


def _source(name: str) -> Any:
    """A file of the authors, who wrote for a numpy that had ``np.float``."""
    sys.path.insert(0, os.environ.get("SATMAE", "SATMAE"))
    setattr(np, "float", float)  # noqa: B010
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def rows() -> Iterator[Row]:
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
        given: list[torch.Tensor] = []
        net.norm.register_forward_hook(lambda _, __, out, kept=given: kept.append(out))
        with torch.no_grad():
            found = encoder(image)[-1]
            net.forward_features((image / 4 + 0.5)[:, order])
        ahead, placed = given[0].tensor_split([1], dim=1)
        expected = torch.cat((ahead, placed.unflatten(1, (3, -1)).mean(1)), dim=1)
        yield compare(("satmae", size, "last feature", "10 of Sentinel-2"), (96, 96), [found], [expected])
