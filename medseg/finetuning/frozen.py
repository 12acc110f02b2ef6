"""Frozen and linear probe: the encoder stays as it is."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from medseg.errors import InputError
from medseg.finetuning.strategy import Tuning, need_encoder


class Frozen(Tuning):
    """The decoder learns alone; the encoder's normalisation and dropout stay in evaluation mode too.

    Raises:
        InputError: In ``attach``, for a network without an encoder.
    """

    keeps = True
    option: ClassVar[str] = "frozen"
    """Of ``finetuning``, for messages."""

    def change(self, network: nn.Module) -> None:
        """Nothing is added."""
        need_encoder(network, self.option)


class LinearProbe(Frozen):
    """``Frozen``, held to a linear decoder: what is measured is what the encoder knows by itself.

    Raises:
        InputError: In ``attach``, for another decoder.
    """

    option = "linear_probe"

    def change(self, network: nn.Module) -> None:
        """Nothing is added."""
        super().change(network)
        decoder = getattr(network, "decoder", None)
        if type(decoder).__name__ != "Linear":
            raise InputError(
                f"finetuning=linear_probe: the decoder is {type(decoder).__name__}; set model/decoder=linear"
            )
