"""UNETR: a vision transformer encoder with a convolutional decoder, from MONAI."""

from __future__ import annotations

from jaxtyping import Float
from monai.networks.nets.unetr import UNETR as MonaiUNETR
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.network import ModelSpec, Network

_TOKEN = 16

_FIRST_BLOCK = tuple(f"net.encoder1.layer.conv{i}.conv.weight" for i in (1, 3))
"""Kernels of the block that takes the image next to the transformer."""


class UNETR(Network):
    """Global self-attention over tokens of 16 cells, at learned positions: takes the patch shape only.

    Args:
        spec: Data and plan; kernels and strides are not used. The patch is a multiple of 16 on each axis.
        feature_size: Channels of the decoder's finest stage.
        hidden_size: Channels of the transformer, a multiple of ``num_heads``.
        mlp_dim: Channels of its multilayer perceptrons.
        num_heads: Attention heads.
        dropout_rate: Dropout in the transformer, in training.

    Raises:
        InputError: The patch or the hidden size is not such a multiple.

    References:
        Hatamizadeh et al., UNETR, 2022.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        feature_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
        dropout_rate: float = 0.0,
    ) -> None:
        super().__init__(spec.in_channels, (_TOKEN,) * spec.ndim, min_cells=2, fixed_shape=spec.patch_shape)
        nearest = [max(_TOKEN, round(p / _TOKEN) * _TOKEN) for p in spec.patch_shape]
        if nearest != list(spec.patch_shape):
            raise InputError(
                f"UNETR: got a patch of {spec.patch_shape}, expected multiples of {_TOKEN}; plan a patch of {nearest}"
            )
        if hidden_size % num_heads:
            raise InputError(f"UNETR: hidden_size {hidden_size} must be a multiple of num_heads {num_heads}")
        self.net = MonaiUNETR(
            spec.in_channels,
            spec.out_channels,
            img_size=spec.patch_shape,
            feature_size=feature_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_heads=num_heads,
            dropout_rate=dropout_rate,
            spatial_dims=spec.ndim,
        )
        for block in self.net.vit.blocks:  # never reached without cross-attention; DDP refuses idle parameters
            block.norm_cross_attn = nn.Identity()

    @property
    def stem_kernel(self) -> tuple[str, ...]:
        """The embedding of the patches, and the convolutions of the block at full resolution."""
        return ("net.vit.patch_embedding.patch_embeddings.weight", *_FIRST_BLOCK)

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell."""
        self.check(image)
        return self.net(image)
