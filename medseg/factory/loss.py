"""The loss of a training, its terms with their heads."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from medseg.errors import InputError
from medseg.factory.instantiate import instantiate
from medseg.losses.term import needs
from medseg.losses.weighted_sum import WeightedSum
from medseg.models.encoders.encoder import Encoder
from medseg.models.network import Network
from medseg.sample import DataSpec


def build_loss(cfg: DictConfig, spec: DataSpec, network: Network) -> Any:
    """The loss for a network; heads of its terms are random by the seed of the training.

    Args:
        cfg: ``conf/train.yaml``, composed.
        spec: Of the data.
        network: What it will train.

    Raises:
        InputError: A term needs what the network does not give.
    """
    loss = instantiate(cfg.loss)(labels=spec.labels)
    if isinstance(loss, WeightedSum):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cfg.seed)
            encoder = _encoder(network)
            loss.attach(network.outputs, None if encoder is None else encoder.features, encoder)
        _check_case_term(loss, network)
    return loss


def _check_case_term(loss: WeightedSum, network: Network) -> None:
    """Raise if a network classifies cases, and no term teaches it."""
    if network.classifies and not any("case_logits" in needs(term) for term in loss.terms.values()):
        raise InputError(
            "data.case_label: no term of the loss reads the class that the network gives; add one, as in "
            "loss/term=[dice,cross_entropy,case_cross_entropy], or leave data.case_label out"
        )


def _encoder(network: nn.Module) -> Encoder | None:
    """The encoder of a network; None without one that declares features, and where it sees more than the labels."""
    encoder = getattr(network, "encoder", None)
    return encoder if isinstance(encoder, Encoder) and not any(encoder.margin) else None
