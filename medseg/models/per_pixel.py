"""PerPixel: a small network that looks at one cell, or at a cell and its neighbours."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.layers import CONV, NORMS, ConvBlock, init_he
from medseg.models.network import ModelSpec, Network


class PerPixel(Network):
    """A multi-layer perceptron of the channels of each cell: convolutions with kernels of one cell.

    It is for images whose channels have the surroundings of a cell in them, such as embeddings, and a baseline for any
    other: what a network with a view of the surroundings brings is the difference to it. With ``kernel_size=3`` the
    first layer sees the neighbours too.

    Args:
        spec: Data and plan.
        depth: Number of hidden layers; 0 is a linear classifier.
        width: Channels of each hidden layer.
        kernel_size: Of the first layer, in cells; odd.
        dropout: Fraction of the hidden channels that a training step leaves out.
        norm: ``batch``, which keeps how large the values of a patch are, ``instance`` or ``group`` (see
            ``normalisation``).

    Raises:
        InputError: Settings out of range.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        depth: int = 2,
        width: int = 128,
        kernel_size: int = 1,
        dropout: float = 0.0,
        norm: str = "batch",
    ) -> None:
        super().__init__(spec.in_channels, (1,) * spec.ndim, min_cells=2 if norm == "instance" else 1)
        if depth < 0 or width < 1 or kernel_size < 1 or kernel_size % 2 == 0 or not 0 <= dropout < 1:
            raise InputError(
                f"PerPixel: got depth={depth}, width={width}, kernel_size={kernel_size}, dropout={dropout}; expected "
                "layers of a positive width (depth=0 for none), an odd kernel_size, and a dropout from 0 to below 1"
            )
        if norm not in NORMS:
            raise InputError(f"PerPixel: norm={norm} is unknown; choose one of {', '.join(NORMS)}")
        ones, layers = (1,) * spec.ndim, nn.Sequential()
        channels = [spec.in_channels, *[width] * depth]
        sizes = [kernel_size, *[1] * depth]
        for before, after, size in zip(channels, channels[1:], sizes):
            layers.append(ConvBlock(before, after, (size,) * spec.ndim, ones, norm))
            layers.append(nn.Dropout(dropout))
        self.hidden = layers
        self.head = CONV[spec.ndim](channels[-1], spec.out_channels, sizes[depth], padding=sizes[depth] // 2)
        init_he(self)

    @property
    def stem_kernel(self) -> str:
        """The first convolution."""
        return "hidden.0.0.weight" if len(self.hidden) else "head.weight"

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell."""
        self.check(image)
        logits: Tensor = self.head(self.hidden(image))
        return logits
