"""MonaiViT: the plain vision transformer that UNETR encodes with, from MONAI."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import ceil, prod
from typing import Any

from jaxtyping import Float
from monai.networks.nets.vit import ViT
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.encoders.vit import choose
from medseg.models.network import ModelSpec
from medseg.weights.positions import Grids

_LINEAR_STEM = "patch_embedding.patch_embeddings.1."
_LAST = re.compile(r"\bblocks\.\d+\.(weight|bias)$")
"""The last normalisation, which masked autoencoders have as a block."""


class MonaiViT(Encoder):
    """Global self-attention over tokens of equal patches, at learned positions; volumes and images.

    Features are tokens after four evenly spaced blocks (2, 5, 8 and 11 of 12), all of one stride; those of the
    last block pass the last normalisation, as in UNETR. Positions are learned for the patch of the plan, rounded
    up to whole tokens, and no other shape is taken; those of a file are resampled when they are loaded.

    Weights that load by themselves, whatever precedes their names: whole UNETRs and the ``vit`` of one, and
    MONAI's ``ViTAutoEnc`` and ``MaskedAutoEncoderViT`` (without its class token, which tokens of the grid could
    attend to). Older ones embed patches by a linear map (``perceptron``), which is the same function as a
    convolution and becomes one.

    Args:
        spec: Data and plan; kernels and strides are not used.
        token: Cells of a token's patch; one number, or one for each axis.
        hidden_size: Channels, a multiple of ``num_heads``.
        mlp_dim: Channels of the multilayer perceptrons.
        num_layers: Blocks.
        num_heads: Attention heads.
        qkv_bias: Whether queries, keys and values have a bias; UNETR's have none.
        dropout_rate: Dropout, in training.
        indices: Blocks after which features are taken, from 0; None for those above. Blocks after the last
            of them are left out.
        loading: See ``Encoder``.

    Raises:
        InputError: Settings that do not fit each other.

    References:
        Dosovitskiy et al., An Image is Worth 16x16 Words, 2021; Hatamizadeh et al., UNETR, 2022.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        token: int | Sequence[int] = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_layers: int = 12,
        num_heads: int = 12,
        qkv_bias: bool = False,
        dropout_rate: float = 0.0,
        indices: Sequence[int] | None = None,
        **loading: Any,
    ) -> None:
        size = (token,) * spec.ndim if isinstance(token, int) else tuple(token)
        if len(size) != spec.ndim or min(size) < 1:
            raise InputError(f"model.encoder.token={token}: expected cells of a token, one number or {spec.ndim}")
        if hidden_size % num_heads:
            raise InputError(f"MonaiViT: hidden_size={hidden_size} must be a multiple of num_heads={num_heads}")
        depths = choose(num_layers, indices)
        patch = tuple(ceil(n / t) * t for n, t in zip(spec.patch_shape, size, strict=True))
        feature = Feature(hidden_size, size, tokens=True)
        super().__init__(
            spec,
            [feature] * len(depths),
            size,
            fixed_shape=patch,
            **loading,
        )
        self.depths, self._token = depths, size
        self.net = ViT(
            in_channels=spec.in_channels,
            img_size=patch,
            patch_size=size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout_rate=dropout_rate,
            qkv_bias=qkv_bias,
            spatial_dims=spec.ndim,
        )
        self._drop_idle(num_layers)
        self.full_depth = num_layers

    def _drop_idle(self, num_layers: int) -> None:
        """Leave out what no feature depends on: DDP refuses parameters without a gradient."""
        last = self.depths[-1]
        self.net.blocks = self.net.blocks[: last + 1]
        if last + 1 < num_layers:
            self.net.norm = nn.Identity()
        for block in self.net.blocks:
            block.norm_cross_attn = nn.Identity()

    @property
    def trunk(self) -> nn.Module:
        """MONAI's ``ViT``."""
        return self.net

    @property
    def stem(self) -> str:
        """The embedding of the patches."""
        return "patch_embedding.patch_embeddings.weight"

    @property
    def grids(self) -> Grids:
        """Tokens of the patch."""
        shape = self.fixed_shape or ()
        return Grids(grid=tuple(n // t for n, t in zip(shape, self._token, strict=True)))

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file under the names of ``ViT``; a linear map of patches as the convolution it is."""
        renamed = {}
        cells = self._token
        for name, tensor in state.items():
            if _LINEAR_STEM in name:
                name = name.replace(_LINEAR_STEM, _LINEAR_STEM.removesuffix("1."))
                if tensor.ndim == 2 and tensor.shape[1] % prod(cells) == 0:
                    tensor = tensor.reshape(len(tensor), *cells, -1).movedim(-1, 1)
            renamed[_LAST.sub(r"norm.\1", name)] = tensor
        return renamed

    def embed(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b n d"]:
        """Tokens as the first block takes them, in row-major order."""
        tokens: Tensor = self.net.patch_embedding(image)
        return tokens

    def attend(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """The last feature from tokens of some places or of all; what masked autoencoding asks for."""
        for block in self.net.blocks:
            tokens = block(tokens)
        last: Tensor = self.net.norm(tokens)
        return last

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        last, hidden = self.net(image)
        return [*(hidden[i] for i in self.depths[:-1]), last]
