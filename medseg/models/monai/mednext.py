"""MedNeXt: a U-Net of depthwise convolutions after ConvNeXt, from MONAI."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from monai.networks.nets.mednext import MedNeXt as MonaiMedNeXt
from torch import Tensor

from medseg.errors import InputError
from medseg.models.network import ModelSpec, Network


class MedNeXt(Network):
    """Inverted bottlenecks with large depthwise kernels, residual also where the resolution changes.

    Args:
        spec: Data and plan; kernels and strides are not used.
        init_filters: Channels of the first stage; they double with every stage.
        kernel_size: Edge of the depthwise kernels, odd.
        blocks_down: Blocks of each encoder stage, fine to coarse.
        blocks_bottleneck: Blocks of the bottleneck.
        blocks_up: Blocks of each decoder stage, coarse to fine; as many stages as ``blocks_down``.
        expansion_down: Channel expansion inside the blocks of each encoder stage.
        expansion_bottleneck: Expansion in the bottleneck.
        expansion_up: Expansion in the decoder.
        deep_supervision: In training, logits of every stage, also the bottleneck.

    Raises:
        InputError: Settings that do not fit each other.

    References:
        Roy et al., MedNeXt, 2023. Its sizes S, B, M and L are settings of this class.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        init_filters: int = 32,
        kernel_size: int = 3,
        blocks_down: Sequence[int] = (2, 2, 2, 2),
        blocks_bottleneck: int = 2,
        blocks_up: Sequence[int] = (2, 2, 2, 2),
        expansion_down: Sequence[int] = (2, 3, 4, 4),
        expansion_bottleneck: int = 4,
        expansion_up: Sequence[int] = (4, 4, 3, 2),
        deep_supervision: bool = True,
    ) -> None:
        super().__init__(spec.in_channels, (2 ** len(blocks_down),) * spec.ndim, min_cells=2)
        lengths = {len(blocks_down), len(blocks_up), len(expansion_down), len(expansion_up)}
        if len(lengths) > 1 or kernel_size % 2 == 0:
            raise InputError(
                f"MedNeXt: expected an odd kernel_size and equally long lists of blocks and expansions, got "
                f"kernel_size {kernel_size}, blocks {list(blocks_down)} and {list(blocks_up)}, expansions "
                f"{list(expansion_down)} and {list(expansion_up)}"
            )
        self.net = MonaiMedNeXt(
            spec.ndim,
            init_filters,
            spec.in_channels,
            spec.out_channels,
            encoder_expansion_ratio=expansion_down,
            decoder_expansion_ratio=expansion_up,
            bottleneck_expansion_ratio=expansion_bottleneck,
            kernel_size=kernel_size,
            deep_supervision=deep_supervision,
            use_residual_connection=True,
            blocks_down=blocks_down,
            blocks_bottleneck=blocks_bottleneck,
            blocks_up=blocks_up,
        )

    @property
    def stem_kernel(self) -> str:
        """The first convolution."""
        return "net.stem.weight"

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"] | list[Tensor]:
        """Logits; a list from fine to coarse in training under deep supervision."""
        self.check(image)
        logits = self.net(image)
        return list(logits) if isinstance(logits, tuple) else logits
