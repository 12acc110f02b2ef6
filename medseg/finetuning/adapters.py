"""Learned parameters of a network with a frozen encoder: saved alone, loaded again, merged into its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.utils import parametrize

from medseg.errors import InputError
from medseg.finetuning.strategy import part_of
from medseg.runtime.atomic import atomic_file


def learned(network: nn.Module) -> dict[str, Tensor]:
    """Parameters that learn, and buffers outside of a frozen part: what the pretrained weights do not have."""
    part = part_of(network)
    inside = {id(b) for b in part.buffers()} if part is not network else set()
    names = {name for name, p in network.named_parameters() if p.requires_grad}
    names |= {name for name, b in network.named_buffers() if id(b) not in inside}
    return {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items() if name in names}


def save(network: nn.Module, path: Path) -> int:
    """Write the learned parameters as safetensors, in one rename, with the permissions of the umask.

    Returns:
        Its size in bytes.
    """
    tensors = safetensors.torch.save(learned(network), {"format": "pt", "medseg": "adapters"})
    with atomic_file(path) as draft:
        draft.write_bytes(tensors)  # the library's own writer makes files that nobody else may read
    return len(tensors)


def load(network: nn.Module, path: Path) -> None:
    """Load a file of ``save`` into a network that was built, initialised and adapted in the same way.

    Raises:
        InputError: Not such a file, or of another network; nothing is changed then.
    """
    try:
        tensors = safetensors.torch.load_file(path)
    except Exception as error:  # the library raises its own kinds, and those of the file system
        raise InputError(
            f"{path}: no readable adapters ({error}); expected a file that medseg.finetuning.adapters.save wrote"
        ) from error
    expected = learned(network)
    misfit = [k for k in expected if k not in tensors or tensors[k].shape != expected[k].shape] + [
        k for k in tensors if k not in expected
    ]
    if misfit:
        raise InputError(
            f"{path}: {len(misfit)} tensors do not fit the network, such as {misfit[0]}; attach the same "
            "finetuning to the same model first"
        )
    network.load_state_dict(tensors, strict=False)


@torch.no_grad()
def merge(network: nn.Module) -> nn.Module:
    """Fold low-rank and reparametrised changes into the weights, in place: equal outputs, plain layers.

    Prompts and side networks add computation, not weights, and stay.

    Returns:
        The network.
    """
    for name, layer in list(_adapted(network)):
        if isinstance(layer, BaseTunerLayer):
            network.set_submodule(name, _merged(layer))
        else:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return network


def _merged(layer: Any) -> nn.Module:
    """The wrapped layer, with B A added. (The library's own merging fails on 3D convolutions of kernel 1.)"""
    base: nn.Module = layer.get_base_layer()
    weight = base.get_parameter("weight")
    for name in layer.active_adapters:
        down, up = layer.lora_A[name].weight.flatten(1), layer.lora_B[name].weight.flatten(1)
        weight.add_((up @ down).view_as(weight), alpha=layer.scaling[name])
    return base


def _adapted(network: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in network.named_modules():
        if isinstance(module, BaseTunerLayer) or (
            parametrize.is_parametrized(module, "weight") and not isinstance(module, parametrize.ParametrizationList)
        ):
            yield name, module
