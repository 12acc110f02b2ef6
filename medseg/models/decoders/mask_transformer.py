"""Mask transformer: queries that each find a mask and a class, summed to logits of each cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.decoders.blocks import fraction, norm_layer, positive, resize
from medseg.models.decoders.decoder import Decoder
from medseg.models.decoders.queries import Queries
from medseg.models.encoders.encoder import Feature
from medseg.models.layers import CONV
from medseg.models.network import ModelSpec

MOST_ATTENDED = 3
"""Levels that queries attend to, in turn; the finest of more would be the most cells by far."""


class MaskTransformer(Decoder):
    r"""A feature pyramid, queries that attend to its coarse levels, and a mask and a class of each query.

    With :math:`p_q(c)` the softmax of query q over the k classes and "none", and :math:`m_q(s)` the
    sigmoid of its mask, the logits are :math:`\log \sum_q p_q(c) m_q(s)`.

    Mask2Former and MaskFormer assign queries to the segments of each image and supervise both
    assigned masks and classes, and only sum queries up to score cells after training. Here **the sum
    itself is trained**, by the loss of every other network: no matching, no auxiliary losses after each
    layer, and "none" is whatever a query keeps from the sum. So a query need not stand for one object,
    and instances are not separated; weights trained with matching give the same logits, up to the
    pixel decoder, which here is a feature pyramid (MaskFormer's) instead of deformable attention, so
    that it serves volumes too. The loss may be of classes (softmax of these logits is each class's
    share of the sum) or of regions (their sigmoid is sum / (1 + sum)).

    Logits come at the stride of the finest feature.

    Args:
        spec: Data and plan.
        features: Features that the encoder declares.
        channels: Width of levels, queries and masks; a multiple of ``heads``.
        queries: Number of them.
        layers: Number of attention layers; each attends to the next finer of the coarsest three levels, in turn.
        heads: Number of attention heads.
        feedforward: Hidden width after attention.
        masked: Let a query attend only to the cells of its own mask so far.
        dropout: Within attention, in training.

    Raises:
        InputError: Settings out of range; features that don't make a pyramid.

    References:
        Cheng et al., MaskFormer, NeurIPS 2021 (pyramid, sum over queries); Mask2Former, CVPR 2022
        (masked attention, levels in turn, learnt queries).
    """

    def __init__(
        self,
        spec: ModelSpec,
        features: Sequence[Feature],
        *,
        channels: int = 256,
        queries: int = 100,
        layers: int = 9,
        heads: int = 8,
        feedforward: int = 2048,
        masked: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(spec, features, layout="pyramid")
        positive(channels=channels, queries=queries, layers=layers, heads=heads, feedforward=feedforward)
        fraction(dropout=dropout)
        if channels % heads or channels < 2 * spec.ndim:
            raise InputError(
                f"model.decoder.channels={channels}: expected a multiple of model.decoder.heads={heads}, "
                f"{2 * spec.ndim} or more"
            )
        ndim, attended = spec.ndim, min(MOST_ATTENDED, layers, len(features))
        *finer, coarsest = (f.channels for f in self.neck.features)
        self.coarsest = _conv_norm(coarsest, channels, 3, ndim)
        self.lateral = nn.ModuleList(_conv_norm(c, channels, 1, ndim) for c in finer)
        read = {0, *range(len(features) - attended, len(features) - 1)} - {len(features) - 1}
        self.smooth = nn.ModuleList(
            nn.Sequential(_conv_norm(channels, channels, 3, ndim), nn.ReLU()) if i in read else nn.Identity()
            for i in range(len(finer))
        )
        self.to_masks = CONV[ndim](channels, channels, 3, padding=1)
        self.queries = Queries(
            channels, queries, attended, layers=layers, heads=heads, feedforward=feedforward, masked=masked,
            dropout=dropout,
        )  # fmt: skip
        self.attended = attended
        self.classes = nn.Linear(channels, spec.out_channels + 1)

    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        """Logits at the stride of the finest feature."""
        *finer, coarsest = grids
        summed = [functional.relu(self.coarsest(coarsest))]
        levels = summed[:]
        for lateral, smooth, grid in zip(self.lateral[::-1], self.smooth[::-1], finer[::-1], strict=True):
            summed.append(lateral(grid) + resize(summed[-1], grid.shape[2:]))
            levels.append(smooth(summed[-1]))
        queries, masks = self.queries(levels[: self.attended], self.to_masks(levels[-1]))
        return sum_queries(self.classes(queries), masks)


def sum_queries(classes: Float[Tensor, "b q k1"], masks: Float[Tensor, "b q *s"]) -> Float[Tensor, "b k *s"]:
    r"""Logits of cells: :math:`\log \sum_q p_q(c) m_q(s)`, p the softmax of ``classes``, m the sigmoid of ``masks``.

    The largest mask of each cell is taken out of the sum before its logarithm, so that cells which no
    query claims keep finite logits and gradients; a sum below e^-87 of that mask counts as e^-87. Summed
    in float32, as a matrix product.

    Args:
        classes: Logits of each query for the k classes, and last for none of them.
        masks: Logits of each query's mask.

    Example:
        >>> classes = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]]) * 10
        >>> sum_queries(classes, torch.tensor([[[0.0], [-500.0]]])).round(decimals=2)[0, :, 0]
        tensor([ -0.6900, -88.0300])
    """
    kind = masks.device.type
    with torch.autocast("cpu" if kind == "meta" else kind, enabled=False):
        share = classes.float().softmax(dim=2)[..., :-1]
        claim = functional.logsigmoid(masks.float().flatten(2))
        most = claim.detach().amax(dim=1, keepdim=True)
        total = share.transpose(1, 2) @ (claim - most).exp()
        logits = total.clamp_min(torch.finfo(torch.float32).tiny).log() + most
    return logits.unflatten(2, masks.shape[2:])


def _conv_norm(in_channels: int, channels: int, kernel: int, ndim: int) -> nn.Sequential:
    conv = CONV[ndim](in_channels, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, norm_layer("group", channels, ndim))
