"""Primus of dynamic_network_architectures, with and without the scales that nnssl's networks have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from check_upstream import Row, compare, drawn, noise
from timm.layers import RotaryEmbeddingCat
from upstream.medical_volumes import encoder

from medseg.models.network import ModelSpec
from medseg.sample import Channel

_SMALL = {"embed_dim": 48, "depth": 4, "num_heads": 2}


class _Rotary(RotaryEmbeddingCat):
    """timm's, whose cache has room for two axes only since 1.0.20."""

    def _create_cache(self, num_pos: int | None, device: Any, dtype: Any) -> None:
        empty = torch.empty((num_pos or 0, self.dim * 3), device=device, dtype=dtype)
        self.register_buffer("pos_embed", empty, persistent=False)


def rows() -> Iterator[Row]:
    """The last feature of the encoder, under both settings, from a file as nnssl writes it."""
    from dynamic_network_architectures.architectures.primus import Primus

    shape = (48, 32, 16)
    channels = (Channel("T1"), Channel("T2"))
    for scaled in (True, False):
        torch.manual_seed(0)
        net: Any = drawn(
            Primus(
                2, 48, (8, 8, 8), 3, eva_depth=4, eva_numheads=2, input_shape=shape[::-1], rope_impl=_Rotary,
                init_values=0.1 if scaled else None, scale_attn_inner=scaled,
            )
        )  # fmt: skip
        content = {"network_weights": net.state_dict(), "nnssl_adaptation_plan": {"key_to_encoder": "eva"}}
        settings = {"layer_scale": 0.1 if scaled else None, "norm_attention": scaled, "trained_on": ["T1", "T2"]}
        own = encoder("primus", content, ModelSpec(2, 3, shape, (1.0,) * 3, (), (), channels), **settings, **_SMALL)
        image = noise(2, 2, *shape)
        with torch.no_grad():
            grid = net.down_projection(image.permute(0, 1, 4, 3, 2))
            tokens, _ = net.eva(grid.flatten(2).transpose(1, 2))
            expected = tokens.unflatten(1, grid.shape[2:]).permute(0, 3, 2, 1, 4).flatten(1, 3)
            given = own(image)[-1]
        what = f"last feature, {'with' if scaled else 'without'} scales"
        yield compare(("Primus", "4 blocks", what, "2 of MR"), shape, [given], [expected])
