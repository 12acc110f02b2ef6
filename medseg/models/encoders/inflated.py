"""Inflated: encoders of images whose kernels get a third axis, for volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import BadInput
from medseg.models.encoders.encoder import Encoder, check_features
from medseg.models.encoders.sliced import Sliced, fold, unfold
from medseg.models.network import Facts


class Inflated(Sliced):
    """A convolutional encoder of images as one of volumes: its kernels and pools reach into neighbouring slices.

    Every convolution becomes one of volumes with the same names of parameters, so that the files of the encoder
    within load: ``weights.load`` centres (or spreads) each kernel along the new axis. Where a kernel reaches
    beyond the first or last slice, that slice is repeated; so nothing thins out there. What then holds, and is
    tested:

    - on a volume that is constant along the axis, every slice of every feature is what the encoder within gives
      of the image: everywhere, the ends included, with centred and with spread kernels;
    - with centred kernels and ``depth_stride=false`` that is so for every volume: a training begins at the
      slice-by-slice encoder, and learns to look at the neighbours.

    Without weights, kernels are normal with the standard deviation of the encoder within divided by the root of
    their cells along the axis, which keeps the variance of the response.

    Normalisation over the batch is over all cells of all volumes. Layers that describe a whole image by one
    vector (squeeze and excitation, the response normalisation of ConvNeXt V2) do so slice by slice, as do
    attention and convolutions with the padding of TensorFlow (``tf_*``). A network in which nothing would reach
    into a neighbouring slice, such as a plain vision transformer, is refused: take ``sliced``.

    Args:
        facts: Data and plan.
        of: Makes the encoder of images; its weights are settings of its own.
        axis: The new one; see ``Sliced``.
        depth_stride: Whether features are coarser along the new axis too, or its stride stays 1 everywhere.
        depth_kernel: Most cells of a kernel along the new axis, an odd number; None for as many as in the plane.

    Raises:
        BadInput: See ``Sliced``; an encoder in which nothing would join slices, or which can't stride along them.

    References:
        Carreira and Zisserman, Quo vadis, action recognition?, 2017.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        of: Callable[[Facts], Encoder],
        axis: int | None = None,
        depth_stride: bool = True,
        depth_kernel: int | None = None,
    ) -> None:
        if depth_kernel is not None and (depth_kernel < 1 or depth_kernel % 2 == 0):
            raise BadInput(f"model.encoder.depth_kernel={depth_kernel}: expected an odd number of cells, or null")
        super().__init__(facts, of=of, axis=axis)
        self.frame = Frame()
        depth = Depth(depth_stride, depth_kernel, self.frame)
        if not inflate_modules(self.inner, depth):
            raise BadInput(
                "model/encoder=inflated: nothing of this encoder would reach into neighbouring slices; "
                "model/encoder=sliced runs it slice by slice, and leaves it to the decoder to join them"
            )
        if depth_stride:
            self._stride(facts)

    def _stride(self, facts: Facts) -> None:
        """Declare strides along the new axis, and see that they are kept.

        Raises:
            BadInput: Something strides in the plane that is no plain convolution or pool.
        """
        place = self.axis

        def along(values: Sequence[Any], value: Any) -> tuple[Any, ...]:
            return (*values[:place], value, *values[place + 1 :])

        first = 1 if place == 0 else 0  # an axis of the plane
        self.features = tuple(replace(f, stride=along(f.stride, f.stride[first])) for f in self.features)
        self.divisor = along(self.divisor, self.divisor[first])
        if self.fixed_shape is not None:
            unit = self.divisor[place]
            self.fixed_shape = along(self.fixed_shape, ceil(self.fixed_shape[place] / unit) * unit)
        try:
            check_features(self, facts.in_channels, self.fixed_shape or self.divisor)
        except (BadInput, RuntimeError, AssertionError) as error:
            raise BadInput(
                "model/encoder=inflated: something in this encoder strides in the plane that can't along the new axis; "
                "choose model.encoder.depth_stride=false"
            ) from error

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        self.frame.batch = len(image)
        return super().forward(image)


@dataclass
class Frame:
    """What the layers need to find the volumes among the slices of a batch: how many there are."""

    batch: int = 1

    def volumes(self, slices: Float[Tensor, "bd c h w"], reach: int) -> Float[Tensor, "b c h w e"]:
        """The volumes, with ``reach`` copies of the outermost slices at either end."""
        volume = unfold(slices, self.batch)
        if reach == 0:
            return volume
        ends = (volume[..., :1], volume[..., -1:])
        first, last = (end.expand(*end.shape[:-1], reach) for end in ends)
        return torch.cat((first, volume, last), dim=-1)  # the gradient of torch's own padding is not deterministic


