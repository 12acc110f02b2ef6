"""The loss of a training, its terms with their heads."""

from __future__ import annotations

from typing import Any

import torch
from hydra.utils import get_class
from omegaconf import DictConfig
from torch import nn

from medseg.data.case import SOFT
from medseg.errors import InputError
from medseg.factory.instantiate import instantiate
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dirs
from medseg.losses.term import needs, takes_soft
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
        InputError: A term needs what the network does not give, or takes no soft labels where labels are soft.
    """
    loss = instantiate(cfg.loss)(labels=spec.labels)
    if isinstance(loss, WeightedSum):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cfg.seed)
            encoder = _encoder(network)
            loss.attach(network.outputs, None if encoder is None else encoder.features, encoder)
        _check_case_term(loss, network)
    if SOFT in _annotations(cfg):
        _check_soft(loss)
    return loss


def _annotations(cfg: DictConfig) -> list[object]:
    """How labels of several observers are taken, of the main dataset and of those of streams; None where they are not.

    Args:
        cfg: ``conf/train.yaml``, composed.
    """
    of_streams = [one.get("data") for one in (cfg.get("streams") or {}).values() if one is not None]
    return [data.get("annotations") for data in (cfg.get("data"), *of_streams) if data is not None]


def _check_soft(loss: object) -> None:
    """Raise on a loss, or a term of it, that takes no soft labels; names the terms that do."""
    if isinstance(loss, WeightedSum):
        lacking = [f"loss.terms.{name}" for name, term in loss.terms.items() if not takes_soft(term)]
    else:
        lacking = [f"loss={type(loss).__name__}"]
    if lacking:
        able = ",".join(_soft_terms())
        raise InputError(
            f"data.annotations=soft: {lacking[0]} takes no soft labels; take some of loss/term=[{able}], or "
            "data.annotations=draw, by which each patch has the label of one observer"
        )


def _soft_terms() -> list[str]:
    """Options of ``loss/term`` that take soft labels."""
    names = sorted({path.stem for folder in conf_dirs() for path in (folder / "loss" / "term").glob("*.yaml")})
    terms = compose("train", [f"loss/term=[{','.join(names)}]"]).loss.terms
    own = {name: needs(get_class(term._target_)) for name, term in terms.items()}
    return [name for name, wanted in own.items() if "soft" in wanted]


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
