"""Spark: masked modelling for convolutional encoders, which see visible cells only at every stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.methods.masking import at, block_sizes, blocks_of, check_mask_ratio, hidden_blocks, spread, standardised
from medseg.methods.outputs import finest
from medseg.methods.pretraining import Pretraining, Reconstruction, encoder_of, mean_where
from medseg.sample import Batch

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MIXING = (
    nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d, nn.InstanceNorm2d, nn.InstanceNorm3d,
    nn.GroupNorm,
)  # fmt: skip


class Spark(Pretraining):
    """Sparse masked modelling: the encoder's convolutions neither see nor spread into hidden blocks.

    A sparse convolution is a dense one whose result is set to zero where cells are hidden; batch normalisation
    takes its statistics from visible cells (``sparse``). Hidden cells of every feature are then filled with a
    learned vector of the feature's width, and the encoder-decoder's own decoder reconstructs the image. Encoder and
    decoder are both kept. The loss is the mean squared error of hidden, valid cells, every block standardised.

    Args:
        network: An encoder-decoder with a convolutional encoder; its decoder gives as many logits as the image has
            channels.
        patch: Cells of a patch on each axis.
        mask_ratio: Fraction of the blocks that are hidden.
        mask_patch_size: Cells of a block on each axis, or one number for all; null takes the coarsest stride. A
            multiple of it, as a cell of the coarsest feature is visible or hidden as a whole.
        norm_pix_loss: Reconstruct every block standardised by its own mean and deviation.
        shared: What every ``Pretraining`` takes.

    Raises:
        InputError: A network without an encoder, an encoder of tokens, blocks that do not fit, or a ratio outside
            (0, 1).

    References:
        Tian et al., Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling, 2023.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        patch: Sequence[int],
        mask_ratio: float = 0.6,
        mask_patch_size: int | Sequence[int] | None = None,
        norm_pix_loss: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(network, patch=patch, **shared)
        encoder = encoder_of(network, "spark")
        if any(feature.tokens for feature in encoder.features):
            raise InputError("method=spark is for convolutional encoders; this one gives tokens, take method=mae")
        check_mask_ratio(mask_ratio, such_as=0.6)
        stride = encoder.features[-1].stride
        sizes = list(stride if mask_patch_size is None else block_sizes(mask_patch_size, patch))
        if any(size % s for size, s in zip(sizes, stride, strict=True)):
            raise InputError(
                f"method.mask_patch_size={sizes}: expected a multiple of the encoder's coarsest stride {list(stride)}"
            )
        self.mask_ratio, self.norm_pix_loss = mask_ratio, norm_pix_loss
        self.grid = blocks_of(patch, sizes)
        self.filling = nn.ParameterList(nn.Parameter(torch.randn(f.channels) * 0.02) for f in encoder.features)

    def losses(self, batch: Batch) -> tuple[Tensor, Reconstruction]:
        """Squared error of the hidden cells."""
        image, network = batch.image, self.network
        blocks = hidden_blocks(batch.key, self.grid, self.mask_ratio).to(image.device)
        hidden = spread(blocks, self.patch)
        target = standardised(image, self.grid) if self.norm_pix_loss else image
        masked = image.masked_fill(hidden[:, None], 0)
        encoder: Any = encoder_of(network, "spark")
        with sparse(encoder, ~blocks):
            given = encoder(masked)
        features = [
            torch.where(at(blocks, feature.shape[2:])[:, None], fill.view(1, -1, *[1] * (feature.ndim - 2)), feature)
            for feature, fill in zip(given, self.filling, strict=True)
        ]
        pred = finest(network.decode(features, masked))  # type: ignore[operator]  # an encoder-decoder
        loss = mean_where((pred.float() - target) ** 2, hidden & batch.valid)
        return loss, Reconstruction(target[0], masked[0], pred[0].detach())


@contextmanager
def sparse(encoder: nn.Module, visible: Bool[Tensor, "b *g"]) -> Iterator[None]:
    """Within, convolutions, poolings and normalisations of ``encoder`` give zero where cells are hidden.

    Batch normalisation in training normalises by, and remembers, mean and variance of the visible cells. Instance
    and group normalisation still see the zeros of hidden cells. Normalisation over channels needs nothing.
    """
    handles = []
    for module in encoder.modules():
        if isinstance(module, _BATCH_NORMS):
            handles.append(module.register_forward_pre_hook(_remember))
            handles.append(module.register_forward_hook(lambda m, given, out: _normalised(m, given[0], visible)))
        elif isinstance(module, _MIXING):
            handles.append(module.register_forward_hook(lambda m, given, out: _shown(out, visible)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shown(feature: Tensor, visible: Tensor) -> Tensor:
    if feature.ndim != visible.ndim + 1:
        return feature  # pooled to a vector
    if len(feature) != len(visible):
        raise InputError("method=spark: the encoder folds slices into its batch; take method=simmim or mae")
    return feature * at(visible, feature.shape[2:])[:, None].to(feature.dtype)


def _remember(module: nn.Module, given: tuple[Tensor, ...]) -> None:
    """Keep the running statistics, which the layer is about to update from hidden cells too."""
    norm: Any = module
    norm.kept = (norm.running_mean.clone(), norm.running_var.clone()) if norm.training else None


def _normalised(module: nn.Module, feature: Float[Tensor, "b c *s"], visible: Tensor) -> Tensor:
    """Batch normalisation over visible cells, in the place of the layer's own."""
    norm: Any = module
    seen = at(visible, feature.shape[2:])[:, None]
    shape = (1, -1, *[1] * (feature.ndim - 2))
    if norm.training:
        axes = (0, *range(2, feature.ndim))
        count = seen.sum().clamp(min=1)
        cells = feature.float() * seen
        mean = cells.sum(axes) / count
        var = (((feature.float() - mean.view(shape)) * seen) ** 2).sum(axes) / count
        rate = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
        with torch.no_grad():
            norm.running_mean.copy_(norm.kept[0].lerp(mean, rate))
            norm.running_var.copy_(norm.kept[1].lerp(var * count / (count - 1).clamp(min=1), rate))
        norm.kept = None
    else:
        mean, var = norm.running_mean, norm.running_var
    scale = norm.weight / (var + norm.eps).sqrt()
    out = feature.float() * scale.view(shape) + (norm.bias - mean * scale).view(shape)
    if hasattr(norm, "act"):  # timm's normalisation with activation
        out = norm.act(norm.drop(out))
    return (out * seen).to(feature.dtype)
