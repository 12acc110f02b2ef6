"""SAM-Adapter: each block of a frozen transformer gets a prompt from the high frequencies of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.finetuning.strategy import Tuning, need_encoder
from medseg.models.layers import CONV


class SamAdapter(Tuning):
    """Adds to the tokens before every block: MLP_up(GELU(MLP_i(tokens' embedding + high frequencies))).

    The high frequencies of the image are what remains when the middle ``share`` of its spectrum is taken away on
    each axis. They are embedded by a convolution of the encoder's patch; the embedding of the tokens is a linear
    map of those that enter the first block. The map up is shared by all blocks and starts at zero, so that nothing
    changes at first.

    Args:
        width: Width of the prompts.
        share: Side of the part of the centred spectrum that is removed, as a share of its side, in (0, 1).
        pace: Settings of every ``Tuning``.

    Raises:
        InputError: In ``attach``, an encoder without a list of blocks over tokens or one that has a pyramid.

    References:
        Chen et al., SAM Fails to Segment Anything? SAM-Adapter, 2023; Liu et al., Explicit Visual Prompting, 2023
        (high-frequency components).
    """

    keeps = True

    def __init__(self, *, width: int = 32, share: float = 0.25, **pace: float) -> None:
        super().__init__(**pace)
        if width < 1 or not 0 < share < 1:
            raise InputError(
                f"finetuning.width={width}, finetuning.share={share}: expected width >= 1 and 0 < share < 1"
            )
        self.width, self.share = width, share

    def change(self, network: nn.Module) -> None:
        """Wrap the blocks, and the encoder itself, whose image the prompts are made of."""
        encoder = need_encoder(network, "sam_adapter")
        feature = encoder.features[0]
        name = blocks_of(encoder)
        if name is None or len({f.stride for f in encoder.features}) > 1 or any(s % 1 for s in feature.stride):
            raise InputError(
                "finetuning=sam_adapter is for plain transformers, whose blocks are all of one width; take lora"
            )
        blocks: Any = encoder.get_submodule(name)
        stride = tuple(int(s) for s in feature.stride)
        prompts = Prompts(len(encoder.channels), feature.channels, stride, len(blocks), self.width, self.share)
        for i, block in enumerate(blocks):
            blocks[i] = PromptedBlock(block, prompts, i)
        encoder.prompts = prompts
        encoder.register_forward_pre_hook(_look)
        encoder.register_forward_hook(_forget)


def _look(encoder: Any, inputs: tuple[Tensor, ...]) -> None:
    encoder.prompts.look(inputs[0])


def _forget(encoder: Any, inputs: tuple[Tensor, ...], features: list[Tensor]) -> None:
    encoder.prompts.forget()


def blocks_of(encoder: nn.Module) -> str | None:
    """Name of the list of transformer blocks: the longest ``ModuleList`` or ``Sequential`` of one class."""
    blocks = {
        name: len(module)
        for name, module in encoder.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential))
        and len(module) > 1
        and len({type(m) for m in module}) == 1
        and any(isinstance(m, nn.LayerNorm) for m in module[0].modules())
    }
    return max(blocks, key=lambda name: blocks[name]) if blocks else None


class Prompts(nn.Module):
    """What is added before each block.

    Args:
        channels: Number of image channels.
        features: Width of the tokens.
        stride: Cells of a token on each axis.
        blocks: Number of blocks.
        width: Width of the prompts.
        share: Fraction of the spectrum that is removed.
    """

    def __init__(
        self, channels: int, features: int, stride: Sequence[int], blocks: int, width: int, share: float
    ) -> None:
        super().__init__()
        self.share = share
        self.cut = CONV[len(stride)](channels, width, tuple(stride), tuple(stride))
        self.enter = nn.Linear(features, width)
        self.own = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(blocks))
        self.leave = nn.Linear(width, features)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self._frequencies: Tensor | None = None
        self._embedding: Tensor | None = None

    def look(self, image: Float[Tensor, "b c *s"]) -> None:
        """Take in the image that is about to be encoded."""
        self._frequencies = self.cut(high_frequencies(image, self.share)).flatten(2).transpose(1, 2)
        self._embedding = None

    def forget(self) -> None:
        """Let go of the image: a network that keeps tensors of a graph can't be copied."""
        self._frequencies = self._embedding = None

    def forward(self, tokens: Tensor, block: int) -> Tensor:
        """Tokens ``[b, n, d]`` (or ``[b, *s, d]``) and their prompt; tokens without a place get none."""
        frequencies = self._frequencies
        if frequencies is None:
            raise RuntimeError("a block was run without its encoder")
        flat = tokens.reshape(len(tokens), -1, tokens.shape[-1])
        prefix = flat.shape[1] - frequencies.shape[1]
        if prefix < 0 or (prefix and tokens.ndim > 3):
            raise InputError(
                "finetuning=sam_adapter: the encoder cuts its tokens into windows before its blocks; take lora"
            )
        if self._embedding is None:
            self._embedding = self.enter(flat[:, prefix:])
        prompt = self.leave(self.own[block](self._embedding + frequencies))
        flat = torch.cat([flat[:, :prefix], flat[:, prefix:] + prompt], dim=1)
        return flat.reshape(tokens.shape)


class PromptedBlock(nn.Module):
    """A block whose tokens are prompted before it runs.

    Args:
        block: Frozen.
        prompts: Shared by all blocks.
        index: Index of this block.
    """

    def __init__(self, block: nn.Module, prompts: Prompts, index: int) -> None:
        super().__init__()
        self.block = block
        self.index = index
        self._prompts = [prompts]  # in a list, so that its parameters are counted once, with the encoder

    def forward(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the block makes of prompted tokens."""
        return self.block(self._prompts[0](tokens, self.index), *args, **kwargs)


def high_frequencies(image: Float[Tensor, "b c *s"], share: float) -> Float[Tensor, "b c *s"]:
    """The image without the lowest frequencies: a box of ``share`` of each side of the centred spectrum.

    Computed in float32. The mean goes with them.
    """
    axes = tuple(range(2, image.ndim))
    spectrum = torch.fft.fftshift(torch.fft.fftn(image.float(), dim=axes), dim=axes)
    keep = torch.zeros(image.shape[2:], dtype=torch.bool, device=image.device)
    for axis, n in enumerate(image.shape[2:]):
        far = (torch.arange(n, device=image.device) - n // 2).abs() > share * n / 2
        keep |= far.view(*[-1 if a == axis else 1 for a in range(len(axes))])
    spectrum = torch.where(keep, spectrum, torch.zeros((), dtype=spectrum.dtype, device=spectrum.device))
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=axes), dim=axes).real.to(image.dtype)
