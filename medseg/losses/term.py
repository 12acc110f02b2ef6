"""Term: what every loss term promises, and what it may ask for besides logits and label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import nn

from medseg.errors import InputError

Build = Callable[..., nn.Module]
"""Builds a term from ``labels``; the module maps (logits, label, valid), and what it needs by name, to a scalar."""
GIVEN = ("annotated", "soft", "progress", "image", "facts", "case_label")
"""What a method gives to every term that asks for it, in training and in validation."""


@runtime_checkable
class FeatureShape(Protocol):
    """A feature as an encoder declares it; ``medseg.models.encoders.encoder.Feature`` is one."""

    @property
    def channels(self) -> int:
        """Its width."""
        ...

    @property
    def stride(self) -> Sequence[Any]:
        """Cells of the image for one of the feature, on each axis."""
        ...

    @property
    def tokens(self) -> bool:
        """Whether it is ``[b, n, c]`` instead of ``[b, c, *s]``."""
        ...

    @property
    def prefix(self) -> int:
        """Tokens without a place, ahead of the grid's."""
        ...


@runtime_checkable
class HasHead(Protocol):
    """A term with parameters of its own on features of the encoder, which are dropped after training."""

    def attach(self, features: Sequence[FeatureShape], encoder: nn.Module) -> None:
        """Build the head for features as an encoder declares them, fine to coarse.

        Args:
            features: What it declares.
            encoder: The encoder itself, with the weights that the training begins with.
        """
        ...


def needs(term: type | nn.Module) -> tuple[str, ...]:
    """Names of the keyword arguments that a term takes: its attribute ``needs``; none without it.

    ``annotated`` tells which outputs ``[b, k]`` each patch annotates, None if all cases annotate all of them: logits
    and label are marginal already (``losses.partial``), and a mean over outputs leaves the others out
    (``annotated_mean``). ``soft`` are the soft labels ``[b, n, *s]`` of the classes of the table, None if labels are
    hard; see ``takes_soft``. ``progress`` is the share of the budget that is spent, in [0, 1]; ``image`` the patches
    ``[b, c, *s]``; ``facts`` and ``case_label`` what a table says about the cases of the batch, where there is one;
    ``features`` those of the encoder, fine to coarse, in training only; any other name is an output
    of the network (``Network.outputs``), in training only.
    """
    names: tuple[str, ...] = getattr(term, "needs", ())
    return names


def takes_soft(term: nn.Module) -> bool:
    """Whether a term takes soft labels, or is about the classes of cases and reads no label of cells."""
    return not {"soft", "case_logits"}.isdisjoint(needs(term))


def sees_merged(term: nn.Module) -> bool:
    """Whether a term takes marginal logits of partially annotated patches: its attribute ``merged``, else true."""
    return bool(getattr(term, "merged", True))


def sees_finest_only(term: nn.Module) -> bool:
    """Whether a term takes only the finest logits of deep supervision: its attribute ``finest``."""
    return bool(getattr(term, "finest", False))


def arguments(name: str, term: nn.Module, further: Mapping[str, Any]) -> dict[str, Any] | None:
    """The keyword arguments of a term, or None where something is lacking outside of training.

    Raises:
        InputError: Something is lacking in training.
    """
    wanted = needs(term)
    missing = [want for want in wanted if want not in further]
    if missing and term.training:
        raise InputError(
            f"loss.terms.{name} needs {missing[0]!r}, the network and the method give {sorted(further)}; take a "
            "network that returns it, or leave the term out"
        )
    return None if missing else {want: further[want] for want in wanted}


def check_needs(name: str, term: nn.Module, outputs: Sequence[str], *, features: bool) -> None:
    """Check, before the training, that a network gives what a term needs.

    Args:
        name: Of the term.
        term: The term.
        outputs: Names of what the network returns in training besides logits.
        features: Whether its encoder declares features.

    Raises:
        InputError: It does not.
    """
    lacking = [want for want in needs(term) if want not in (*GIVEN, *outputs, "features")]
    if lacking:
        raise InputError(
            f"loss.terms.{name} needs the output {lacking[0]!r} of the network, which gives {list(outputs)} "
            "besides logits; take a network that returns it, or leave the term out"
        )
    if "features" in needs(term) and not features:
        raise InputError(
            f"loss.terms.{name} reads features of the encoder, and the network declares none; take "
            "model=encoder_decoder (without model.encoder.context and time series), or leave the term out"
        )
