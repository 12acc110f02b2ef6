"""WeightedSum: the loss that a method calls, a sum of named terms over one or several resolutions."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.deep_supervision import coarsen, level_weights

Term = Callable[..., nn.Module]
"""Builds a term from ``labels``; the module maps (logits, label, valid) to a scalar."""


class WeightedSum(nn.Module):
    """Weighted sum of loss terms; under deep supervision, of all levels too.

    Attributes:
        terms: Loss modules by name.
        weights: Weight of each term.

    Example:
        >>> import torch
        >>> from medseg.losses.cross_entropy import CrossEntropyLoss
        >>> table = LabelTable.declare({"background": 0, "liver": 1})
        >>> loss = WeightedSum(table, {"ce": CrossEntropyLoss}, {"ce": 2.0})
        >>> total, parts = loss(torch.zeros(1, 2, 4), torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4).bool())
        >>> round(total.item(), 4), round(parts["ce"].item(), 4)  # 2 log 2, log 2
        (1.3863, 0.6931)
    """

    def __init__(
        self, labels: LabelTable, terms: Mapping[str, Term], weights: Mapping[str, float] | None = None
    ) -> None:
        """Build the terms.

        Args:
            labels: Decides between softmax classes and sigmoid regions, and how many.
            terms: By name, what builds each term from ``labels`` (in yaml: ``_partial_: true``).
            weights: By name; 1 for those not named.

        Raises:
            InputError: There are no terms, or a weight is negative or names no term.
        """
        super().__init__()
        if not terms:
            raise InputError("loss: got no terms, expected at least one under loss.terms")
        by_name = dict(weights or {})
        wrong = {n: w for n, w in by_name.items() if n not in terms or isinstance(w, str) or not w >= 0}
        if wrong:
            raise InputError(f"loss: weights {wrong}: expected numbers >= 0 for terms among {list(terms)}")
        self.terms = nn.ModuleDict({name: build(labels=labels) for name, build in terms.items()})
        self.weights = {name: float(by_name.get(name, 1.0)) for name in terms}

    def forward(
        self,
        logits: Float[Tensor, "b k *s"] | Sequence[Float[Tensor, "b k ..."]],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Loss of a batch.

        Args:
            logits: Logits of the label's shape; or a list from fine to coarse, of which the first has it.
            label: Training index of each cell, or ``IGNORE``.
            valid: False where a cell does not count.

        Returns:
            The total, and the unweighted value of each term (mean over levels with
            ``level_weights``, detached): the total is the sum of weight times value.
        """
        levels = [logits] if isinstance(logits, Tensor) else list(logits)
        values = {name: torch.zeros((), device=label.device) for name in self.terms}
        for level, share in zip(levels, level_weights(len(levels)), strict=True):
            if share == 0:
                # A sum over no cells: 0, but the level's head gets a (zero) gradient, without which
                # distributed training stops over unused parameters.
                values = {name: value + level[:0].float().sum() for name, value in values.items()}
                continue
            at_label, at_valid = coarsen(label, level.shape[2:]), coarsen(valid, level.shape[2:])
            for name, term in self.terms.items():
                values[name] = values[name] + share * term(level, at_label, at_valid)
        parts = [self.weights[name] * value for name, value in values.items()]
        return sum(parts[1:], parts[0]), {name: value.detach() for name, value in values.items()}
