"""UNet: up from the coarsest feature by one level at a time, with skips, for any pyramid."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, cat, nn

from medseg.errors import InputError
from medseg.models.decoders.blocks import INSTEAD, one_of, positive, resize
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Feature, Stride
from medseg.models.layers import CONV, CONV_TRANSPOSED, NORMS, ConvBlock, init_he, stack
from medseg.models.network import ModelSpec

UPSAMPLING = ("transposed", "linear")
_MAX_FEATURES = {2: 512, 3: 320}
_NORM = {2: "batch", 3: "instance"}
"""Defaults by the number of spatial axes."""


class UNet(Decoder):
    """The decoder of a U-Net on the features of any encoder, in steps as large as its strides are apart.

    Each step brings the coarser level to the grid of the next finer one, concatenates that one's feature
    and applies blocks of convolution, normalisation and leaky ReLU. The last step, at the full
    resolution, takes features that two such blocks draw from the image itself (as Swin UNETR does), where
    the encoder has none there. Strides may differ from axis to axis.

    Args:
        spec: Data and plan; kernels and strides are not used.
        features: Features that the encoder declares.
        base_features: Channels of the finest level; they double with every coarser one.
        max_features: Upper bound of the channels; None for 512 in two and 320 in three dimensions.
        blocks: Number of blocks of each level.
        kernel: Kernel of their convolutions, on all axes; odd.
        upsampling: ``transposed`` convolutions (and linear interpolation where a stride is no multiple of
            the next finer), or ``linear`` interpolation of all.
        norm: ``instance``, ``batch`` or ``group`` (see ``normalisation``); None for ``batch`` in two dimensions, where
            brightness tells classes apart, and ``instance`` in three, where batches are of one or two.
        image_skip: Decode at full resolution. Without it the finest feature is the last level.
        deep_supervision: In training, logits of every level instead of the finest only.

    Raises:
        InputError: Settings out of range; a single feature without the image; features that don't make a pyramid.

    References:
        Ronneberger et al., U-Net, 2015. Isensee et al., nnU-Net, 2021 (blocks, widths, deep supervision).
        Hatamizadeh et al., Swin UNETR, 2022 (the skip from the image).
    """

    instead = INSTEAD

    def __init__(
        self,
        spec: ModelSpec,
        features: Sequence[Feature],
        *,
        base_features: int = 32,
        max_features: int | None = None,
        blocks: int = 2,
        kernel: int = 3,
        upsampling: str = "transposed",
        norm: str | None = None,
        image_skip: bool = True,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__(spec, features, layout="pyramid")
        most = max_features or _MAX_FEATURES[spec.ndim]
        norm = norm or _NORM[spec.ndim]
        positive(base_features=base_features, max_features=most, blocks=blocks)
        one_of("upsampling", upsampling, UPSAMPLING)
        one_of("norm", norm, NORMS)
        _check_odd(kernel)
        ndim, ones = spec.ndim, (1,) * spec.ndim
        levels = list(self.neck.features)
        kernels = (kernel,) * ndim
        self.from_image: nn.Module | None = None
        if image_skip and levels[0].stride != ones:
            width = min(base_features, most)
            self.from_image = stack(ConvBlock, 2, spec.in_channels, width, kernels, ones, norm)
            levels.insert(0, Feature(width, ones))
        _check_levels(levels)
        widths = _widths(len(levels) - 1, base_features, most)
        below = [*widths[1:], levels[-1].channels]  # channels of the next coarser level
        self.up = nn.ModuleList(
            _enlarge(below[i], width, levels[i].stride, levels[i + 1].stride, upsampling)
            for i, width in enumerate(widths)
        )
        self.blocks = nn.ModuleList(
            stack(ConvBlock, blocks, width + levels[i].channels, width, kernels, ones, norm)
            for i, width in enumerate(widths)
        )
        self.deep_supervision = deep_supervision
        supervised = widths if deep_supervision else widths[:1]
        self.heads = nn.ModuleList(CONV[ndim](width, spec.out_channels, 1) for width in supervised)
        for part in filter(None, (self.up, self.blocks, self.heads, self.from_image)):
            init_he(part)

    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"] | list[Tensor]:
        """Logits of the finest level; a list from fine to coarse in training under deep supervision."""
        *skips, feature = grids
        if self.from_image is not None:
            skips.insert(0, self.from_image(image))
        decoded: list[Tensor] = []
        for up, block, skip in zip(self.up[::-1], self.blocks[::-1], skips[::-1], strict=True):
            enlarged = crop(up(feature), skip.shape[2:])
            feature = block(cat((resize(enlarged, skip.shape[2:]), skip), dim=1))
            decoded.insert(0, feature)
        if self.training and self.deep_supervision:
            return [head(f) for head, f in zip(self.heads, decoded, strict=True)]
        return self.heads[0](feature)


def _widths(count: int, first: int, most: int) -> list[int]:
    """Channels of each level, from the finest on: they double, up to ``most``."""
    return [min(first * 2**i, most) for i in range(count)]


def _check_odd(kernel: int) -> None:
    """Raise on a kernel that is no odd number."""
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"model.decoder.kernel={kernel}: expected an odd number")


def _check_levels(levels: Sequence[Feature]) -> None:
    """Raise where there is nothing to decode: a single level."""
    if len(levels) < 2:
        raise InputError(
            "decoder UNet: got a single feature and no skip from the image, expected two levels or more; "
            "set model.decoder.image_skip=true or ask the encoder for more features"
        )


def crop(grid: Float[Tensor, "b c *s"], shape: Sequence[int]) -> Float[Tensor, "b c *t"]:
    """The first cells of each axis: cells beyond ``shape`` come from a coarse cell at the far end."""
    for axis, n in enumerate(shape, start=2):
        grid = grid.narrow(axis, 0, min(n, grid.shape[axis]))
    return grid


def _enlarge(
    in_channels: int, channels: int, fine: Sequence[Stride], coarse: Sequence[Stride], upsampling: str
) -> nn.Module:
    """The layer from one level to the width of the next, and to its grid where strides are multiples."""
    ndim = len(fine)
    ratio = tuple(int(c // f) for f, c in zip(fine, coarse, strict=True))
    if upsampling == "transposed" and all(f * r == c for f, r, c in zip(fine, ratio, coarse, strict=True)):
        return CONV_TRANSPOSED[ndim](in_channels, channels, ratio, ratio)
    return CONV[ndim](in_channels, channels, 1)  # narrowed before it is interpolated: the same, and cheaper
