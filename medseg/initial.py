"""Initial: the network before its first step: tried before a case is read, then given its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path

import torch
from omegaconf import DictConfig

from medseg.data.normalise import POOLED, Normalisation
from medseg.models.encoders.encoder import Encoder
from medseg.models.network import Network
from medseg.planning.plan import Plan, read_plan
from medseg.sample import DataSpec
from medseg.weights.load import load
from medseg.weights.pretrained import read
from medseg.weights.report import Report

_PATCH = {2: 256, 3: 64}
"""Cells along each axis of a patch that is yet to be planned."""
_COMPUTES = (NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError)
"""What a constructor raises on the meta device if it computes with what it makes."""


def rehearse(cfg: DictConfig, ndim: int, make: Callable[[Plan], Network]) -> None:
    """Build a network of encoder and decoder without memory, and look for its weights.

    So an encoder that does not fit its decoder, the bands or the patch, and weights that can't be had, are
    refused before a case is read. Other networks follow kernels and strides that are yet to be planned.

    Args:
        cfg: Of the training.
        ndim: Spatial axes of the data.
        make: The network for a plan.

    Raises:
        BadInput: See ``Segmenter`` and ``Encoder.fetch``.
    """
    patch = _patch(cfg, ndim)
    if not isinstance(cfg.model.get("encoder"), DictConfig) or len(patch) != ndim:  # which the plan refuses
        return
    sketch = Plan((1.0,) * ndim, patch, batch_size=1, kernels=(), strides=(), normalisation=(), masked=False)
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                net = make(sketch)
        except _COMPUTES:
            net = make(sketch)
    if cfg.ckpt_path is None:
        for module in net.modules():
            if isinstance(module, Encoder):
                module.find_weights()


def begin(cfg: DictConfig, net: Network, spec: DataSpec, rules: Sequence[Normalisation]) -> Report | None:
    """Give a network the weights it begins with: those of ``cfg.weights`` for all of it, or of its encoder's setting.

    Of a network that was pretrained or trained on other classes, the last layer does not fit and stays random.

    Args:
        cfg: Of the training.
        net: With random weights.
        spec: Channels of the data.
        rules: Normalisation of each channel.

    Returns:
        What came from where; None if nothing was asked for.

    Raises:
        BadInput: See ``weights.load.load``.
    """
    if not cfg.get("weights"):
        return net.initialise(statistics(rules))
    return load(
        net,
        read(str(cfg.weights)),
        stem=None,
        channels=spec.channels,
        least_share=cfg.least_share,
        statistics=statistics(rules),
    )


def _patch(cfg: DictConfig, ndim: int) -> tuple[int, ...]:
    if cfg.plan.file is not None:
        return read_plan(Path(cfg.plan.file)).patch
    return tuple(cfg.plan.patch or (_PATCH[ndim],) * ndim)


def statistics(rules: Sequence[Normalisation]) -> dict[str, list[float]]:
    """``mean`` and ``std`` of each channel in raw values; NaN where only those of each image are known.

    Example:
        >>> statistics([Normalisation("ct", mean=40.0, std=20.0), Normalisation("zscore")])
        {'mean': [40.0, nan], 'std': [20.0, nan]}
    """
    known = [rule.scheme in POOLED for rule in rules]
    return {
        key: [getattr(rule, key) if told else nan for rule, told in zip(rules, known, strict=True)]
        for key in ("mean", "std")
    }
