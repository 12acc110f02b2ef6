"""ScaleMae: a vision transformer that is told how large a cell of the image is on the ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchgeo.models.scale_mae import ScaleMAE

from medseg.models.encoders.plain import Plain, Size, sine_positions, sized
from medseg.models.encoders.torchgeo_weights import fetch_published
from medseg.models.network import Facts
from medseg.weights.pretrained import Pretrained

SIZES = {"base": Size(768, 12, 12), "large": Size(1024, 24, 16)}
PUBLISHED = {"large": "ScaleMAELarge16_Weights.FMOW_RGB"}


class ScaleMae(Plain):
    """Scale-MAE: positions are metres on the ground, so that one network serves several resolutions; 2D only.

    A place's sine embedding is that of its row and column times the size of a cell, in metres over 1 m. That
    size comes from the grid of the data (``facts.spacing``, which is 1 for images without georeference), each
    axis with its own. Positions are computed for any shape, none are learned.

    Args:
        facts: Data and plan.
        size: ``large``, which is published, or ``base``.
        cell_m: Cells on the ground, in metres; None for the spacing of the data.
        embed_dim: Numbers in a token instead of the size's.
        depth: Blocks, likewise.
        num_heads: Heads of attention, likewise.
        indices: Blocks after which features are taken; None for four evenly spaced. Each is normalised by the
            last layer.
        weights: See ``Encoder``; ``pretrained`` are torchgeo's, for red, green and blue.
        adapt: See ``Encoder``.
        least_share: See ``Encoder``.

    Raises:
        BadInput: Volumes, or an unknown size.

    References:
        Reed et al., Scale-MAE, 2023.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        size: str = "large",
        cell_m: float | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        indices: Sequence[int] | None = None,
        weights: str | None = None,
        adapt: str = "auto",
        least_share: float = 0.9,
    ) -> None:
        chosen = sized(SIZES, size, embed_dim, depth, num_heads)
        super().__init__(
            facts,
            name="scalemae",
            width=chosen.embed_dim,
            depth=chosen.depth,
            patch=16,
            indices=indices,
            weights=weights,
            adapt=adapt,
            least_share=least_share,
        )
        self.size = size
        self.cell_m = tuple(facts.spacing) if cell_m is None else (cell_m, cell_m)
        self.net = ScaleMAE(
            in_chans=facts.in_channels,
            patch_size=16,
            embed_dim=chosen.embed_dim,
            depth=self.depths[-1] + 1,
            num_heads=chosen.num_heads,
            num_classes=0,
            dynamic_img_size=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        self.net.pos_embed = None  # computed in each pass; those of a file are of no use

    @property
    def trunk(self) -> nn.Module:
        """The ``ScaleMAE`` of torchgeo, without positions."""
        return self.net

    @property
    def stem(self) -> str | None:
        """The kernel of the patches."""
        return "patch_embed.proj.weight"

    def fetch(self, source: str) -> Pretrained:
        """A file, or torchgeo's weights; a file of three channels that tells nothing is taken to be of the same."""
        return fetch_published(source, PUBLISHED, self.size)

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without the positions of the file, which were computed."""
        return {key: tensor for key, tensor in state.items() if not key.endswith("pos_embed")}

    def embed(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """The class token, which has no place, and one for each patch."""
        net = self.net
        patches = net.patch_embed(image).flatten(1, 2)
        rows, columns = (
            torch.arange(n, dtype=torch.float32, device=image.device) * cell
            for n, cell in zip(self.grid(image), self.cell_m, strict=True)
        )
        placed = patches + sine_positions(net.embed_dim, rows, columns).to(patches.dtype)
        return torch.cat((net.cls_token.expand(len(image), -1, -1), placed), dim=1)

    def finish(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Normalised by the last layer."""
        return self.net.norm(tokens)
