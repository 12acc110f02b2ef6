"""Test-time mirrors: logits averaged over mirrored inputs, left and right exchanged back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.inference.sliding_window import Network


def flipped(
    network: Network,
    axes: Sequence[int],
    *,
    lateral_axis: int | None = None,
    swap: Sequence[int] | None = None,
    mirror_classes: Sequence[int] | None = None,
) -> Network:
    """A network that averages logits over every combination of mirrored axes.

    Args:
        network: Maps ``[b, c, *w]`` to ``[b, k, *w]``.
        axes: Spatial axes to mirror; none gives ``network`` itself.
        lateral_axis: The axis across the body, whose mirror exchanges left and right.
        swap: Output channel that stands for each channel in a laterally mirrored image.
        mirror_classes: Mirror image of each class, where the last channel of the image holds class numbers.
    """
    if not axes:
        return network
    subsets = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))

    def averaged(image: Float[Tensor, "b c *w"]) -> Float[Tensor, "b k *v"]:
        mirrored = []
        for subset in subsets:
            dims = [axis + 2 for axis in subset]
            turned = image.flip(dims)
            if mirror_classes and lateral_axis in subset:
                turned = torch.cat([turned[:, :-1], image.new_tensor(mirror_classes)[turned[:, -1:].long()]], dim=1)
            logits = network(turned).float().flip(dims)
            mirrored.append(logits[:, list(swap)] if swap and lateral_axis in subset else logits)
        return torch.stack(mirrored).mean(0)

    return averaged