@dataclass(frozen=True)
class Depth:
    """How layers go along the new axis.

    Attributes:
        stride: Whether strides are those of the plane, or 1.
        kernel: Most cells of a kernel; None for as many as in the plane.
        frame: Shared by all layers of one encoder.
    """

    stride: bool
    kernel: int | None
    frame: Frame

    def along(self, layer: nn.Module) -> tuple[int, int, int] | None:
        """Cells, stride and reach of a layer of images along the new axis; None if it has nothing to do there.

        Odd kernels whose padding keeps the size have as many cells as in the plane; kernels that tile the image
        have those of the stride. Others stay in the plane.
        """
        kernel, stride, padding, dilation = (
            _alike(getattr(layer, key, 1)) for key in ("kernel_size", "stride", "padding", "dilation")
        )
        if kernel is None or stride is None:
            return None
        step = stride if self.stride else 1
        if kernel % 2 == 1 and padding == (dilation or 1) * (kernel // 2):
            cells = min(kernel, self.kernel or kernel)
        elif kernel == stride and padding == 0:
            cells = step
        else:
            return None
        pools = not isinstance(layer, nn.Conv2d)
        if step == 1 and (cells == 1 or pools):
            return None
        return cells, step, (dilation or 1) * (cells // 2) if cells % 2 else 0


class Conv(nn.Conv3d):
    """A convolution of images made one of volumes; takes and gives slices.

    Args:
        flat: Of images.
        cells: Of the kernel along the new axis.
        step: Stride along it.
        reach: Slices that are repeated at either end.
        frame: See ``Frame``.
    """

    def __init__(self, flat: nn.Conv2d, cells: int, step: int, reach: int, frame: Frame) -> None:
        super().__init__(
            flat.in_channels,
            flat.out_channels,
            (*_two(flat.kernel_size), cells),
            (*_two(flat.stride), step),
            (*_two(flat.padding), 0),
            (*_two(flat.dilation), flat.dilation[0]),
            flat.groups,
            flat.bias is not None,
        )
        self.reach, self.frame = reach, frame
        with torch.no_grad():
            self.weight.normal_(std=float(flat.weight.std(correction=0)) / cells**0.5)
            if self.bias is not None and flat.bias is not None:
                self.bias.copy_(flat.bias)

    def forward(self, slices: Float[Tensor, "bd c h w"]) -> Float[Tensor, "be f u v"]:
        """Slices of the convolved volumes."""
        return fold(super().forward(self.frame.volumes(slices, self.reach)))


class Pool(nn.Module):
    """A pool of images made one of volumes; takes and gives slices. Arguments as of ``Conv``."""

    def __init__(self, flat: nn.MaxPool2d | nn.AvgPool2d, cells: int, step: int, reach: int, frame: Frame) -> None:
        super().__init__()
        self.reach, self.frame = reach, frame
        kernel = (*_two(flat.kernel_size), cells)
        stride = (*_two(flat.stride), step)
        padding = (*_two(flat.padding), 0)
        self.pool: nn.Module
        if isinstance(flat, nn.MaxPool2d):
            dilation = (*_two(flat.dilation), _two(flat.dilation)[0])
            self.pool = nn.MaxPool3d(kernel, stride, padding, dilation, ceil_mode=flat.ceil_mode)
        else:
            self.pool = nn.AvgPool3d(kernel, stride, padding, flat.ceil_mode, flat.count_include_pad)

    def forward(self, slices: Float[Tensor, "bd c h w"]) -> Float[Tensor, "be c u v"]:
        """Slices of the pooled volumes."""
        return fold(self.pool(self.frame.volumes(slices, self.reach)))


def inflate_modules(module: nn.Module, depth: Depth) -> bool:
    """Replace the convolutions and pools within a module.

    Returns:
        Whether any of them reaches into neighbouring slices.
    """
    reaches = False
    for name, child in module.named_children():
        along = depth.along(child) if type(child) in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d) else None
        if along is None:
            reaches |= inflate_modules(child, depth)
            continue
        reaches |= along[0] > along[1]
        made = Conv if isinstance(child, nn.Conv2d) else Pool
        setattr(module, name, made(child, *along, depth.frame))  # type: ignore[arg-type]
    return reaches


def _two(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _alike(value: Any) -> int | None:
    """The number that stands for both axes of a plane; None where they differ."""
    if isinstance(value, str):
        return None
    first, second = _two(value)
    return first if first == second else None
