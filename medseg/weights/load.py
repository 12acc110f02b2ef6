"""Load weights into an encoder, and account for every tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from medseg.sample import Channel
from medseg.weights.pretrained import Pretrained
from medseg.weights.report import Report, Row


def load(
    module: nn.Module,
    found: Pretrained,
    *,
    stem: str | None,
    channels: Sequence[Channel],
    adapt: str = "auto",
    least_share: float = 0.9,
    statistics: Mapping[str, Sequence[float]] | None = None,
) -> Report:
    """Copy what fits; see the report."""
    own = module.state_dict()
    fitting = {k: v for k, v in found.state.items() if k in own and own[k].shape == v.shape}
    module.load_state_dict(fitting, strict=False)
    return Report(
        found.source, tuple(Row(k, "copied" if k in fitting else "random", v.numel()) for k, v in own.items())
    )
