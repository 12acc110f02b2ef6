"""WeightedSum: the loss that a method calls, a sum of named terms over one or several resolutions."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.deep_supervision import coarsen, coarsen_shares, level_weights
from medseg.losses.partial import marginal_label, marginal_logits
from medseg.losses.term import (
    Build,
    FeatureShape,
    HasHead,
    arguments,
    check_needs,
    needs,
    sees_finest_only,
    sees_merged,
)

_PARTIAL = ("marginal", "ignore")


class WeightedSum(nn.Module):
    """Weighted sum of loss terms; under deep supervision, of all levels too.

    Attributes:
        terms: Loss modules by name.
        weights: Weight of each term.
        partial: What the background of patches that do not annotate every class is.

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
        self,
        labels: LabelTable,
        terms: Mapping[str, Build],
        weights: Mapping[str, float] | None = None,
        partial: str = "marginal",
    ) -> None:
        """Build the terms.

        Args:
            labels: Decides between softmax classes and sigmoid regions, and how many.
            terms: By name, what builds each term from ``labels`` (in yaml: ``_partial_: true``).
            weights: By name; 1 for those not named.
            partial: Of patches that do not annotate every class: ``marginal``, by which their background is any class
                but the annotated ones; or ``ignore``, by which it does not count.

        Raises:
            InputError: There are no terms, a weight is negative or names no term, or no such ``partial``.
        """
        super().__init__()
        if not terms:
            raise InputError("loss: got no terms, expected at least one under loss.terms")
        by_name = dict(weights or {})
        wrong = {n: w for n, w in by_name.items() if n not in terms or isinstance(w, str) or not w >= 0}
        if wrong:
            raise InputError(f"loss: weights {wrong}: expected numbers >= 0 for terms among {list(terms)}")
        self.terms = nn.ModuleDict({name: build(labels=labels) for name, build in terms.items()})
        if partial not in _PARTIAL:
            raise InputError(f"loss.partial={partial}: choose {' or '.join(_PARTIAL)}")
        self.labels, self.partial = labels, partial
        self.weights = {name: float(by_name.get(name, 1.0)) for name in terms}

    def attach(
        self, outputs: Sequence[str], features: Sequence[FeatureShape] | None, encoder: nn.Module | None = None
    ) -> None:
        """Let terms with heads build them, once, before the training.

        Args:
            outputs: Names of what the network returns in training besides logits.
            features: What its encoder declares, fine to coarse; None of a network without a declared encoder.
            encoder: The encoder, where there are features.

        Raises:
            InputError: A term needs what the network does not give.
        """
        for name, term in self.terms.items():
            check_needs(name, term, outputs, features=features is not None)
            if features is not None and encoder is not None and isinstance(term, HasHead):
                term.attach(features, encoder)

    @property
    def reads_features(self) -> bool:
        """Whether any term reads features of the encoder."""
        return any("features" in needs(term) for term in self.terms.values())

    def forward(
        self,
        logits: Float[Tensor, "b k *s"] | Sequence[Float[Tensor, "b k ..."]],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        further: Mapping[str, Any] = MappingProxyType({}),
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Loss of a batch.

        Args:
            logits: Logits of the label's shape; or a list from fine to coarse, of which the first has it.
            label: Training index of each cell, or ``IGNORE``.
            valid: False where a cell does not count.
            further: What terms may ask for by name, see ``medseg.losses.term.needs``.

        Returns:
            The total, and the unweighted value of each term (mean over levels with
            ``level_weights``, detached): the total is the sum of weight times value. Outside of training a term
            that needs what only training has is left out.

        Raises:
            InputError: In training, something that a term needs is not there; or labels that are soft and partial.
        """
        levels = [logits] if isinstance(logits, Tensor) else list(logits)
        keywords = self._keywords({"annotated": None, "soft": None, **further})
        annotated: Tensor | None = further.get("annotated")
        soft: Tensor | None = further.get("soft")
        _check_complete(soft, annotated)
        label = self._marginal_label(label, annotated)
        values = {name: torch.zeros((), device=label.device) for name in keywords}
        for place, share in enumerate(level_weights(len(levels))):
            level = levels[place]
            if share == 0:
                # A sum over no cells: 0, but the level's head gets a (zero) gradient, without which
                # distributed training stops over unused parameters.
                values = {name: value + level[:0].float().sum() for name, value in values.items()}
                continue
            cells = coarsen(label, level.shape[2:]), coarsen(valid, level.shape[2:])
            seen = {True: self._marginal_logits(level, *cells, annotated), False: level}
            own = _at_level(keywords, soft, level.shape[2:])
            for name, part in self._shares(keywords, place, share).items():
                term = self.terms[name]
                values[name] = values[name] + part * term(seen[sees_merged(term)], *cells, **own[name])
        parts = [self.weights[name] * value for name, value in values.items()]
        total = sum(parts[1:], parts[0]) if parts else torch.zeros((), device=label.device)
        return total, {name: value.detach() for name, value in values.items()}

    def _marginal_label(self, label: Tensor, annotated: Tensor | None) -> Tensor:
        """The label as terms take it, see ``marginal_label``; unchanged where every case annotates all classes."""
        if annotated is None:
            return label
        return marginal_label(label, annotated, self.labels, ignore=self.partial == "ignore")

    def _marginal_logits(self, level: Tensor, label: Tensor, valid: Tensor, annotated: Tensor | None) -> Tensor:
        """Logits as terms take them, see ``marginal_logits``; unchanged where every case annotates all classes."""
        return level if annotated is None else marginal_logits(level, label, valid, annotated, self.labels)

    def _keywords(self, further: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Keyword arguments of the terms that have what they need."""
        wanted = {name: arguments(name, term, further) for name, term in self.terms.items()}
        return {name: needed for name, needed in wanted.items() if needed is not None}

    def _shares(self, names: Iterable[str], place: int, share: float) -> dict[str, float]:
        """Weight of a level in each term that sees it."""
        finest = {name: sees_finest_only(self.terms[name]) for name in names}
        return {name: 1.0 if only else share for name, only in finest.items() if place == 0 or not only}


def _check_complete(soft: Tensor | None, annotated: Tensor | None) -> None:
    """Raise on soft labels of cases that do not annotate every class."""
    if soft is not None and annotated is not None:
        raise InputError(
            "loss: soft labels (data.annotations=soft) of cases of which some do not annotate every class "
            "(data.annotated): take data.annotations=draw, majority or staple"
        )


def _at_level(
    keywords: Mapping[str, Mapping[str, Any]], soft: Tensor | None, shape: Sequence[int]
) -> Mapping[str, Mapping[str, Any]]:
    """Keyword arguments of the terms at a level, with soft labels of its cells for those that take them."""
    if soft is None:
        return keywords
    shares = coarsen_shares(soft, shape)
    return {name: {**own, "soft": shares} if "soft" in own else own for name, own in keywords.items()}
