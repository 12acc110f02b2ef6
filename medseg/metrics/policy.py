"""The miss policy: what a missed and a false structure cost in a metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medseg.metrics.structure import Structure


@dataclass(frozen=True)
class CaseCost:
    """A cost that depends on the case.

    Attributes:
        text: As ``metrics.json`` states it.
        value: The cost, of the structure that is missed or false.
    """

    text: str
    value: Callable[[Structure], float]


DIAGONAL = CaseCost("diagonal of the case's grid", lambda structure: structure.case.diagonal)
"""The largest distance possible."""
VOLUME = CaseCost("its own volume", lambda structure: sum(structure.counts[:3]) * structure.cell_volume)
"""All cells of the structure, labelled or predicted."""
MINUS_VOLUME = CaseCost("minus its own volume", lambda structure: -VOLUME.value(structure))
"""What lacks where a structure is missed."""


@dataclass(frozen=True)
class EmptyPolicy:
    """Value of a metric where a structure is missing from the label, the prediction or both.

    A missed or a false structure should get the worst value that its case allows, so that a model is not better for
    having predicted nothing. A structure that is missing from both has no value, and its case does not enter the mean.

    Attributes:
        missed: Labelled, nothing predicted.
        false: Predicted, nothing labelled.
    """

    missed: float | CaseCost
    false: float | CaseCost

    def cost(self, structure: Structure) -> float:
        """The cost of a structure that is missed, or else false."""
        cost = self.missed if structure.is_labelled else self.false
        return cost.value(structure) if isinstance(cost, CaseCost) else cost

    def stated(self) -> dict[str, object]:
        """As ``metrics.json`` has it; null: such cases do not enter the mean.

        Example:
            >>> EmptyPolicy(missed=0.0, false=DIAGONAL).stated()
            {'missed': 0.0, 'false': "diagonal of the case's grid", 'both_empty': None}
        """
        return {"missed": _stated(self.missed), "false": _stated(self.false), "both_empty": None}


WORST_0 = EmptyPolicy(0.0, 0.0)
"""Of metrics whose worst value is 0."""


def _stated(cost: float | CaseCost) -> float | str:
    return cost.text if isinstance(cost, CaseCost) else cost
