"""Memory of a training step of any network, from what its backward pass reads; nothing is computed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from medseg.planning.cost import estimated_gb

KEPT_PER_OUTPUT = 7.9
"""Bytes that a U-Net in float32 keeps for each output of its convolutions: 7.86 on 96³ cells, 7.94 on 512²."""
_INCLUDED = 31e6
"""Parameters of the network that nnU-Net measured its budgets with; those beyond need memory of their own."""
_PER_PARAMETER = 16e-9
"""Gigabytes: value, gradient and two averages of the optimiser in float32."""


@dataclass(frozen=True)
class Need:
    """What the training step of a network needs.

    Attributes:
        ndim: Spatial axes.
        kept: Bytes in float32 that the backward pass reads of one patch, without parameters.
        parameters: Number of parameters.
    """

    ndim: int
    kept: float
    parameters: int

    def gb(self, batch_size: int) -> float:
        """Gigabytes of a step in half precision, in proportion to nnU-Net's measured budgets.

        Example:
            >>> round(Need(3, 560e6 * KEPT_PER_OUTPUT, 31_000_000).gb(2), 2)
            8.0
        """
        beyond = max(self.parameters - _INCLUDED, 0) * _PER_PARAMETER
        return estimated_gb(self.ndim, self.kept / KEPT_PER_OUTPUT, batch_size) + beyond


def need_of(network: nn.Module, channels: int, patch: Sequence[int]) -> Need | None:
    """What a step of a network needs, by a forward pass of tensors that have shapes alone.

    Args:
        network: Takes images ``[b, c, *s]``. It is moved to the device ``meta``, so it can't be used afterwards.
        channels: Channels of an image, c.
        patch: Cells of a patch, s.

    Returns:
        The need; None for a network that reads values in its forward pass, of which such tensors have none.
    """
    cases = 2  # batch normalisation refuses single values, as one case has at the coarsest stage
    parameters = sum(p.numel() for p in network.parameters())
    try:
        network.to("meta")
        saved = _kept_bytes(network, torch.empty(cases, channels, *patch, device="meta")) / cases
    except Exception:  # a network of another package may fail in any way without values
        return None
    return Need(len(patch), saved, parameters)


def _kept_bytes(network: nn.Module, image: Tensor) -> int:
    """Bytes of the storages that a forward pass keeps for the backward pass, each once, without parameters."""
    own = {_identity(t) for t in (*network.parameters(), *network.buffers())}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _identity(tensor) not in own:
            saved[_identity(tensor)] = tensor
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        network(image)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def _identity(tensor: Tensor) -> int:
    """Of the storage, as long as it is referenced; tensors without values have no address."""
    return int(tensor.untyped_storage()._cdata)
