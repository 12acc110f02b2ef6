"""Initial: the network before its first step: tried before a case is read, then given its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import nan

import torch
from omegaconf import DictConfig

from medseg.data.preprocessing.normalise import Normalisation
from medseg.errors import InputError, rename_keys
from medseg.finetuning.strategy import Tuning
from medseg.models.network import Network
from medseg.planning.nnunet import plan_at
from medseg.planning.plan import Plan
from medseg.sample import DataSpec
from medseg.weights.load import load
from medseg.weights.options import WeightOptions
from medseg.weights.pretrained import read
from medseg.weights.report import Report

_PATCH = {2: 256, 3: 64}
"""Cells along each axis of a patch that is yet to be planned."""
_COMPUTES = (NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError)
"""What a constructor raises on the meta device if it computes with what it makes."""


def rehearse(
    cfg: DictConfig,
    spec: DataSpec,
    make: Callable[[Plan], Network],
    *,
    planned: bool,
    tuning: Tuning | None,
) -> None:
    """Build the network without memory, hold it to the weights that are asked for, and try its way of tuning.

    So an encoder that does not fit its decoder, the bands or the patch, weights that can't be had or do not fit,
    and adapters that have no place are refused before a case is read. Of a network that follows kernels and
    strides, which are yet to be planned, no more is known than whether its weights can be read.

    Args:
        cfg: Of the training.
        spec: Of the data.
        make: The network for a plan.
        planned: Whether kernels and strides shape it; see ``Network.follows_plan``.
        tuning: The way of tuning, if there is one.

    Raises:
        InputError: See ``EncoderDecoder``, ``weights.load.load`` and ``Tuning.attach``.
    """
    patch = _patch(cfg, spec.ndim)
    if planned or len(patch) != spec.ndim:  # which the plan refuses
        if cfg.get("weights") and cfg.ckpt_path is None:
            with _of_all():
                read(str(cfg.weights))
        return
    sketch = Plan((1.0,) * spec.ndim, patch, batch_size=1, kernels=(), strides=(), normalisation=(), masked=False)
    with torch.random.fork_rng(devices=[]):
        net = _sketched(make, sketch)
        if cfg.ckpt_path is None:
            begin(cfg, net, spec)
        if tuning is not None:
            _try(tuning, net)


def _sketched(make: Callable[[Plan], Network], sketch: Plan) -> Network:
    """The network without memory; with it where a library can't build it so, which raises what is wrong once more."""
    try:
        with torch.device("meta"):
            return make(sketch)
    except InputError as refused:
        if not isinstance(refused.__cause__, _COMPUTES):
            raise
    except _COMPUTES:
        pass
    return make(sketch)


def _try(tuning: Tuning, net: Network) -> None:
    """Attach to the network, whose memory is given back first; what has to compute for that is left for later."""
    net.to("meta")  # some networks have made a part of themselves with memory
    try:
        with torch.device("meta"):
            tuning.attach(net)
    except InputError:
        raise
    except _COMPUTES:
        return


def begin(cfg: DictConfig, net: Network, spec: DataSpec, rules: Sequence[Normalisation] | None = None) -> Report | None:
    """Give a network the weights it begins with: those of ``cfg.weights`` for all of it, or of its encoder's setting.

    Of a network that was pretrained or trained on other classes, the last layer does not fit and stays random.

    Args:
        cfg: Of the training.
        net: With random weights; or on the meta device, where weights are only compared with it.
        spec: Channels of the data.
        rules: Normalisation of each channel; None before it is planned.

    Returns:
        What came from where; None if nothing was asked for.

    Raises:
        InputError: See ``weights.load.load``.
    """
    known = None if rules is None else statistics(_of_inputs(rules, spec))
    if not cfg.get("weights"):
        return net.initialise(known)
    with _of_all():
        return load(
            net,
            net.adopt(read(str(cfg.weights))),
            stem=net.stem_kernel,
            channels=spec.inputs,
            options=WeightOptions(least_share=cfg.least_share, accept=list(cfg.accept)),
            statistics=known,
        )


def _of_inputs(rules: Sequence[Normalisation], spec: DataSpec) -> list[Normalisation]:
    """A rule for each of ``spec.inputs``."""
    own = [rule for rule, channel in zip(rules, spec.channels, strict=True) for _ in channel.inputs]
    return own + [Normalisation("none")] * (len(spec.inputs) - len(own))


def _of_all() -> AbstractContextManager[None]:
    """Around loading all of a network, of which messages shall not tell as of an encoder."""
    return rename_keys(
        (", or set model.encoder.adapt=random to train it anew", ""),  # all of a network has no such key
        ("or choose that model.encoder", "or choose that model"),
        ("model.encoder.", ""),
        ("the encoder", "the network"),
    )


def _patch(cfg: DictConfig, ndim: int) -> tuple[int, ...]:
    if cfg.plan.file is not None:
        return plan_at(str(cfg.plan.file), ndim).patch
    return tuple(cfg.plan.patch or (_PATCH[ndim],) * ndim)


def statistics(rules: Sequence[Normalisation]) -> dict[str, list[float]]:
    """``mean`` and ``std`` of each channel in raw values; NaN where only those of each image are known.

    Example:
        >>> statistics([Normalisation("ct", mean=40.0, std=20.0), Normalisation("zscore")])
        {'mean': [40.0, nan], 'std': [20.0, nan]}
    """
    known = [rule.pooled for rule in rules]
    return {
        key: [getattr(rule, key) if told else nan for rule, told in zip(rules, known, strict=True)]
        for key in ("mean", "std")
    }
