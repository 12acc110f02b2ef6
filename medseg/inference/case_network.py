"""A network of images for one case: windows and blending know nothing of facts, and of the class of the case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.facts import CaseFacts, Fact


class AtCase(nn.Module):
    """A network that gets the facts of one case, and stores the logits of its class of every window and mirror.

    Args:
        network: Takes ``(image, facts=)``, and ``named=True`` if it classifies cases.
        facts: Encoded; None for a network without.
        case_logits: Where logits of the class are appended; None to take none.
    """

    def __init__(
        self, network: nn.Module, facts: Float[Tensor, " f"] | None, case_logits: list[Tensor] | None = None
    ) -> None:
        super().__init__()
        self.network, self.facts, self.case_logits = network, facts, case_logits
        self.margin = getattr(network, "margin", ())
        self.training = network.training

    def forward(self, image: Float[Tensor, "b c *w"]) -> Any:
        """Logits of each cell."""
        further: dict[str, Any] = {}
        if self.facts is not None:
            further["facts"] = self.facts.to(image.device).expand(len(image), -1)
        if self.case_logits is None:
            return self.network(image, **further)
        outputs = self.network(image, named=True, **further)
        self.case_logits.append(outputs["case_logits"].detach().float().cpu())
        return outputs["logits"]


def at_case(
    network: nn.Module, case: CaseFacts | None, facts: Sequence[Fact], case_logits: list[Tensor] | None = None
) -> nn.Module:
    """The network for one case; itself if it neither takes facts nor classifies cases.

    Args:
        network: See ``models.network.Network``.
        case: Facts of the case; None if nothing is known about them.
        facts: Facts as the network was trained with them.
        case_logits: See ``AtCase``.

    Raises:
        InputError: The network takes facts, and none are given.
    """
    takes, classifies = getattr(network, "takes_facts", False), getattr(network, "classifies", False)
    if takes and case is None:
        raise InputError(
            f"the network takes facts of each case, {', '.join(fact.name for fact in facts)}, and got none; give "
            "facts={} where they are not known"
        )
    if not takes and not classifies:
        return network
    encoded = torch.from_numpy(case.encoded_by(facts)) if takes and case is not None else None
    return AtCase(network, encoded, case_logits if classifies else None)


def mean_case_prob(members: Sequence[Sequence[Tensor]]) -> Float[np.ndarray, " m"] | None:
    """Probability of each class of a case: the mean over windows and mirrors, and of that over networks.

    Args:
        members: For each network, the logits ``[n, m]`` of windows.

    Returns:
        None where no network gave any.
    """
    means = [torch.cat(list(parts)).softmax(dim=1).mean(dim=0) for parts in members if parts]
    return torch.stack(means).mean(dim=0).numpy() if means else None
