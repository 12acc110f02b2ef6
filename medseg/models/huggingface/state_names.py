"""Tensors in files of transformers under the current names of its networks: most were renamed over the years."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from medseg.models.huggingface.hooks import first_convolution

_DEEPEST = 5
"""Parts of the longest prefix that is tried; Mask2Former has its encoder under three."""


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}


def current(state: Mapping[str, Tensor], network: type[PreTrainedModel], config: PreTrainedConfig) -> dict[str, Tensor]:
    """The tensors of a file under the names of a network; tensors that it does not have keep their names.

    Files keep the names of the release that wrote them, and transformers renames (and splits, such as gated
    perceptrons of DINOv2) when it loads. That is done here by transformers itself, after the prefix under which
    a larger network keeps this one is taken away. Tensors stay in the shape of the file, if the network differs
    from it only in what takes the image; others that don't fit the configuration are left as they are.

    Args:
        state: Tensors by their names in the file.
        network: Class of the network.
        config: Configuration of the saved network; its number of channels is read from the file.
    """
    with torch.device("meta"):
        empty = network(config)
    own, stem = empty.state_dict(), first_convolution(empty)
    if _complete(own, state):
        return dict(state)
    best: dict[str, Tensor] = {}
    for prefix in _prefixes(own, state):
        inner = _below(prefix, state)
        converted = _fit_channels(inner, network, config, stem)
        if len(converted) > max(len(best.keys() & own.keys()), len(own.keys() & inner.keys())):
            best = {name: t for name, t in state.items() if not name.startswith(prefix)} | converted
        if len(converted) == len(own):
            break
    return best or dict(state)


def _fit_channels(
    state: Mapping[str, Tensor], network: type[PreTrainedModel], config: PreTrainedConfig, stem: str
) -> dict[str, Tensor]:
    """Tensors as a network of the file's number of channels loads them."""
    converted, mismatched = _convert(state, network, config)
    if len(mismatched.get(stem, ())) > 1:
        converted, _ = _convert(state, network, with_channels(config, mismatched[stem][1]))
    return converted


def with_channels(config: PreTrainedConfig, channels: int) -> PreTrainedConfig:
    """A copy for images of another number of channels; of a network, in the configuration of its encoder."""
    changed = deepcopy(config)
    within = getattr(changed, "backbone_config", None)
    (changed if within is None else within).num_channels = channels
    return changed


def _complete(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Whether a file has every name of the network, under one prefix."""
    first = next(iter(own))
    prefixes = [name.removesuffix(first) for name in state if name == first or name.endswith(f".{first}")]
    return any(all(prefix + name in state for name in own) for prefix in prefixes)


def _prefixes(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Prefixes under which the file has most tensors of the network's shapes, and the fewest others; shortest first."""
    own_shapes = Counter(tuple(t.shape) for t in own.values())
    shapes: dict[str, Counter[tuple[int, ...]]] = {}
    for name, tensor in state.items():
        parts = name.split(".")
        for deep in range(min(_DEEPEST, len(parts))):
            prefix = "".join(f"{part}." for part in parts[:deep])
            shapes.setdefault(prefix, Counter())[tuple(tensor.shape)] += 1
    ranks = {prefix: ((counts & own_shapes).total(), -counts.total()) for prefix, counts in shapes.items()}
    return sorted((p for p, rank in ranks.items() if rank == max(ranks.values())), key=len)


def _convert(
    state: Mapping[str, Tensor], network: type[PreTrainedModel], config: PreTrainedConfig
) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """Tensors as transformers loads them, and the shapes in the file of those that it rejects for their shape."""
    with _silent():
        loaded, report = network.from_pretrained(
            None, config=deepcopy(config), state_dict=dict(state), output_loading_info=True,
            ignore_mismatched_sizes=True, dtype=torch.float32,
        )  # fmt: skip
    mismatched = {name: tuple(shape) for name, shape, _ in report["mismatched_keys"]}
    absent = {*report["missing_keys"], *mismatched}
    return {name: t for name, t in loaded.state_dict().items() if name not in absent}, mismatched


@contextmanager
def _silent() -> Iterator[None]:
    """Without transformers' own report and progress bar; ``weights.report`` accounts for every tensor."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
