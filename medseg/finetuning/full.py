"""Full: everything learns, at rates that may differ."""

from __future__ import annotations

from torch import nn

from medseg.finetuning.strategy import Tuning


class Full(Tuning):
    """Nothing is frozen; see ``Tuning`` for rates by layer, the head first and staged unfreezing."""

    def change(self, network: nn.Module) -> None:
        """Nothing is added."""
