"""Primus: the plain transformer of volumes with rotary positions that nnssl pretrains."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

import torch
from jaxtyping import Float
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.axes import check_axes
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.encoders.published import Published
from medseg.models.encoders.vit import Size, choose, sized
from medseg.models.network import ModelSpec
from medseg.weights.positions import Grids
from medseg.weights.pretrained import Pretrained

SIZES = {"S": Size(396, 12, 6), "B": Size(792, 12, 12), "M": Size(864, 16, 12), "L": Size(1056, 24, 16)}
_ROTATED = 6
"""Numbers of a head for one rotated pair on each of three axes."""
_MLP_RATIO = 8 / 3
"""Hidden numbers of a gated perceptron for one of a token: as many parameters as 4 without a gate."""
_STD = 0.02
_OPENMIND = Published(normalisation="z-scores of each volume; cells of 1 mm")
"""Of nnssl's pretraining on OpenMind (MR of the head)."""


class Primus(Encoder):
    """Global self-attention over tokens of 8 x 8 x 8 voxels at learned and rotary positions; volumes only.

    Features are tokens after four evenly spaced blocks, all of one stride; those of the last block pass the last
    normalisation. Positions are learned for the patch of the plan, rounded up to whole tokens, and no other shape is
    taken; those of a file are resampled when they are loaded.

    Weights that load by themselves, whatever precedes their names: ``Primus`` of dynamic_network_architectures, and
    the checkpoints of nnssl (``network_weights``). These networks see slices, rows, columns, as nnU-Net reads them; so
    the axes of the image are reversed before the first kernel, and those of the features back after the last block.

    Args:
        spec: Data and plan; kernels and strides are not used.
        size: One of ``SIZES``.
        token: Edge of a token's patch in cells.
        layer_scale: Value that the scales of residual branches begin with; None for networks without these scales.
        norm_attention: Whether the result of attention is normalised before its projection.
        drop_path_rate: Stochastic depth of the last block in training; linear from 0 in the first.
        embed_dim: Numbers in a token instead of the size's; a multiple of 6 for each head.
        depth: Blocks, likewise.
        num_heads: Heads of attention, likewise.
        indices: Blocks after which features are taken, from 0; None for those above. Blocks after the last of them are
            left out.
        loading: See ``Encoder``.

    Raises:
        InputError: Images, an unknown size, or settings that do not fit each other.

    References:
        Wald et al., Primus: Enforcing Attention Usage for 3D Medical Image Segmentation, 2025; Wald et al., An OpenMind
        for 3D Medical Vision Self-supervised Learning, 2025; Fang et al., EVA-02, 2023.
    """

    ndims = (3,)

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "M",
        token: int = 8,
        layer_scale: float | None = 0.1,
        norm_attention: bool = True,
        drop_path_rate: float = 0.0,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        indices: Sequence[int] | None = None,
        **loading: Any,
    ) -> None:
        check_axes("encoder primus", self.ndims, spec)
        shape = sized(SIZES, size, embed_dim, depth, num_heads)
        if shape.embed_dim % (_ROTATED * shape.num_heads):
            raise InputError(
                f"model.encoder.embed_dim={shape.embed_dim}: expected a multiple of {_ROTATED * shape.num_heads}, "
                f"{_ROTATED} for each of {shape.num_heads} heads"
            )
        depths = choose(shape.depth, indices)
        patch = tuple(ceil(n / token) * token for n in spec.patch_shape)
        feature = Feature(shape.embed_dim, (token,) * 3, tokens=True)
        super().__init__(spec, [feature] * len(depths), (token,) * 3, fixed_shape=patch, **loading)
        self.size, self.depths, self.full_depth = size, depths, shape.depth
        self.grid = tuple(n // token for n in reversed(patch))
        rates = torch.linspace(0, drop_path_rate, shape.depth, device="cpu").tolist()[: depths[-1] + 1]
        self.net = nn.ModuleDict(
            {
                "down_projection": nn.ModuleDict({"proj": nn.Conv3d(spec.in_channels, shape.embed_dim, token, token)}),
                "eva": _Eva(shape, self.grid, rates, init_values=layer_scale, scale_attn_inner=norm_attention),
            }
        )

    @property
    def trunk(self) -> nn.Module:
        """The network without its decoder, under the names of dynamic_network_architectures."""
        return self.net

    @property
    def stem(self) -> str:
        """The embedding of the patches."""
        return "down_projection.proj.weight"

    @property
    def grids(self) -> Grids:
        """Tokens of the patch, in the order of the network's axes."""
        return Grids(grid=self.grid)

    def fetch(self, source: str) -> Pretrained:
        """A file, whose images are described as those of OpenMind where it does not say."""
        return _OPENMIND.fetch(source, self.size)

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        eva: Any = self.net["eva"]
        patches = self.net.get_submodule("down_projection.proj")(image.permute(0, 1, 4, 3, 2))
        tokens = patches.flatten(2).transpose(1, 2) + eva.pos_embed
        features = []
        for depth, block in enumerate(eva.blocks):
            tokens = block(tokens, rope=eva.rotations)
            if depth in self.depths:
                last = eva.norm(tokens) if depth + 1 == self.full_depth else tokens
                features.append(last.unflatten(1, self.grid).permute(0, 3, 2, 1, 4).flatten(1, 3))
        return features


def rotations(grid: Sequence[int], width: int) -> Float[Tensor, "n d"]:
    r"""Sines, and then cosines, of the angles by which pairs of numbers of queries and keys are rotated.

    A head has as many pairs for each axis; pair i of m is rotated by :math:`p / 10000^{i / m}` at the place p of its
    token along the axis. timm's own cache of them is for two axes.

    Args:
        grid: Tokens along each axis.
        width: Numbers of a head; a multiple of two for each axis.

    Example:
        >>> [f"{value:.2f}" for value in rotations((1, 1, 2), 6)[1, 4:8].tolist()]
        ['0.84', '0.84', '1.00', '1.00']
    """
    pairs = width // (2 * len(grid))
    rates = 10000.0 ** -(torch.arange(pairs) / pairs)
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij"), dim=-1)
    angles = (places[..., None] * rates).reshape(-1, len(grid) * pairs).repeat_interleave(2, dim=1)
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class _Eva(nn.Module):
    """Blocks of EVA-02 with learned and rotary positions of three axes.

    Args:
        shape: Size, of which ``depth`` counts blocks that are left out too.
        grid: Tokens along each axis.
        rates: Stochastic depth of each block that there is.
        settings: Of ``EvaBlock``.
    """

    def __init__(self, shape: Size, grid: tuple[int, ...], rates: Sequence[float], **settings: Any) -> None:
        super().__init__()
        width, heads = shape.embed_dim, shape.num_heads
        self.pos_embed = nn.Parameter(torch.zeros(1, grid[0] * grid[1] * grid[2], width))
        self.register_buffer("rotations", rotations(grid, width // heads), persistent=False)
        self.blocks = nn.ModuleList(
            EvaBlock(
                width,
                heads,
                qkv_fused=False,
                mlp_ratio=_MLP_RATIO,
                swiglu_mlp=True,
                scale_mlp=True,
                num_prefix_tokens=0,
                drop_path=rate,
                norm_layer=nn.LayerNorm,
                **settings,
            )
            for rate in rates
        )
        self.norm = nn.LayerNorm(width) if len(rates) == shape.depth else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        """Normal values of std 0.02; the last maps of each branch smaller with depth."""
        nn.init.trunc_normal_(self.pos_embed, std=_STD)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=_STD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        with torch.no_grad():
            for number, block in enumerate(self.blocks, start=1):
                for name in ("attn.proj.weight", "mlp.fc2.weight"):
                    block.get_parameter(name).div_(sqrt(2 * number))
