"""What is written of logits besides classes: probabilities and how sure the network is, in steps of 1/254."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from medseg.inference.decide import entropy, prob_of
from medseg.inference.rows import Slab
from medseg.labels import LabelTable

STEPS = 254
"""A value p from 0 to 1 is stored as the nearest integer to ``254 p``; 255 is left for cells without a value."""


def probability_bands(slab: Slab, labels: LabelTable, temperature: float = 1.0) -> Shaped[np.ndarray, "k r *rest"]:
    """The probability of each class, or of each region, of logits that are divided by a temperature."""
    return scaled(prob_of(slab.logits / temperature, labels))


def uncertainty_bands(slab: Slab, labels: LabelTable, temperature: float = 1.0) -> Shaped[np.ndarray, "n r *rest"]:
    """The entropy of each cell, and of several networks their disagreement, both as shares of the largest entropy.

    Entropy is that of the mean probability, of one network at its temperature. Disagreement is the mutual information
    between class and network: the entropy that is left when the mean entropy of the single networks is taken away.

    References:
        Depeweg et al., Decomposition of uncertainty in Bayesian deep learning, 2018.
    """
    most = labels.n_outputs * math.log(2) if labels.regions else math.log(labels.n_outputs)
    values = [entropy(prob_of(slab.logits / temperature, labels), labels)]
    values += [] if slab.disagreement is None else [slab.disagreement]
    return scaled(torch.stack(values) / most)


def uncertainty_names(members: int) -> list[str]:
    """Names of the bands of ``uncertainty_bands``."""
    return ["entropy", "disagreement"] if members > 1 else ["entropy"]


def scaled(share: Float[Tensor, "n *s"]) -> Shaped[np.ndarray, "n *s"]:
    """Values from 0 to 1 as integers from 0 to ``STEPS``; uint8."""
    return (share * STEPS).round().clamp(0, STEPS).to(torch.uint8).cpu().numpy()
