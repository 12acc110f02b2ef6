"""The refusal of volumes by networks that know images only."""

from medseg.errors import InputError
from medseg.models.network import ModelSpec


def refuse_volumes(name: str, spec: ModelSpec) -> None:
    """Refuse data of other than two spatial axes.

    Raises:
        InputError: Names the networks for volumes.
    """
    if spec.ndim != 2:
        raise InputError(
            f"{name} takes images of 2 spatial axes, the data has {spec.ndim}; choose a network for volumes: "
            f"model=unet, residual_unet, segresnet, mednext, swin_unetr or unetr"
        )
