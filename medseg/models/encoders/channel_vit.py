"""ChannelViT: a transformer with a token for every channel of every place, so that channels may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.encoders.channel_tokens import Tokens, present_in, sample_channels
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.encoders.vit import choose
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from medseg.weights.channels import adapt as adapt_channels
from medseg.weights.positions import Grids
from medseg.weights.pretrained import Pretrained
from medseg.weights.report import Report

_EMBEDDINGS = ("name", "wavelength")


class ChannelViT(Encoder):
    """A plain transformer over tokens of single channels; images and volumes.

    Every channel is cut into patches, and all are embedded by one and the same kernel; what channel a token is of,
    its embedding tells, which is added as its position is. A feature of a place is the mean of the tokens of the
    channels that are present there, after the last normalisation: so a feature has the same size whatever is
    missing, and does not change when channels change places together with their embeddings.

    **Missing channels** are neither attended to nor averaged. They are those that ``present`` says are missing;
    where it is not given (``EncoderDecoder`` does not), those whose image is exactly zero in the whole patch, which is
    how batches hold a missing channel. A patch that is zero in all of them counts as present.

    **Hierarchical channel sampling**: in training, m is drawn uniformly from 1 to c, then m of the c channels, one
    draw for the whole batch; the others are left out of the sequence, which also saves their cost. Where a sample
    would be left with none, more are drawn until it has one. torch's global generator draws.

    Weights that load by themselves, whatever precedes their names: those of the authors
    (``patch_embed.channel_embed``, as a parameter or as ``nn.Embedding``) and one's own. The channels' embeddings
    are taken by name, else by wavelength, else as the mean (``adapt``); in order where the file does not name its
    channels but has as many; and stay random where it has another number. Between equal grids positions are
    copied, where the authors' code shifts them by about a hundredth of a cell (it enlarges by 14.1 / 14).

    Args:
        spec: Data and plan; kernels and strides are not used.
        token: Cells of a token's patch; one number, or one for each axis.
        width: Numbers in a token, a multiple of ``num_heads``.
        depth: Blocks.
        num_heads: Attention heads.
        mlp_ratio: Channels of the multilayer perceptrons, for one of ``width``.
        drop_path_rate: Stochastic depth in training, rising from block to block.
        embedding: Embedding of channels: ``name``, learned, one each; or ``wavelength``, sines and cosines of it, with
            nothing to learn, so that the weights take other bands as they are.
        sampling: Whether channels are sampled in training.
        indices: Blocks after which features are taken, from 0; None for four, evenly spaced. Blocks after the
            last of them are left out.
        loading: See ``Encoder``; ``adapt`` is the strategy for the channels' embeddings.

    Raises:
        InputError: Settings that do not fit each other; a channel without a wavelength where one is needed.

    References:
        Bao et al., Channel Vision Transformers: An Image Is Worth C x 16 x 16 Words, 2024. There the class token
        is the result; here the grid is.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        token: int | Sequence[int] = 16,
        width: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        embedding: str = "name",
        sampling: bool = True,
        indices: Sequence[int] | None = None,
        **loading: Any,
    ) -> None:
        size = (token,) * spec.ndim if isinstance(token, int) else tuple(token)
        if len(size) != spec.ndim or min(size) < 1:
            raise InputError(f"model.encoder.token={token}: expected cells of a token, one number or {spec.ndim}")
        if width % num_heads or embedding not in _EMBEDDINGS:
            raise InputError(
                f"ChannelViT: width={width}, num_heads={num_heads}, embedding={embedding}: expected a multiple of "
                f"num_heads, and {' or '.join(_EMBEDDINGS)}"
            )
        depths = choose(depth, indices)
        grid = tuple(ceil(n / t) for n, t in zip(spec.patch_shape, size, strict=True))
        super().__init__(
            spec,
            [Feature(width, size, tokens=True)] * len(depths),
            size,
            fixed_shape=tuple(g * t for g, t in zip(grid, size, strict=True)),
            **loading,
        )
        self.depths, self._grid, self.full_depth = depths, grid, depth
        self.net = Tokens(
            len(self.channels),
            size,
            grid,
            width,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            rates=[drop_path_rate * i / max(depth - 1, 1) for i in range(depths[-1] + 1)],
            waves=_wavelengths_nm(self.channels) if embedding == "wavelength" else None,
        )
        self.sampling = sampling
        self._origins: tuple[str, ...] = ()

    @property
    def trunk(self) -> nn.Module:
        """Embeddings, blocks and last normalisation, under the authors' names."""
        return self.net

    @property
    def stem(self) -> None:
        """None: one kernel takes any channel."""
        return

    @property
    def grids(self) -> Grids:
        """Places of the patch."""
        return Grids(grid=self._grid)

    def fetch(self, source: str) -> Pretrained:
        """Weights by the words of ``model.encoder.weights``, with learned embeddings of the data's channels.

        Raises:
            InputError: See ``Encoder.fetch``; a strategy that finds nothing to go by.
        """
        pretrained, self._origins = super().fetch(source), ()
        if "patch_embed.channel_embed" not in dict(self.net.named_parameters()):
            return pretrained
        state = dict(pretrained.state)
        for name in [key for key in state if "patch_embed.channel_embed" in key]:
            trained = state.pop(name)  # [1, d, c, 1, 1], [c, d] of nn.Embedding, or [1, d, c] of ours
            table = trained.T if trained.ndim == 2 else trained.reshape(trained.shape[1:3])
            fitted = self._embeddings(table, replace(pretrained, state={}))
            if fitted is not None:
                state[name.removesuffix(".weight")] = fitted[None]
        return pretrained.with_state(state)

    def _embeddings(self, table: Float[Tensor, "d t"], pretrained: Pretrained) -> Float[Tensor, "d c"] | None:
        """Embeddings of the data's channels from those of the weights; None to leave them random."""
        trained, own = pretrained.channels, self.channels
        if len(trained) != table.shape[1]:
            self._origins = ("in order",) * len(own) if table.shape[1] == len(own) else ()
            return table if self._origins else None
        mixed, words = adapt_channels(table, trained, own, self.loading.adapt)
        self._origins = tuple(word.partition(", times")[0] for word in words)
        # kernels of several channels add up and are scaled by how many there are; embeddings stand each for itself
        factor = len(trained) / max(1, sum(word != "zero" for word in words))
        random = torch.tensor([word.startswith("random") for word in words])
        return torch.where(random, mixed, mixed / factor)

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file under our names; the authors' kernel ``[d, 1, 1, p, p]`` as that of an image."""
        return {
            name: tensor[:, :, 0] if "patch_embed.proj.weight" in name and _is_flat(tensor) else tensor
            for name, tensor in state.items()
        }

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Load the weights of the settings; see ``Encoder.initialise``."""
        report = super().initialise(statistics)
        if report is None:
            return None
        return replace(report, channels=tuple(zip([c.name for c in self.channels], self._origins, strict=False)))

    def forward(self, image: Float[Tensor, "b c *s"], present: Bool[Tensor, "b c"] | None = None) -> list[Tensor]:
        """The declared features.

        Args:
            image: Channels in the order of the data.
            present: False for channels that a sample lacks; None to take those for missing that are zero.
        """
        seen = present_in(image) if present is None else present
        channels = sample_channels(seen) if self.training and self.sampling else torch.arange(image.shape[1])
        channels = channels.to(image.device)
        seen = seen[:, channels]
        cells = image[:, channels].masked_fill(~seen.view(*seen.shape, *[1] * (image.ndim - 2)), 0)
        tokens = self.net.embed(cells, channels)
        share = (seen / seen.sum(1, keepdim=True).clamp(min=1)).to(tokens.dtype)
        mask = self.net.mask(seen)
        features = []
        for depth, block in enumerate(self.net.blocks):
            tokens = block(tokens, attn_mask=mask)
            if depth in self.depths:
                places = self.net.norm(tokens)[:, 1:].unflatten(1, (seen.shape[1], -1))
                features.append(torch.einsum("bcnd,bc->bnd", places, share.to(places.dtype)))
        return features


def _wavelengths_nm(channels: Sequence[Channel]) -> tuple[float, ...]:
    """Wavelength of each channel of the data.

    Raises:
        InputError: Some have none.
    """
    unknown = [c.name for c in channels if c.wavelength_nm is None]
    if unknown:
        raise InputError(
            f"model.encoder.embedding=wavelength: {', '.join(unknown)} has none; give data.wavelengths_nm, or choose "
            f"model.encoder.embedding=name"
        )
    return tuple(c.wavelength_nm for c in channels if c.wavelength_nm is not None)


def _is_flat(kernel: Tensor) -> bool:
    return kernel.ndim == 5 and kernel.shape[2] == 1
