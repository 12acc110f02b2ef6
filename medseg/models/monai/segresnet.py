"""SegResNet: a residual U-Net with a light decoder, from MONAI."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet
from torch import Tensor

from medseg.errors import InputError
from medseg.models.network import ModelSpec, Network

_GROUPS = 8


class SegResNet(Network):
    """Residual blocks with group normalisation, linear upsampling, skips that are added.

    Args:
        spec: Data and plan; kernels and strides are not used.
        init_filters: Channels of the first stage, a multiple of 8; they double with every stage.
        blocks_down: Residual blocks of each encoder stage.
        blocks_up: Residual blocks of each decoder stage, one stage fewer.
        dropout: Dropout probability after the first convolution, in training; None for none.

    Raises:
        InputError: Settings that do not fit each other.

    References:
        Myronenko, 3D MRI brain tumor segmentation using autoencoder regularization, 2018 (without the
        variational branch).
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        init_filters: int = 32,
        blocks_down: Sequence[int] = (1, 2, 2, 4),
        blocks_up: Sequence[int] = (1, 1, 1),
        dropout: float | None = None,
    ) -> None:
        super().__init__(spec.in_channels, (2 ** (len(blocks_down) - 1),) * spec.ndim)
        if init_filters % _GROUPS or len(blocks_up) != len(blocks_down) - 1:
            raise InputError(
                f"SegResNet: expected init_filters that is a multiple of {_GROUPS} and one blocks_up fewer than "
                f"blocks_down, got {init_filters}, {list(blocks_up)} and {list(blocks_down)}"
            )
        self.net = MonaiSegResNet(
            spec.ndim,
            init_filters,
            spec.in_channels,
            spec.out_channels,
            dropout_prob=dropout,
            norm=("group", {"num_groups": _GROUPS}),
            blocks_down=tuple(blocks_down),
            blocks_up=tuple(blocks_up),
        )

    @property
    def stem_kernel(self) -> str:
        """The first convolution."""
        return "net.convInit.conv.weight"

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell."""
        self.check(image)
        return self.net(image)
