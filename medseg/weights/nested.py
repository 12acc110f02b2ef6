"""Where in a checkpoint the weights are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from medseg.errors import InputError, nearest
from medseg.weights.report import some

_AVERAGED = ("teacher", "ema", "model_ema", "state_dict_ema", "ema_state_dict", "params_ema")
_OTHERS = ("optim", "sched", "scaler", "loops", "callbacks", "decoder", "head", "loss", "criterion", "discriminator")
"""Beginnings of keys under which there are tensors, but not those of an encoder."""
_ADAPTER = re.compile(r"\.lora_[AB]\.|\.base_layer\.|\.parametrizations\.weight\.0\.(values|a|b)$")
"""Names beside, or instead of, those of the weights: of LoRA, SVFit and NOLA."""
_NEARLY = 0.9
"""Of two parts that hold about as many tensors, as teacher and student do, the averaged one is taken."""


def weights_in(content: Mapping[str, object], source: str, part: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint: of the mapping in it, however deep, that holds most of them.

    Checkpoints keep them under ``state_dict``, ``model``, ``teacher``, ``network_weights`` and many other names,
    beside the state of optimiser and loss, which is left out. An averaged copy (``teacher``, ``ema``) comes first
    if it holds about as many as the largest.

    Args:
        content: As the file holds it.
        source: For messages.
        part: Keys that lead to the mapping, joined by dots, instead of the search.

    Raises:
        InputError: There are none; no such part.

    Example:
        >>> import torch
        >>> list(weights_in({"epoch": 3, "net": {"a.weight": torch.ones(2)}, "optimizer": {}}, "f"))
        ['a.weight']
    """
    parts = dict(_parts(content))
    if not parts:
        held = f"no tensors by name, but {some([str(key) for key in content], 5)}" if content else "nothing at all"
        raise InputError(
            f"model.encoder.weights={source}: holds {held}, expected tensors by name: save network.state_dict()"
        )
    if part is not None:
        if part not in parts:
            raise InputError(f"model.encoder.weights={source}::{part}: no such part; {nearest(part, parts)}")
        return parts[part]
    return _of_the_encoder(parts)


def _of_the_encoder(parts: Mapping[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The part with most tensors, or the averaged copy of it."""
    own = {path: held for path, held in parts.items() if not _is_other(path)} or parts
    most = max(len(held) for held in own.values())
    averaged = [p for p, held in own.items() if p.split(".")[-1] in _AVERAGED and len(held) >= _NEARLY * most]
    chosen = averaged[0] if averaged else max(own, key=lambda path: len(own[path]))
    return own[chosen]


def refuse_adapters(names: Iterable[str], source: str) -> None:
    """Refuse weights that are changed by adapters, for which no new network has a place.

    Raises:
        InputError: Says how they become plain weights.
    """
    first = next((name for name in names if _ADAPTER.search(name)), None)
    if first is not None:
        raise InputError(
            f"model.encoder.weights={source}: holds adapters ({first}), expected plain weights; fold them in, by "
            "medseg.finetuning.adapters.merge(medseg.load(CHECKPOINT).network) for a checkpoint of medseg, and save "
            "the state_dict() of that"
        )


def _parts(content: Mapping[Any, object], path: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping in a checkpoint that holds dense tensors by name, by the keys that lead there."""
    held = {k: v.detach() for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor) and _dense(v)}
    if held:
        yield path, held
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _parts(value, f"{path}.{key}" if path else str(key))


def _dense(tensor: Tensor) -> bool:
    return not (tensor.is_sparse or tensor.is_quantized or tensor.is_nested)


def _is_other(path: str) -> bool:
    return any(key.lower().startswith(_OTHERS) for key in path.split("."))
