"""OCR: every cell attends to the region of each class, by similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, cat, nn
from torch.nn import functional

from medseg.models.decoders.blocks import INSTEAD, conv_norm_relu, fraction, positive, resize
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Feature
from medseg.models.layers import CONV
from medseg.models.network import ModelSpec

AVG_POOL: dict[int, Callable[..., Tensor]] = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


class OCR(Decoder):
    r"""Object-contextual representations: soft regions, their means, and attention from cells to regions.

    Features are projected to one width, enlarged to the finest and added (which is a linear map of their
    concatenation, as of HRNet, without enlarging it). A first head gives logits per class; their softmax
    over the cells weighs the mean feature of each class's region. Each cell attends to these k means, and
    a second head reads the cell together with what it attended to.

    In training the logits of the first head are supervised too: logits come as a list of the second's,
    the first's, and the first's once more at half the resolution. The last is there because the coarsest
    of a list has no weight in the loss; of the others the first head has half the weight of the second
    (0.4 in the original). Logits come at the stride of the finest feature; at strides below 4 it is slow
    (leave such features out by ``model.encoder.indices``).

    Args:
        spec: Data and plan.
        features: Features that the encoder declares.
        channels: Width of cells and regions.
        key_channels: Width in which cells and regions are compared.
        auxiliary: Supervise the regions. Without it they are learnt from the final logits alone.
        dropout: Share of whole channels dropped before the head, in training.
        norm: ``batch``, or ``group`` for batches of one.

    Raises:
        InputError: Settings out of range; features that don't make a pyramid.

    References:
        Yuan, Chen and Wang, Object-Contextual Representations for Semantic Segmentation, ECCV 2020.
    """

    instead = INSTEAD

    def __init__(
        self,
        spec: ModelSpec,
        features: Sequence[Feature],
        *,
        channels: int = 512,
        key_channels: int = 256,
        auxiliary: bool = True,
        dropout: float = 0.05,
        norm: str = "batch",
    ) -> None:
        super().__init__(spec, features, layout="pyramid")
        positive(channels=channels, key_channels=key_channels)
        fraction(dropout=dropout)
        ndim, k = spec.ndim, spec.out_channels
        self.auxiliary = auxiliary
        self.project = nn.ModuleList(CONV[ndim](f.channels, channels, 1, bias=False) for f in self.neck.features)
        # a bias would shift all cells of a class alike, which their softmax takes out
        self.regions = nn.Sequential(
            conv_norm_relu(channels, channels, 1, ndim, norm), CONV[ndim](channels, k, 1, bias=auxiliary)
        )
        self.cells = conv_norm_relu(channels, channels, 3, ndim, norm)
        self.query = nn.Sequential(
            conv_norm_relu(channels, key_channels, 1, ndim, norm),
            conv_norm_relu(key_channels, key_channels, 1, ndim, norm),
        )
        self.key = nn.Sequential(
            conv_norm_relu(channels, key_channels, 1, ndim, norm),
            conv_norm_relu(key_channels, key_channels, 1, ndim, norm),
        )
        self.value = conv_norm_relu(channels, key_channels, 1, ndim, norm)
        self.context = conv_norm_relu(key_channels, channels, 1, ndim, norm)
        self.fuse = conv_norm_relu(2 * channels, channels, 1, ndim, norm)
        self.dropout = nn.Dropout1d(dropout)
        self.head = CONV[ndim](channels, k, 1)

    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"] | list[Tensor]:
        """Logits at the stride of the finest feature; in training, those of the regions after them."""
        shape = grids[0].shape[2:]
        levels = [resize(project(grid), shape) for project, grid in zip(self.project, grids, strict=True)]
        merged = sum(levels[1:], levels[0])
        regional = self.regions(merged)
        cells = self.cells(merged)
        means = region_means(cells, regional)
        means = means.reshape(*means.shape, *(1,) * (self.ndim - 1))  # classes stand on the first axis of a grid
        weights = attention(self.query(cells).flatten(2), self.key(means).flatten(2))
        context = self.value(means).flatten(2) @ weights.transpose(1, 2)
        fused = self.fuse(cat((self.context(context.unflatten(2, shape)), cells), dim=1))
        logits = self.head(self.dropout(fused.flatten(2)).unflatten(2, shape))
        if not (self.training and self.auxiliary):
            return logits
        return [logits, regional, AVG_POOL[self.ndim](regional, 2, ceil_mode=True)]


def region_means(cells: Float[Tensor, "b c *s"], logits: Float[Tensor, "b k *s"]) -> Float[Tensor, "b c k"]:
    """Mean feature of each class's soft region: cells weighed by the softmax of its logits over all cells.

    Args:
        cells: Features.
        logits: Logits of each class, which weigh its region.

    Example:
        >>> import torch
        >>> cells = torch.tensor([[[1.0, 3.0, 8.0]]])
        >>> region_means(cells, torch.tensor([[[50.0, 50.0, 0.0], [0.0, 0.0, 50.0]]]))
        tensor([[[2., 8.]]])
    """
    weights = logits.flatten(2).float().softmax(dim=2).to(cells.dtype)
    return cells.flatten(2) @ weights.transpose(1, 2)


def attention(query: Float[Tensor, "b c n"], key: Float[Tensor, "b c k"]) -> Float[Tensor, "b n k"]:
    r"""Share of each region in what a cell attends to: ``softmax_k(q k / sqrt(c))``; sums to 1 over regions.

    Args:
        query: Query of each cell.
        key: Key of each region.
    """
    scores = query.transpose(1, 2) @ key * query.shape[1] ** -0.5
    return scores.softmax(dim=2)
