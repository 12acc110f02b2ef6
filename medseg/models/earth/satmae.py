"""SatMAE: a vision transformer with a token for each of three groups of bands of Sentinel-2."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.earth.fmow import STATISTICS
from medseg.models.earth.grouped_vit import GroupedViT
from medseg.models.earth.groups import group
from medseg.models.encoders.vit import Size, fill_with_sines, sines, sized
from medseg.models.network import ModelSpec
from medseg.sensors.bands import bands_of

SIZES = {"base": Size(768, 12, 12), "large": Size(1024, 24, 16)}
PATCH, GRID = 8, 12
"""Cells of a patch, and places of the published positions, on each axis: of images of 96 cells."""
_BANDS = (("B2", "B3", "B4", "B8"), ("B5", "B6", "B7", "B8A"), ("B11", "B12"))
GROUPS = tuple(group(str(i), bands_of(names, "sentinel-2"), STATISTICS) for i, names in enumerate(_BANDS))


class SatMae(GroupedViT):
    """SatMAE of Sentinel-2: ten bands in three groups (10 m, 20 m, short-wave infrared); 2D only.

    A third of each token's numbers (in the large size a quarter) says the group, the rest the place; positions are
    resampled to the image. The pretraining also clipped values beyond 2 std, which is not done here.

    A feature is the class token and the mean over the groups of each place, normalised by the last layer. SatMAE of
    red, green and blue is a plain transformer, which ``model/encoder=timm model.encoder.name=vit_large_patch16_224``
    takes; that of dates is ``satmae_temporal``.

    Args:
        spec: Data and plan.
        size: ``base`` or ``large``; both are published as files (``pretrain-vit-base-e199.pth``).
        embed_dim: Numbers in a token instead of the size's; a multiple of 8.
        depth: Blocks instead of the size's.
        num_heads: Heads of attention instead of the size's.
        settings: See ``PlainViT``.

    Raises:
        InputError: Volumes, an unknown size or band.

    References:
        Cong et al., SatMAE: Pre-training Transformers for Temporal and Multi-Spectral Satellite Imagery, 2022.
    """

    family = "satmae"

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        **settings: Any,
    ) -> None:
        shape = sized(SIZES, size, embed_dim, depth, num_heads)
        if shape.embed_dim % 8:
            raise InputError(f"model.encoder.embed_dim={shape.embed_dim}: expected a multiple of 8")
        super().__init__(spec, GROUPS, width=shape.embed_dim, depth=shape.depth, patch=PATCH, **settings)
        self.size = size
        counts = {name: len(places) for name, places in self.places.items()}
        self.net: Any = _Net(shape._replace(depth=self.depths[-1] + 1), counts)

    @property
    def stems(self) -> Mapping[str, str]:
        """The kernel of each group."""
        return {name: f"patch_embed.{name}.proj.weight" for name in self.places}

    def left_out(self, name: str) -> bool:
        """Also the kernels of groups without a channel."""
        return name.startswith("patch_embed.") or super().left_out(name)

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """With what fine-tuned files add to the class token for its lack of a group added to it."""
        changed = dict(state)
        for name in [key for key in state if key.endswith("channel_cls_embed")]:
            added = changed.pop(name)
            token = f"{name.removesuffix('channel_cls_embed')}cls_token"
            changed[token] = changed[token] + torch.nn.functional.pad(
                added, (changed[token].shape[-1] - added.shape[-1], 0)
            )
        return changed

    def embed(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m d"]:
        """The class token, then tokens of all places of the first group, then of the next."""
        net, values = self.net, self.prepared(image)
        tokens = [
            net.patch_embed[name].proj(self.of_group(values, name)).flatten(2).transpose(1, 2) for name in self.places
        ]
        positions = resample_abs_pos_embed(net.pos_embed, self.grid(image))
        groups = net.channel_embed[0, [int(name) for name in self.places]]
        n, width = positions.shape[1] - 1, groups.shape[1]
        placed = torch.cat(
            (positions[0, 1:].expand(len(groups), -1, -1), groups[:, None].expand(-1, n, -1)), dim=2
        )  # [g, n, d]
        ahead = net.cls_token + nn.functional.pad(positions[:, :1], (0, width))
        return torch.cat((ahead.expand(len(image), -1, -1), (torch.stack(tokens, dim=1) + placed).flatten(1, 2)), dim=1)


class _Net(nn.Module):
    """The upstream's encoder under its own names, of the groups that there are.

    Args:
        size: With only the blocks that features depend on.
        counts: Channels of each group.
    """

    def __init__(self, size: Size, counts: Mapping[str, int]) -> None:
        super().__init__()
        width, norm = size.embed_dim, partial(nn.LayerNorm, eps=1e-6)
        of_group = min(256, width // 2)
        self.patch_embed = nn.ModuleDict({
            name: nn.ModuleDict({"proj": nn.Conv2d(count, width, PATCH, PATCH)}) for name, count in counts.items()
        })  # fmt: skip
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, width - of_group))
        fill_with_sines(self.pos_embed)
        self.channel_embed = nn.Parameter(sines(of_group, torch.arange(float(len(GROUPS))))[None])
        self.blocks = nn.Sequential(
            *(Block(width, size.num_heads, qkv_bias=True, norm_layer=norm) for _ in range(size.depth))
        )
        self.norm = norm(width)
