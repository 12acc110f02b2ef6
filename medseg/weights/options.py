"""What the user says of weights: where from, what they were trained on, and what need not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.sensors.bands import PRODUCTS
from medseg.weights.bands import of_sentinel2
from medseg.weights.channels import check_strategy
from medseg.weights.essential import PARTS
from medseg.weights.pretrained import Pretrained


@dataclass(frozen=True)
class WeightOptions:
    """Settings of ``model.encoder`` that concern its weights.

    Attributes:
        weights: A file, a name on a hub, or what the family of encoders knows; None for random weights.
        adapt: How the channels of the weights become those of the data; see ``channels.adapt``.
        least_share: Least share of the parameters that the weights must cover, in [0, 1].
        trained_on: Channels that the weights were trained on, in the order of their first kernel: names (codes of
            Sentinel-2 have its wavelengths), a mapping of names to wavelengths in nm, or a name of ``PRODUCTS`` for
            all of its bands. None: as the file says.
        mean: Of each of these channels, in the unit of the weights; None: as the file says.
        std: Likewise.
        scale: Raw values of sensor or file for 1 in the unit of the weights, such as 10,000; None: as the file says.
        frames: Frames of a clip, of weights of time series or videos; None to infer it from shapes.
        accept: Parts that need not fit, of ``essential.PARTS``.

    Raises:
        InputError: An unknown strategy or part, a share outside [0, 1], or numbers that are not finite.
    """

    weights: str | None = None
    adapt: str = "auto"
    least_share: float = 0.9
    trained_on: str | Sequence[str] | Mapping[str, float | None] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    scale: float | None = None
    frames: int | None = None
    accept: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_strategy(self.adapt)
        if not 0 <= self.least_share <= 1:
            raise InputError(f"model.encoder.least_share={self.least_share}: expected a share from 0 to 1")
        unknown = [part for part in self.accept if part not in PARTS]
        if unknown or isinstance(self.accept, str):
            raise InputError(f"model.encoder.accept={self.accept}: expected a list with some of {', '.join(PARTS)}")
        if isinstance(self.trained_on, str) and self.trained_on not in PRODUCTS:
            raise InputError(
                f"model.encoder.trained_on={self.trained_on}: expected a list of channels, such as [B2,B3,B4], or a "
                f"product for all of its bands: {', '.join(PRODUCTS)}"
            )
        if self.frames is not None and self.frames < 1:
            raise InputError(f"model.encoder.frames={self.frames}: expected a number of frames, at least 1, or null")
        for key in ("mean", "std", "scale"):
            self._check_numbers(key)

    def _check_numbers(self, key: str) -> None:
        given = getattr(self, key)
        values = [] if given is None else [given] if key == "scale" else list(given)
        if not all(isfinite(v) and (key == "mean" or v > 0) for v in values):
            kind = "finite numbers" if key == "mean" else "numbers above 0"
            raise InputError(f"model.encoder.{key}={given}: expected {kind}")
        if key != "scale":
            self._check_one_each(key, values)

    def _check_one_each(self, key: str, values: Sequence[float]) -> None:
        count = len(self.channels())
        if values and self.trained_on is not None and len(values) != count:
            raise InputError(
                f"model.encoder.{key} has {len(values)} values, model.encoder.trained_on has {count} channels; give "
                "one value for each channel"
            )

    def channels(self) -> tuple[Channel, ...]:
        """The channels of ``trained_on``; empty where it is None."""
        named = PRODUCTS[self.trained_on] if isinstance(self.trained_on, str) else self.trained_on
        if isinstance(named, Mapping):
            return tuple(Channel(name, wavelength_nm=None if nm is None else float(nm)) for name, nm in named.items())
        return tuple(of_sentinel2(str(name)) for name in named or ())

    def describe(self, found: Pretrained) -> Pretrained:
        """Weights with what the user says of them, which goes before what their file says."""
        channels, mean, std = self.channels(), _floats(self.mean), _floats(self.std)
        if channels and not mean and not std and len(found.mean) != len(channels):
            found = replace(found, mean=(), std=())  # of other channels than these
        return replace(
            found,
            channels=channels or found.channels,
            mean=mean or found.mean,
            std=std or found.std,
            scale=found.scale if self.scale is None else float(self.scale),
            stated=bool(self.trained_on),
        )


def _floats(values: Sequence[float] | None) -> tuple[float, ...]:
    return tuple(float(v) for v in values or ())
