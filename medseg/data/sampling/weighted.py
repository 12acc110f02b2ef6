"""ByWeight: sites or cases in given proportions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from medseg.data.case import first_five
from medseg.data.sampling.case_samplers import ByArea, CaseSampler
from medseg.data.sampling.patches import PreparedCase
from medseg.errors import InputError


class ByWeight(CaseSampler):
    """A set of cases in proportion to its weight, and of it a case as ``ByArea`` draws it.

    So a site has its share of the patches, however many cases it has.

    Args:
        cases: See ``CaseSampler``.
        seed: See ``CaseSampler``.
        labelled: See ``CaseSampler``.
        weights: Weight of each set by a pattern of the names of its groups or cases (``*`` stands for anything). A case
            belongs to the first pattern that matches its group or itself; weight 0 leaves its cases out.
            Empty: all cases are one set.

    Raises:
        InputError: A negative weight, none above 0, a pattern without cases, a case without pattern, or a set without
            a cell that may be drawn.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        *,
        seed: int,
        labelled: bool = True,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        shares = {str(pattern): float(weight) for pattern, weight in (weights or {"*": 1.0}).items()}
        if not all(weight >= 0 for weight in shares.values()) or not any(shares.values()):
            raise InputError(f"sampling.weights={shares}: expected weights of 0 or more, at least one above 0")
        members = _members(cases, list(shares))
        drawn = [pattern for pattern, weight in shares.items() if weight]
        self.members = [members[pattern] for pattern in drawn]
        self.inner = [ByArea([cases[i] for i in own], seed=seed, labelled=labelled) for own in self.members]
        self.share = np.cumsum([shares[pattern] for pattern in drawn])

    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """As ``CaseSampler`` says."""
        place = int(np.searchsorted(self.share[:-1], rng.random() * self.share[-1], side="right"))
        index, name = self.inner[place].choose(rng, position, forced=forced)
        return self.members[place][index], name


def _members(cases: Sequence[PreparedCase], patterns: Sequence[str]) -> dict[str, list[int]]:
    """Indices of the cases of each pattern."""
    members: dict[str, list[int]] = {pattern: [] for pattern in patterns}
    without = []
    for index, case in enumerate(cases):
        own = [p for p in patterns if fnmatchcase(case.group, p) or fnmatchcase(case.case, p)]
        if own:
            members[own[0]].append(index)
        else:
            without.append(case.case)
    if without:
        raise InputError(
            f"sampling.weights: no pattern matches {len(without)} training cases: {first_five(without)}; add "
            "'*' with the weight of all others (0 leaves them out)"
        )
    empty = [pattern for pattern, own in members.items() if not own]
    if empty:
        raise InputError(
            f"sampling.weights: no training case or group is left for {empty[0]!r}; cases are "
            f"{first_five([case.case for case in cases])}; fix the pattern, or put it before those that match more"
        )
    return members
