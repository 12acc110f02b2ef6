"""SpectralGPT: the authors' file models_vit_tensor.py, in the folder of their repository that SPECTRALGPT names."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator
from functools import partial
from typing import Any

import timm.layers
import timm.models.vision_transformer
import torch
from check_upstream import Row, build, compare, drawn, noise, of_channels
from torch import nn

from medseg.models.earth.groups import of_groups
from medseg.models.earth.spectralgpt import GROUPS, SIZES


def _source() -> Any:
    """The file, which was written for a timm that had its layers elsewhere."""
    sys.modules.setdefault("timm.models.layers", timm.layers)
    for name in ("DropPath", "Mlp"):
        setattr(timm.models.vision_transformer, name, getattr(timm.layers, name))
    own = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "util"}
    sys.path.insert(0, os.environ.get("SPECTRALGPT", "SPECTRALGPT"))
    try:
        module: types.ModuleType = importlib.import_module("models_vit_tensor")
    finally:
        sys.path.pop(0)
        sys.modules.update(own)
    return module


def rows() -> Iterator[Row]:
    """All sizes, on images of the pretraining's shape; tokens of the last block, normalised, as the mean over cubes."""
    source = _source()
    seen = of_groups(GROUPS, [g.name for g in GROUPS])
    for size, (width, depth, heads) in SIZES.items():
        torch.manual_seed(0)
        net: Any = drawn(
            source.VisionTransformer(
                num_frames=12, t_patch_size=3, img_size=96, in_chans=1, patch_size=8, embed_dim=width, depth=depth,
                num_heads=heads, sep_pos_embed=True, norm_layer=partial(nn.LayerNorm, eps=1e-6),
            )
        )  # fmt: skip
        encoder = build(
            "spectralgpt", of_channels(seen.channels, (96, 96)), {"size": size}, {"model": net.state_dict()}
        )
        image = noise(2, 12, 96, 96)
        outputs: list[torch.Tensor] = []
        net.blocks[-1].register_forward_hook(lambda _, __, out, into=outputs: into.append(out))
        with torch.no_grad():
            ours = encoder(image)[-1]
            net(image / 4 + 0.5)
            expected = net.norm(outputs[0]).unflatten(1, (4, -1)).mean(1)
        yield compare(("spectralgpt", size, "last feature", "12 of Sentinel-2"), (96, 96), [ours], [expected])
