"""The check that a network, encoder or decoder is built for the data's number of axes."""

from collections.abc import Sequence

from medseg.errors import InputError
from medseg.models.network import ModelSpec


class WrongAxes(InputError):
    """A part of a network that is built for images got volumes, or the reverse.

    Attributes:
        group: Group of options in which others are for such data: ``model`` or ``model/decoder``.
        ndim: Number of axes of the data.
    """

    def __init__(self, message: str, group: str = "model", ndim: int = 3) -> None:
        super().__init__(message)
        self.group = group
        self.ndim = ndim


def check_axes(name: str, ndims: Sequence[int], spec: ModelSpec, *, group: str = "model") -> None:
    """Check the number of spatial axes of the data.

    Args:
        name: Name of the part, for the message.
        ndims: Numbers of axes that it is built for, its class attribute ``ndims``.
        spec: Data and plan.
        group: Group of options from which another one is to be chosen.

    Raises:
        WrongAxes: The data has another number of axes.
    """
    if spec.ndim not in ndims:
        kinds = {2: "images", 3: "volumes"}
        wanted = " or ".join(f"{kinds[n]} of {n}" for n in ndims)
        part = "decoder" if group == "model/decoder" else "network"
        raise WrongAxes(
            f"{name} takes {wanted} spatial axes, the data has {spec.ndim}; choose a {part} for {kinds[spec.ndim]}",
            group,
            spec.ndim,
        )
