"""ScaleMae: a vision transformer that is told how large a cell of the image is on the ground."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchgeo.models.scale_mae import ScaleMAE

from medseg.models.encoders.vit import Size, sine_positions
from medseg.models.network import ModelSpec
from medseg.models.torchgeo.vit import TorchgeoViT


class ScaleMae(TorchgeoViT):
    """Scale-MAE: positions are metres on the ground, so that one network serves several resolutions; 2D only.

    A place's sine embedding is that of its row and column times the size of a cell, in metres over 1 m. That
    size comes from the grid of the data (``spec.spacing``, which is 1 for images without georeference), each
    axis with its own. Positions are computed for any shape, none are learned.

    Args:
        spec: Data and plan.
        size: ``large``, which is published, or ``base``.
        cell_m: Cells on the ground, in metres; None for the spacing of the data.
        settings: See ``TorchgeoViT``; the published weights are for red, green and blue. Each feature is normalised
            by the last layer.

    Raises:
        InputError: Volumes, or an unknown size.

    References:
        Reed et al., Scale-MAE, 2023.
    """

    family = "scalemae"
    sizes = {"base": Size(768, 12, 12), "large": Size(1024, 24, 16)}
    published = {"large": "ScaleMAELarge16_Weights.FMOW_RGB"}

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "large",
        cell_m: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(spec, size=size, **settings)
        self.cell_m = tuple(spec.spacing) if cell_m is None else (cell_m, cell_m)
        self.net = ScaleMAE(
            in_chans=spec.in_channels,
            patch_size=16,
            num_classes=0,
            dynamic_img_size=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            **self.shape._asdict(),
        )
        self.net.pos_embed = None  # computed in each pass; those of a file are of no use

    @property
    def stem(self) -> str | None:
        """The kernel of the patches."""
        return "patch_embed.proj.weight"

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
