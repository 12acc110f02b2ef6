"""LoRA: low-rank changes of attention, MLP and convolutions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import peft
from torch import nn

from medseg.errors import InputError
from medseg.finetuning.strategy import Tuning, part_of

KINDS = {
    "attention": ("attn", "attention", "qkv", "query", "key", "value", "q_proj", "k_proj", "v_proj"),
    "mlp": ("mlp", "fc1", "fc2", "intermediate", "linear1", "linear2"),
}
"""Words in the path of a linear layer by which its kind is known."""
_CONV = (nn.Conv2d, nn.Conv3d)
_HEADS = {"head", "heads", "segmentation_head"}  # of networks without an encoder; new for every label table


class Lora(Tuning):
    """W + (alpha / rank) B A for chosen layers, W frozen; B starts at zero, so that nothing changes at first.

    Of a network without an encoder all is frozen but its head. The peft library injects the layers. For a
    convolution they are one of its kernel to ``rank`` channels and one of kernel 1 back, in two and three
    dimensions. Grouped convolutions are left out.

    Args:
        rank: Rank of the change.
        alpha: Its scale, over rank.
        dropout: Dropout of the input of A.
        targets: ``attention`` and ``mlp`` (linear layers with such a word in their path), ``convolution``,
            ``linear`` (every linear layer).
        pace: Settings of every ``Tuning``; rates hold for the adapters too.

    Raises:
        InputError: Unknown targets; in ``attach``, no layer of such a kind.

    References:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2022.
    """

    keeps = True

    def __init__(
        self,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: Sequence[str] = ("attention", "mlp", "convolution"),
        **pace: float,
    ) -> None:
        super().__init__(**pace)
        check_targets(targets)
        if rank < 1:
            raise InputError(f"finetuning.rank={rank}: expected 1 or more")
        self.rank, self.alpha, self.dropout, self.targets = rank, alpha, dropout, tuple(targets)

    def change(self, network: nn.Module) -> None:
        """Inject the adapters."""
        part = part_of(network)
        names = [n for n in layers_of(part, self.targets) if not _HEADS & set(n.split("."))]
        settings: dict[str, Any] = {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
        config = peft.LoraConfig(target_modules=names, bias="none", **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library, about layers it does not know to save
            peft.inject_adapter_in_model(config, part)
        if part is network:
            for name, module in part.named_modules():
                if name.rpartition(".")[2] in _HEADS:
                    module.requires_grad_(True)

    def settle(self, network: nn.Module) -> None:
        """The frozen part in evaluation mode, but for the adapters' own dropout."""
        super().settle(network)
        for name, module in part_of(network).named_modules():
            if "lora_dropout" in name:
                module.train()


def check_targets(targets: Sequence[str]) -> None:
    """Refuse targets that are none.

    Raises:
        InputError: Names them and what there is.
    """
    kinds = {*KINDS, "convolution", "linear"}
    unknown = [t for t in targets if t not in kinds]
    if unknown or not targets:
        raise InputError(f"finetuning.targets={list(targets)}: choose from {', '.join(sorted(kinds))}")


def layers_of(part: nn.Module, targets: Sequence[str]) -> list[str]:
    """Names of the layers of these kinds.

    Raises:
        InputError: There are none; says which kinds there are.
    """
    names = [name for name, module in part.named_modules() if kind_of(name, module) & set(targets)]
    if not names:
        there = sorted({kind for name, module in part.named_modules() for kind in kind_of(name, module)})
        raise InputError(f"finetuning.targets={list(targets)}: no such layer in {type(part).__name__}; it has {there}")
    return names


def kind_of(name: str, module: object) -> set[str]:
    """What a layer is: ``linear`` with ``attention`` or ``mlp``, ``convolution``, or nothing of these."""
    if isinstance(module, _CONV) and module.groups == 1:
        return {"convolution"}
    if not isinstance(module, nn.Linear):
        return set()
    parts = name.split(".")
    return {"linear"} | {kind for kind, words in KINDS.items() if any(p in words for p in parts)}
