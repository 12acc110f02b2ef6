"""The sliding window: one implementation for any number of axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medseg.errors import BadInput

Network = Callable[[Tensor], Tensor]
"""Maps ``[b, c, *w]`` to ``[b, k, *w]`` of the same spatial shape."""


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """First cells of the windows along one axis, evenly spread from border to border.

    Neighbours overlap by at least ``overlap`` of the window; there are as few windows as that allows
    (nnU-Net 4.13).

    Example:
        >>> window_starts(10, 4, 0.5)
        [0, 2, 4, 6]
    """
    if size <= window:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    count = -(-(size - window) // step) + 1
    return [round(i * (size - window) / (count - 1)) for i in range(count)]


@lru_cache(maxsize=8)
def gaussian_weight(window: tuple[int, ...]) -> Float[Tensor, " *w"]:
    """Weight of each cell of a window in the blend, in (0, 1], float32.

    A Gaussian about the window's centre with sigma an eighth of the window on each axis, not below
    1e-3, so that a cell covered only by a window's corner still divides safely.
    """
    weight = torch.ones(())
    for size in window:
        place = torch.arange(size) - (size - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (place / (size / 8)) ** 2)
    return weight.clamp_min(1e-3).float()


def sliding_window(
    image: Float[Tensor, "c *s"],
    network: Network,
    *,
    window: Sequence[int],
    overlap: float = 0.5,
    batch_size: int = 1,
) -> Float[Tensor, "k *s"]:
    """Logits of a whole image from overlapping windows, blended with Gaussian weights.

    An image smaller than the window is padded with 0 on both sides and the padding is cut off again.
    Sums are float32 whatever the network returns. A network that returns its input gives the image
    back to rounding.

    Args:
        image: On the device where sums are kept.
        network: Called with ``[n, c, *window]``, n up to ``batch_size``.
        window: Cells of a window on each axis.
        overlap: Least share of a window that its neighbour covers too, in [0, 1).
        batch_size: Windows per call.

    Raises:
        BadInput: Window and image differ in their number of axes, or overlap is out of range.
    """
    space = tuple(image.shape[1:])
    if len(space) != len(window):
        raise BadInput(f"window {tuple(window)} has {len(window)} axes, the image {space} has {len(space)}")
    if not 0 <= overlap < 1:
        raise BadInput(f"inference.overlap={overlap} is out of range; choose 0 <= overlap < 1")
    pads = [max(w - s, 0) for s, w in zip(space, window, strict=True)]
    before = [p // 2 for p in pads]
    if any(pads):
        image = F.pad(image, [n for p, b in zip(reversed(pads), reversed(before), strict=True) for n in (b, p - b)])
    padded = tuple(image.shape[1:])
    starts = list(product(*[window_starts(s, w, overlap) for s, w in zip(padded, window, strict=True)]))
    weight = gaussian_weight(tuple(window)).to(image.device)
    total = torch.zeros(padded, device=image.device)
    blended: Tensor | None = None
    for first in range(0, len(starts), batch_size):
        places = [
            tuple(slice(a, a + w) for a, w in zip(start, window, strict=True))
            for start in starts[first : first + batch_size]
        ]
        logits = network(torch.stack([image[(slice(None), *place)] for place in places])).float()
        if blended is None:
            blended = torch.zeros((logits.shape[1], *padded), device=image.device)
        for place, part in zip(places, logits, strict=True):
            blended[(slice(None), *place)] += part * weight
            total[place] += weight
    if blended is None:
        raise BadInput(f"the image is empty: {tuple(image.shape)}")
    inside = tuple(slice(b, b + s) for b, s in zip(before, space, strict=True))
    return (blended / total)[(slice(None), *inside)]
