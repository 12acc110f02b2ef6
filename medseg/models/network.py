"""Network: the one interface of all networks; ModelSpec: its arguments from data and plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.facts import Fact
from medseg.sample import Channel
from medseg.weights.pretrained import Pretrained
from medseg.weights.report import Report


@dataclass(frozen=True)
class ModelSpec:
    """Arguments of a network that follow from data and plan; every other argument is a setting of its yaml.

    Attributes:
        in_channels: Number of image channels, c.
        out_channels: Number of logits per cell, k.
        patch_shape: Shape of a training patch, in cells; its length is the number of spatial axes.
        spacing: Distance between cell centres on each axis, in the unit of the grid.
        kernels: Planned convolution kernel of each stage, fine to coarse. Networks of fixed topology
            ignore it.
        strides: Planned stride at the entrance of each stage. Networks of fixed topology ignore it.
        channels: Names and wavelengths of the image channels, for networks that use them; empty if unknown.
        dates: Dates whose channels follow one another in ``in_channels``; 1 but with ``temporal=native``.
        facts: Facts of each case, for networks that take them.
        case_classes: Number of classes of cases, m, for networks that classify cases; 0 where they have none.
    """

    in_channels: int
    out_channels: int
    patch_shape: tuple[int, ...]
    spacing: tuple[float, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    channels: tuple[Channel, ...] = ()
    dates: int = 1
    facts: tuple[Fact, ...] = ()
    case_classes: int = 0

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.patch_shape)

    @property
    def of_one_date(self) -> ModelSpec:
        """The same of the images of a single date."""
        count = self.in_channels // self.dates
        return replace(self, in_channels=count, channels=self.channels[:count], dates=1)


class Network(nn.Module, ABC):
    """Maps an image to logits, in two or three dimensions; every network of the package is one.

    Subclasses take ``(spec: ModelSpec, *, settings)``. Their yaml has ``_partial_: true``, so
    ``hydra.utils.instantiate(cfg.model)(spec)`` builds them.

    Attributes:
        in_channels: Number of image channels, c.
        divisor: Divisor of the image's shape, on each axis.
        min_cells: Cells that must remain at the coarsest stage (2 for networks that normalise each
            case over its cells, which a single cell does not permit).
        margin: Cells on either side of each axis of the image that have no logits; 0 of most networks.
        fixed_shape: The only shape accepted, for networks with learned positions; else None.
        follows_plan: Whether it is built from the kernels and strides of the plan; every other network is built once
            before there is a plan, without them, to reject wrong settings before data is read.
        ndims: Numbers of spatial axes that it is built for.
        outputs: Names of what it returns in training besides logits, for losses that ask for it.
        takes_facts: Whether it takes ``facts`` ``[b, f]`` of the cases as a further argument; without it all of them
            are missing.
        classifies: Whether it gives ``case_logits`` ``[b, m]``, the class of the case: in training, and with
            ``named=True`` outside of it, in a mapping with ``logits``.
    """

    follows_plan: ClassVar[bool] = False
    ndims: ClassVar[tuple[int, ...]] = (2, 3)
    outputs: tuple[str, ...] = ()
    takes_facts: bool = False
    classifies: bool = False

    def __init__(
        self, in_channels: int, divisor: Sequence[int], *, min_cells: int = 1, fixed_shape: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.divisor = tuple(divisor)
        self.min_cells = min_cells
        self.margin = (0,) * len(self.divisor)
        self.fixed_shape = None if fixed_shape is None else tuple(fixed_shape)

    @property
    def settled(self) -> Mapping[str, object]:
        """Settings that construction read from elsewhere; a checkpoint stores them in place of the configured ones.

        So a network rebuilds where the folder or the hub that describes its architecture is gone.
        """
        return {}

    def _follow(self, path: nn.Module | None) -> None:
        """Declare what a ``CasePath`` adds to the network; None adds nothing."""
        self.takes_facts = bool(getattr(path, "takes_facts", False))
        self.classifies = bool(getattr(path, "classifies", False))
        self.outputs = (*self.outputs, "case_logits") if self.classifies else self.outputs

    @abstractmethod
    def forward(
        self, image: Float[Tensor, "b c *s"]
    ) -> Float[Tensor, "b k *t"] | list[Tensor] | dict[str, Tensor | list[Tensor]]:
        """Logits of each cell further from the border than ``margin``.

        In training, networks with deep supervision return a list of logits from fine to coarse: the
        first has the resolution of the image, the others that of their stage. In training, a network may instead
        return a mapping of ``logits`` and of each name in ``outputs``; outside of it, logits alone.

        Raises:
            InputError: See ``check``.
        """

    @property
    def stem_kernel(self) -> str | tuple[str, ...] | None:
        """Names of the kernels ``[o, c, *k]`` that take the image; None where weights of other channels do not fit."""
        return None

    def adopt(self, found: Pretrained) -> Pretrained:
        """Weights of all of the network under its own names; networks that other packages have too change this.

        Raises:
            InputError: They are of this kind of network, but of another shape.
        """
        return found

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Load pretrained weights, if the settings name any; once, when a training begins.

        Args:
            statistics: ``mean`` and ``std`` of each channel of the data, in raw units.

        Returns:
            Report of what was loaded; None without weights in the settings.

        Raises:
            InputError: See ``weights.load.load``.
        """
        del statistics
        return None

    def nearest(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The smallest shape that the network takes and that holds ``shape``."""
        fitting = [max(ceil(s / d), 1) * d for s, d in zip(shape, self.divisor, strict=True)]
        if prod(n // d for n, d in zip(fitting, self.divisor, strict=True)) < self.min_cells:
            fitting[-1] = self.min_cells * self.divisor[-1]
        return tuple(fitting)

    def check(self, image: Float[Tensor, "b c *s"]) -> None:
        """Check that the network accepts an image.

        Raises:
            InputError: Channels or axes differ from what the network was built for, or the shape does
                not fit; names the nearest shape that does.
        """
        name, (channels, *shape) = type(self).__name__, image.shape[1:]
        if channels != self.in_channels or len(shape) != len(self.divisor):
            raise InputError(
                f"{name}: got an image of {channels} channels and {len(shape)} spatial axes, the network was built "
                f"for {self.in_channels} and {len(self.divisor)}; give it the channels it was trained on"
            )
        if self.fixed_shape is not None and tuple(shape) != self.fixed_shape:
            raise InputError(
                f"{name}: got an image of shape {tuple(shape)}, but its positions are learned for "
                f"{self.fixed_shape} only; cut or pad to {self.fixed_shape}, as the sliding window does"
            )
        fitting = self.nearest(shape)
        if fitting != tuple(shape):
            raise InputError(
                f"{name}: got an image of shape {tuple(shape)}, expected multiples of {self.divisor}"
                f"{' and two or more of them' if self.min_cells > 1 else ''}; pad to {fitting}"
            )


@contextmanager
def refuse_lone_cell(name: str, shape: Sequence[int], instead: str = "") -> Iterator[None]:
    """Context of a training step, where batch normalisation of a single value raises a message with its fix.

    Args:
        name: Name of the network or part, for the message.
        shape: Shape of the image, for the message.
        instead: Another hint, appended to the message.

    Raises:
        InputError: Batch normalisation of one image with one cell left.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"{name}: got a batch of 1 image of shape {tuple(shape)} in training, but it is normalised where one "
            f"cell of it is left; expected 2 or more, as with plan.batch_size=2{instead}"
        ) from error
