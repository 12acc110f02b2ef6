"""Normalisation schemes of a user: imported for rules whose scheme is a class path, if that is trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.data.preprocessing.normalise import Normalisation, Scheme
from medseg.factory import trust
from medseg.planning.plan import Plan


def named_schemes(cfg: DictConfig) -> tuple[str, ...]:
    """Class paths that the user's own configuration names: ``plan.normalisation`` and ``data.normalisation``."""
    found: list[str] = []
    for key in ("plan.normalisation", "data.normalisation"):
        value: Any = OmegaConf.select(cfg, key, throw_on_missing=False)
        found += [value] if isinstance(value, str) else list(value or ())
    return tuple(name for name in found if "." in name)


def with_schemes(plan: Plan, source: str, trusted: Sequence[str]) -> Plan:
    """The plan with an instance of each scheme of a user.

    Args:
        plan: Made for the user's configuration, or read from a file or a checkpoint.
        source: Where it comes from, for messages.
        trusted: Modules and class paths that may be imported; see ``trust.check``.

    Raises:
        InputError: A scheme that is not trusted (nothing is imported then), can't be imported, or is no ``Scheme``.
    """
    rules = tuple(_with_scheme(rule, i, source, trusted) for i, rule in enumerate(plan.normalisation))
    return replace(plan, normalisation=rules)


def _with_scheme(rule: Normalisation, channel: int, source: str, trusted: Sequence[str]) -> Normalisation:
    if "." not in rule.scheme:
        return rule
    found = trust.trusted_class(rule.scheme, f"plan.normalisation[{channel}]", source, trusted, Scheme)
    return replace(rule, own=found())
