"""UNetGeometry: features, kernels, strides and blocks of a U-Net, as settings of ``model=unet`` and in comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_USUAL_MOST = {2: 512, 3: 320}
"""Bound of the features where ``model.max_features`` is null, by the axes of the data."""
_USUAL_BASE = 32
_USUAL_BLOCKS: dict[bool, tuple[Sequence[int], Sequence[int]]] = {False: ((2,), (2,)), True: ((1, 3, 4, 6), (1,))}
"""Blocks of the encoder and of the decoder in ``model=unet`` and, if residual, ``model=residual_unet``."""


@dataclass(frozen=True)
class UNetGeometry:
    """Shape of a U-Net of nnU-Net's kind.

    Attributes:
        residual: Whether its encoder is residual.
        features: Channels of each stage, fine to coarse.
        kernels: Kernel of each stage.
        strides: Stride at the entrance of each stage.
        encoder_blocks: Blocks (convolutions of a plain encoder) of each stage.
        decoder_blocks: Convolutions after each upsampling, coarse to fine; empty where there is no decoder.
    """

    residual: bool
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]

    def differences(self, other: UNetGeometry) -> list[tuple[str, str, str]]:
        """Name, own value and other value of each part that differs and that both know."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return [
            (name, _plain(own), _plain(theirs))
            for name, own, theirs in pairs
            if own != theirs and () not in (own, theirs)
        ]

    def overrides(self, ndim: int) -> str | None:
        """Settings that give ``model`` this shape, for data of ``ndim`` axes; None if none do.

        Example:
            >>> shape = UNetGeometry(False, (32, 64, 64), ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)), (2, 2, 2), (1, 1))
            >>> shape.overrides(2)
            'model=unet model.max_features=64 model.decoder_blocks=[1]'
        """
        base, most = self.features[0], max(self.features)
        doubled = [base * 2**i for i in range(len(self.features))]
        if list(self.features) != [min(n, most) for n in doubled]:
            return None
        words = ["model=residual_unet" if self.residual else "model=unet"]
        words += [f"model.base_features={base}"] if base != _USUAL_BASE else []
        words += [f"model.max_features={most}"] if most != min(doubled[-1], _USUAL_MOST[ndim]) else []
        encoder, decoder = _USUAL_BLOCKS[self.residual]
        words += _blocks("encoder", self.encoder_blocks, encoder) + _blocks("decoder", self.decoder_blocks, decoder)
        return " ".join(words)


def _blocks(part: str, blocks: Sequence[int], usual: Sequence[int]) -> list[str]:
    """The setting of the blocks of a part, if they are not the usual ones."""
    expected = [usual[min(i, len(usual) - 1)] for i in range(len(blocks))]
    return [] if list(blocks) == expected else [f"model.{part}_blocks={_plain(_short(blocks))}"]


def _short(numbers: Sequence[int]) -> tuple[int, ...]:
    """Without repetitions at the end, as the last number holds for all further stages."""
    end = len(numbers)
    while end > 1 and numbers[end - 2] == numbers[end - 1]:
        end -= 1
    return tuple(numbers[:end])


def _plain(value: object) -> str:
    """As lists without spaces, which a command takes."""
    if isinstance(value, tuple):
        return f"[{','.join(_plain(v) for v in value)}]"
    return str(value)
