"""Losses that trust the label less than cross-entropy does: generalised, symmetric, and bootstrapping."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.decisions import DecisionLoss, Decisions


def generalised_cross_entropy(labelled: Float[Tensor, "*n"], *, q: float = 0.7) -> Float[Tensor, "*n"]:
    r"""Cross-entropy whose gradient fades where the label is improbable, which may be a wrong label.

    .. math:: (1 - p(g)^q) / q

    Cross-entropy in the limit q = 0, and one minus the probability (the mean absolute error, but for a factor 2)
    for q = 1. Bounded by 1/q.

    Args:
        labelled: Log-probability of the labelled outcome.
        q: In (0, 1].

    References:
        Zhang and Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, 2018
        (without their truncation).
    """
    return -torch.expm1(q * labelled) / q


def symmetric_cross_entropy(
    labelled: Float[Tensor, "*n"], *, alpha: float = 0.1, beta: float = 1.0, log_zero: float = -4.0
) -> Float[Tensor, "*n"]:
    r"""Cross-entropy of the prediction under the label, plus that of the label under the prediction.

    .. math:: - \alpha \log p(g) - \beta \sum_{k} p(k) \log g(k) = - \alpha \log p(g) - \beta A (1 - p(g))

    as log g is 0 for the labelled outcome, and A = ``log_zero`` stands for the logarithm of zero of the others.

    Args:
        labelled: Log-probability of the labelled outcome.
        alpha: Weight of the cross-entropy, not negative.
        beta: Weight of the reverse one, not negative.
        log_zero: What stands for the logarithm of zero; negative.

    References:
        Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, 2019.
    """
    return -alpha * labelled + beta * log_zero * torch.expm1(labelled)


def bootstrapped(decisions: Decisions, *, beta: float = 0.95, hard: bool = False) -> Float[Tensor, "b n *s"]:
    r"""Cross-entropy with a target that is in part the prediction itself.

    .. math:: - \sum_k (\beta g(k) + (1 - \beta) q(k)) \log p(k)

    with q = p (soft), through which the gradient goes too, or q = 1 for the most probable outcome (hard).

    Args:
        decisions: Those of the cells.
        beta: Share of the label, in [0, 1]; 1 is cross-entropy.
        hard: Take the most probable outcome instead of the probabilities.

    References:
        Reed et al., Training Deep Neural Networks on Noisy Labels with Bootstrapping, 2015 (0.95 if soft, 0.8 if hard).
    """
    log_prob = decisions.log_prob
    own = log_prob.amax(dim=2) if hard else (log_prob.exp() * log_prob).sum(dim=2)
    return -beta * decisions.labelled() - (1 - beta) * own


class GeneralisedCrossEntropyLoss(DecisionLoss):
    """Mean generalised cross-entropy of counted cells; see ``generalised_cross_entropy``."""

    def __init__(self, labels: LabelTable, *, q: float = 0.7, class_weights: Mapping[str, float] | None = None) -> None:
        if not 0 < q <= 1:
            raise InputError(f"loss gce: expected q in (0, 1] (towards 0 it becomes cross-entropy), got {q}")
        super().__init__(labels, "gce", class_weights)
        self.q = q

    def cost(self, decisions: Decisions) -> Float[Tensor, "b n *s"]:
        """See ``generalised_cross_entropy``."""
        return generalised_cross_entropy(decisions.labelled(), q=self.q)


class SymmetricCrossEntropyLoss(DecisionLoss):
    """Mean symmetric cross-entropy of counted cells; see ``symmetric_cross_entropy``."""

    def __init__(
        self, labels: LabelTable, *, alpha: float = 0.1, beta: float = 1.0, log_zero: float = -4.0,
        class_weights: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        if not (alpha >= 0 and beta >= 0 and log_zero < 0):
            raise InputError(
                "loss sce: expected alpha and beta >= 0 and log_zero < 0, got "
                f"alpha={alpha}, beta={beta}, log_zero={log_zero}"
            )
        super().__init__(labels, "sce", class_weights)
        self.alpha, self.beta, self.log_zero = alpha, beta, log_zero

    def cost(self, decisions: Decisions) -> Float[Tensor, "b n *s"]:
        """See ``symmetric_cross_entropy``."""
        return symmetric_cross_entropy(decisions.labelled(), alpha=self.alpha, beta=self.beta, log_zero=self.log_zero)


class BootstrappedLoss(DecisionLoss):
    """Mean bootstrapped cross-entropy of counted cells; see ``bootstrapped``."""

    def __init__(
        self, labels: LabelTable, *, beta: float = 0.95, hard: bool = False,
        class_weights: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        if not 0 <= beta <= 1:
            raise InputError(f"loss bootstrap: expected beta in [0, 1] (1 is cross-entropy), got {beta}")
        super().__init__(labels, "bootstrap", class_weights)
        self.beta, self.hard = beta, hard

    def cost(self, decisions: Decisions) -> Float[Tensor, "b n *s"]:
        """See ``bootstrapped``."""
        return bootstrapped(decisions, beta=self.beta, hard=self.hard)
