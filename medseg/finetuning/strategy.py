"""Tuning: which parameters of a network learn, from when on, and how fast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from medseg.errors import InputError
from medseg.finetuning.depth import depths


class Tuning(ABC):
    """A way of tuning; ``attach`` changes a network in place, after its weights were loaded.

    The *part* that is tuned with care is the network's encoder, or all of a network that has none; the rest (the
    decoder) always learns. ``attach`` is deterministic in what it adds, so that a checkpoint loads into a network
    that was built and attached to anew.

    Attributes:
        keeps: Whether the part's own parameters stay as they are.

    Args:
        encoder_lr_scale: Learning rate of the part's own parameters, as a multiple of the decoder's.
        layer_decay: Each layer of the part learns so many times as fast as the one after it; 1 for all alike.
        head_warmup: Fraction of the budget in which only the decoder learns.
        gradual_unfreeze: Fraction of the budget after that, over which layers start to learn one after the other, the
            last first.

    Raises:
        InputError: Values out of range.

    References:
        Clark et al., ELECTRA, 2020, and Bao et al., BEiT, 2022 (layer-wise decay). Howard and Ruder, Universal
        Language Model Fine-tuning, 2018 (gradual unfreezing). Kumar et al., Fine-Tuning can Distort Pretrained
        Features, 2022 (the head first).
    """

    keeps: ClassVar[bool] = False

    def __init__(
        self,
        *,
        encoder_lr_scale: float = 1.0,
        layer_decay: float = 1.0,
        head_warmup: float = 0.0,
        gradual_unfreeze: float = 0.0,
    ) -> None:
        if encoder_lr_scale < 0 or not 0 < layer_decay <= 1:
            raise InputError(
                f"finetuning: got encoder_lr_scale={encoder_lr_scale}, layer_decay={layer_decay}, "
                "expected encoder_lr_scale >= 0 and 0 < layer_decay <= 1"
            )
        if not (0 <= head_warmup <= 1 and 0 <= gradual_unfreeze <= 1 and head_warmup + gradual_unfreeze <= 1):
            raise InputError(
                f"finetuning: head_warmup={head_warmup}, gradual_unfreeze={gradual_unfreeze}: "
                "expected fractions whose sum is at most 1"
            )
        self.encoder_lr_scale, self.layer_decay, self.head_warmup, self.gradual_unfreeze = (
            encoder_lr_scale,
            layer_decay,
            head_warmup,
            gradual_unfreeze,
        )

    def attach(self, network: nn.Module) -> None:
        """Change the network: freeze what stays, add what learns.

        Raises:
            InputError: The network has no place for it.
        """
        if self.keeps:
            part = part_of(network)
            part.requires_grad_(False)
            for fresh in getattr(part, "fresh", ()):
                fresh.requires_grad_(True)
        self.change(network)

    @abstractmethod
    def change(self, network: nn.Module) -> None:
        """Add what learns, to a part that is frozen already if it is kept."""

    def groups(self, network: nn.Module) -> list[dict[str, object]]:
        """Parameter groups: ``factor`` of the learning rate, ``starts`` (share of the budget), weight decay.

        Weight decay spares biases and normalisation, which have one axis.
        """
        above = _layers_above(part_of(network))
        deepest = max(above.values(), default=0)
        by_rate: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
        for parameter in (p for p in network.parameters() if p.requires_grad):
            factor, starts = 1.0, 0.0
            if id(parameter) in above and part_of(network) is not network:
                after = above[id(parameter)]
                factor = self.encoder_lr_scale * self.layer_decay**after
                starts = self.head_warmup + self.gradual_unfreeze * after / max(deepest, 1)
            by_rate.setdefault((factor, starts, parameter.ndim > 1), []).append(parameter)
        return [
            {"params": params, "factor": factor, "starts": starts} | ({} if decayed else {"weight_decay": 0.0})
            for (factor, starts, decayed), params in by_rate.items()
        ]

    def factor(self, group: Mapping[str, Any], progress: float) -> float:
        """0 until the group starts to learn, then 1; 1 of groups outside of the network."""
        return float(progress >= group.get("starts", 0.0))

    def settle(self, network: nn.Module) -> None:
        """A frozen part stays in evaluation mode: its normalisation and dropout are those of its own training."""
        if self.keeps:
            part_of(network).eval()


def part_of(network: nn.Module) -> nn.Module:
    """The part that is tuned with care: the encoder that declares features, or the network itself."""
    encoder = getattr(network, "encoder", None)
    return encoder if isinstance(encoder, nn.Module) and hasattr(encoder, "features") else network


def _layers_above(part: nn.Module) -> dict[int, int]:
    """Layers that come after that of each parameter, by its ``id``; of encoders next to each other, in its own.

    What an encoder has that is fresh is left out.
    """
    fresh = {id(p) for module in getattr(part, "fresh", ()) for p in module.parameters()}
    above: dict[int, int] = {}
    for encoder in getattr(part, "parallel", (part,)):
        inside = {name: p for name, p in encoder.named_parameters() if id(p) not in fresh}
        depth = depths(inside)
        deepest = max(depth.values(), default=0)
        above |= {id(p): deepest - depth[name] for name, p in inside.items()}
    return above


def need_encoder(network: nn.Module, way: str) -> Any:
    """The encoder of an encoder-decoder.

    Raises:
        InputError: There is none.
    """
    part: Any = part_of(network)
    if part is network:
        raise InputError(
            f"finetuning={way} needs an encoder that declares its features, {type(network).__name__} has none; "
            "take model=encoder_decoder, or finetuning=full or lora"
        )
    return part
