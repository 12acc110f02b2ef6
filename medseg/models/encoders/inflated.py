"""Inflated: encoders of images whose kernels get a third axis, for volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from medseg.errors import InputError, rename_keys
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.encoders.inflated_layers import Depth, inflate_modules
from medseg.models.encoders.slice_wise import OF, SliceWise
from medseg.models.network import ModelSpec
from medseg.weights.positions import Grids
from medseg.weights.pretrained import Pretrained
from medseg.weights.report import Report


class Inflated(SliceWise):
    """A convolutional encoder of images as one of volumes: its kernels and pools reach into neighbouring slices.

    All its layers become those of volumes, in place and with the same names of parameters, so that the files of
    the inner encoder load: ``weights.load`` centres each kernel along the new axis, with zeros around (or
    spreads it). Along that axis kernels reach into zeros beyond the ends, as in the plane. What then holds, and is
    tested:

    - on a volume that is constant along the axis, every slice of every feature equals the output of the inner encoder
      for the image: with centred kernels everywhere, the ends included; with spread kernels where no layer
      reaches beyond the ends, else less;
    - with centred kernels and ``depth_stride=false`` that holds for every volume (except with layers that pool all
      its cells): a training begins at the slice-by-slice encoder, and learns to look at the neighbours.

    Without weights, kernels are normal with the standard deviation of the inner encoder divided by the root of
    their cells along the axis, which keeps the variance of the response.

    ResNet (ResNeXt, SE-ResNet, ...), ConvNeXt and V2, RegNet, DenseNet, EfficientNet and MobileNet V2 to V4
    of timm are known. Others are refused, plain vision transformers too: ``sliced`` runs them, and MONAI has
    transformers of volumes.

    Args:
        spec: Data and plan.
        of: Makes the encoder of images; its weights are settings of its own.
        axis: The new one; see ``SliceWise``.
        depth_stride: Whether features are coarser along the new axis too, or its stride stays 1 everywhere.
        depth_kernel: Most cells of a kernel along the new axis, an odd number; None for as many as in the plane.

    Raises:
        InputError: See ``SliceWise``; an encoder that can't be inflated.

    References:
        Carreira and Zisserman, Quo vadis, action recognition?, 2017.
    """

    option: ClassVar[str] = "inflated"

    def __init__(
        self,
        spec: ModelSpec,
        *,
        of: Callable[[ModelSpec], Encoder],
        axis: int | None = None,
        depth_stride: bool = True,
        depth_kernel: int | None = None,
    ) -> None:
        if depth_kernel is not None and (depth_kernel < 1 or depth_kernel % 2 == 0):
            raise InputError(f"model.encoder.depth_kernel={depth_kernel}: expected an odd number of cells, or null")
        super().__init__(spec, of=of, axis=axis)
        flat = self.inner
        self.loading = flat.loading
        if not inflate_modules(self.inner.trunk, Depth(self.axis, depth_stride, depth_kernel)):
            raise InputError(
                "model/encoder=inflated: with depth_kernel=1 nothing reaches into neighbouring slices; take "
                "model/encoder=sliced, which leaves it to the decoder to join them"
            )
        if depth_stride:
            self.features = tuple(Feature(f.channels, self.along(f.stride, f.stride[0])) for f in flat.features)
            self.divisor = self.along(flat.divisor, flat.divisor[0])

    @property
    def grids(self) -> Grids:
        """Grids of the inner encoder, with the new axis."""
        return replace(self.inner.grids or Grids(), new_axis=self.axis)

    @property
    def upstream(self) -> Mapping[str, Sequence[int]]:
        """Shapes of the inner encoder's network of images."""
        return self.inner.upstream

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Load the weights of the inner encoder; see ``Encoder.initialise``."""
        with rename_keys(OF):
            return Encoder.initialise(self, statistics)

    def fetch(self, source: str) -> Pretrained:
        """The weights that the inner encoder reads from ``source``."""
        return self.inner.fetch(source)

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parameter names of the inner encoder."""
        return self.inner.rename(state)

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        return self.inner(image)
