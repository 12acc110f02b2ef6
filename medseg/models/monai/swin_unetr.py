"""SwinUNETR: a Swin transformer encoder with a convolutional decoder, from MONAI."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR
from torch import Tensor

from medseg.errors import InputError
from medseg.models.network import ModelSpec, Network

_FIRST_BLOCK = tuple(f"net.encoder1.layer.conv{i}.conv.weight" for i in (1, 3))
"""Kernels of the block that takes the image next to the transformer."""


class SwinUNETR(Network):
    """Windowed self-attention over patches of 2 cells, merged four times; isotropic strides of 2.

    Args:
        spec: Data and plan; kernels and strides are not used.
        feature_size: Channels of the first stage, a multiple of 12.
        depths: Transformer blocks of the four stages.
        num_heads: Attention heads of the four stages.
        window_size: Edge of the attention windows, in tokens.
        use_v2: A residual convolution before each stage (SwinUNETR-V2).
        drop_path_rate: Stochastic depth in training.
        use_checkpoint: Recompute activations in the backward pass: less memory, more time.

    Raises:
        InputError: Settings that do not fit each other.

    References:
        Hatamizadeh et al., Swin UNETR, 2022; He et al., SwinUNETR-V2, 2023.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        use_v2: bool = False,
        drop_path_rate: float = 0.0,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__(spec.in_channels, (32,) * spec.ndim, min_cells=2)
        if feature_size % 12 or len(depths) != 4 or len(num_heads) != 4:
            raise InputError(
                f"SwinUNETR: expected a feature_size that is a multiple of 12 and four depths and num_heads, got "
                f"{feature_size}, {list(depths)} and {list(num_heads)}"
            )
        self.net = MonaiSwinUNETR(
            spec.in_channels,
            spec.out_channels,
            feature_size=feature_size,
            depths=depths,
            num_heads=num_heads,
            window_size=window_size,
            use_v2=use_v2,
            dropout_path_rate=drop_path_rate,
            use_checkpoint=use_checkpoint,
            spatial_dims=spec.ndim,
        )

    @property
    def stem_kernel(self) -> tuple[str, ...]:
        """The embedding of the patches, and the convolutions of the block at full resolution."""
        return ("net.swinViT.patch_embed.proj.weight", *_FIRST_BLOCK)

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell."""
        self.check(image)
        return self.net(image)
