"""What a network gives in training: logits, other outputs by name, and the features of its encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from medseg.errors import InputError

Logits = Tensor | list[Tensor]
"""Logits of the label's shape, or under deep supervision a list from fine to coarse."""


def split_outputs(returned: Logits | Mapping[str, Any]) -> tuple[Logits, dict[str, Any]]:
    """The logits of a network, and its other outputs by name.

    Raises:
        InputError: Named outputs without logits.

    Example:
        >>> split_outputs({"logits": [], "edges": 1})
        ([], {'edges': 1})
    """
    if not isinstance(returned, Mapping):
        return returned, {}
    named = dict(returned)
    if "logits" not in named:
        raise InputError(f"network: got the outputs {sorted(named)}, expected 'logits' among them")
    return named.pop("logits"), named


def finest(logits: Logits) -> Tensor:
    """The finest logits of a network that gives several."""
    return logits[0] if isinstance(logits, list) else logits


def check_whole(network: nn.Module, method: str) -> None:
    """Raise on a network that gives no logits of the margin of a patch.

    Args:
        network: What is trained.
        method: As words of a command name it, such as ``method=distill``.

    Raises:
        InputError: It gives none.
    """
    if any(getattr(network, "margin", ())):
        raise InputError(
            f"{method} compares whole patches, and the network gives no logits of their margin "
            "(model.encoder.context); leave the context out"
        )


@contextmanager
def encoder_features(network: nn.Module, *, wanted: bool) -> Iterator[dict[str, Any]]:
    """Context in which the encoder of a network stores its features under ``features``, where they are wanted.

    Args:
        network: Has ``encoder``, if they are wanted.
        wanted: Whether anything reads them; if not, nothing is stored, and nothing costs.
    """
    stored: dict[str, Any] = {}
    if not wanted:
        yield stored
        return

    def store(_module: nn.Module, _args: object, features: object) -> None:
        stored["features"] = features

    handle = network.get_submodule("encoder").register_forward_hook(store)
    try:
        yield stored
    finally:
        handle.remove()
