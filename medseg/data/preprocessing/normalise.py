"""How raw values become network input: one rule a channel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Shaped

from medseg.errors import InputError

PER_IMAGE = ("zscore", "unit_range")
"""Schemes that need statistics of each image."""
CLASSES = "classes"
"""Scheme of a channel that holds class numbers."""
POOLED = ("ct", "standard", "percentile")
"""Schemes that need statistics of the training set."""


class Scheme(ABC):
    """A normalisation of one's own, named by its class path: ``plan.normalisation=[my_package.schemes.Log]``.

    Instances are created without arguments, hold no state and can be pickled.

    Attributes:
        per_image: Whether statistics of the whole image are needed before a window of it can be normalised.
    """

    per_image: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, cells: Float[np.ndarray, " n"], rule: Normalisation, image: ImageStats | None
    ) -> Float[np.ndarray, " n"]:
        """Network input of the cells of one channel that count.

        Args:
            cells: Raw values, which are not to be changed in place.
            rule: Mean, std and percentiles of the training set.
            image: Statistics of the image if ``per_image``, else None.
        """


@dataclass(frozen=True)
class Normalisation:
    """How one channel's raw values become network input.

    Attributes:
        scheme: ``zscore`` (mean and std of the image), ``ct`` (clip to [low, high], then mean and std
            of the dataset), ``standard`` (mean and std of the dataset), ``percentile`` (clip to [low,
            high], which become 0 and 1), ``unit_range`` (image minimum and maximum to 0 and 1), ``rgb``
            (divide by 255) or ``none``; ``classes`` for a channel that holds class numbers, which is resampled as a
            label; or the class path of a ``Scheme``.
        mean: Of the dataset: the foreground of volumes, all valid cells of scenes. So for the others.
        std: Standard deviation.
        low: 0.5th percentile.
        high: 99.5th percentile.
        own: Instance of the ``Scheme`` that a class path names. It is no part of files and checkpoints, so that
            reading one of them imports nothing (``medseg.factory.schemes`` adds it where the path is trusted).
    """

    scheme: str
    mean: float = 0.0
    std: float = 1.0
    low: float = -np.inf
    high: float = np.inf
    own: Scheme | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        known = (*PER_IMAGE, *POOLED, "rgb", "none", CLASSES)
        own = "." in self.scheme and all(word.isidentifier() for word in self.scheme.split("."))
        if self.scheme not in known and not own:
            raise InputError(
                f"normalisation {self.scheme!r} is unknown; choose one of {', '.join(known)}, or the path of a class"
            )

    @property
    def pooled(self) -> bool:
        """Whether statistics of the training set are part of the rule."""
        return self.scheme in POOLED or "." in self.scheme

    @property
    def per_image(self) -> bool:
        """Whether statistics of the whole image are needed."""
        return self.scheme in PER_IMAGE or ("." in self.scheme and self.imported.per_image)

    @property
    def imported(self) -> Scheme:
        """The scheme that a class path names.

        Raises:
            InputError: It was not imported.
        """
        if self.own is None:
            top = self.scheme.partition(".")[0]
            raise InputError(
                f"normalisation {self.scheme} was not imported; if it is your own class, add trust=[{top}]"
            )
        return self.own

    def to_dict(self) -> dict[str, str | float]:
        """JSON-able form."""
        return {name: value for name, value in vars(self).items() if name != "own"}


@dataclass(frozen=True)
class ImageStats:
    """Statistics of one channel of one image over the cells that count."""

    mean: float
    std: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, cells: npt.NDArray[np.floating]) -> ImageStats:
        """Of these values, in float64."""
        exact = cells.astype(np.float64)
        return cls(float(exact.mean()), float(exact.std()), float(exact.min()), float(exact.max()))

    @classmethod
    def pooled(cls, parts: Sequence[tuple[int, ImageStats]]) -> ImageStats:
        """Of the union of parts, each with its number of values; neutral where there is none."""
        n = sum(count for count, _ in parts)
        if not n:
            return cls(0.0, 1.0, 0.0, 1.0)
        mean = sum(count * part.mean for count, part in parts) / n
        variance = sum(count * (part.std**2 + (part.mean - mean) ** 2) for count, part in parts) / n
        return cls(mean, variance**0.5, min(p.minimum for _, p in parts), max(p.maximum for _, p in parts))


def normalise(
    image: Float[np.ndarray, "c *s"],
    counted: Bool[np.ndarray, " *s"],
    rules: Sequence[Normalisation],
    stats: Sequence[ImageStats] | None = None,
    out: Float[np.ndarray, "c *s"] | None = None,
    present: Bool[np.ndarray, " c"] | None = None,
) -> Float[np.ndarray, "c *s"]:
    """Normalise each channel by its rule; cells that do not count, and channels that are absent, become 0.

    Args:
        image: Raw values.
        counted: Cells that enter the statistics and keep a value.
        rules: One a channel.
        stats: Of the whole image of which this is a window, one a channel; None takes those of ``image``.
        out: float32 array for the result, which may be ``image`` itself; None makes one.
        present: Which channels the case has; None for all.
    """
    whole = bool(counted.all())
    normal = np.empty(image.shape, dtype=np.float32) if out is None else out
    if not whole:
        np.copyto(normal, 0, where=~counted)
        if not counted.any():
            return normal
    for number, (target, channel, rule) in enumerate(zip(normal, image, rules, strict=True)):
        if present is not None and not present[number]:
            target[...] = 0
            continue
        if rule.scheme == "standard":  # as in every window that training reads from a scene's file: no copies
            where = True if whole else counted
            np.subtract(channel, np.float32(rule.mean), out=target, where=where)
            np.multiply(target, np.float32(1 / max(rule.std, 1e-8)), out=target, where=where)
            continue
        cells = channel if whole else channel[counted]
        changed = _changed(cells, rule, _statistics(cells, rule, stats[number] if stats else None))
        if whole:
            target[...] = changed
        else:
            target[counted] = changed
    return normal


def _statistics(cells: Float[np.ndarray, "..."], rule: Normalisation, given: ImageStats | None) -> ImageStats | None:
    """Statistics of the image, or else of these cells, for a rule that needs some."""
    if not rule.per_image:
        return None
    return given or ImageStats.of(cells)


def normalise_dates(
    image: Float[np.ndarray, "t c *s"],
    counted: Bool[np.ndarray, " *s"],
    rules: Sequence[Normalisation],
    stats: Sequence[ImageStats] | None = None,
    out: Float[np.ndarray, "t c *s"] | None = None,
    present: Bool[np.ndarray, "t c"] | None = None,
) -> Float[np.ndarray, "t c *s"]:
    """Normalise a time series, a channel alike on every date; cells without data on some date become 0 there.

    Args:
        image: Raw values, NaN where a date has no data.
        counted: As for ``normalise``.
        rules: One a channel.
        stats: Likewise, over all dates of the whole series; None takes those of ``image``.
        out: As for ``normalise``.
        present: Which channels each date has; None for all.
    """
    if stats is None and any(rule.per_image for rule in rules):
        values = by_channel(image, counted, present)
        stats = [ImageStats.pooled([(len(v), ImageStats.of(v))] if len(v) else []) for v in values]
    there = np.ones(image.shape[:2], dtype=bool) if present is None else present
    normal = np.empty(image.shape, dtype=np.float32) if out is None else out
    for target, date, here, own in zip(normal, image, _known(image, counted, there), there, strict=True):
        normalise(date, here, rules, stats, target, own)
    return normal


def _known(
    image: Float[np.ndarray, "t c *s"], counted: Bool[np.ndarray, " *s"], present: Bool[np.ndarray, "t c"]
) -> Iterator[Bool[np.ndarray, " *s"]]:
    """Date by date, the cells that count in which each channel of the date has data."""
    for date, own in zip(image, present, strict=True):
        yield np.isfinite(date[own]).all(axis=0) & counted & own.any()


def by_channel(
    image: Float[np.ndarray, "..."], counted: Bool[np.ndarray, " *s"], present: Bool[np.ndarray, "*lead"] | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """Values of each channel in the cells that count; of a time series those of all dates that have data.

    Args:
        image: ``[c, *s]``, or ``[t, c, *s]`` with NaN where a date has no data.
        counted: See above.
        present: Which channels there are, of a time series on each date; None for all.
    """
    if image.ndim == counted.ndim + 1:
        yield from (channel[counted] for channel in image)
        return
    there = np.ones(image.shape[:2], dtype=bool) if present is None else present
    known = np.stack(list(_known(image, counted, there)))
    for number, own in enumerate(there.T):
        yield image[own, number][known[own]]


def _changed(
    cells: Shaped[np.ndarray, "..."], rule: Normalisation, image: ImageStats | None
) -> Shaped[np.ndarray, "..."]:
    """Cells of one channel by its rule."""
    if "." not in rule.scheme:
        return _by_rule(cells, rule) if image is None else _by_image(cells, rule.scheme, image)
    changed = rule.imported(cells.ravel(), rule, image)
    if not (isinstance(changed, np.ndarray) and changed.shape == (cells.size,)):
        raise InputError(
            f"normalisation {rule.scheme}: got {getattr(changed, 'shape', type(changed).__name__)} for "
            f"{cells.size} cells; return one number for each cell"
        )
    return changed.reshape(cells.shape)


def _by_image(cells: Shaped[np.ndarray, "..."], scheme: str, stats: ImageStats) -> Shaped[np.ndarray, "..."]:
    exact = cells.astype(np.float64)
    if scheme == "zscore":
        return (exact - stats.mean) / max(stats.std, 1e-8)
    return (exact - stats.minimum) / max(stats.maximum - stats.minimum, 1e-8)


def _by_rule(cells: Shaped[np.ndarray, "..."], rule: Normalisation) -> Shaped[np.ndarray, "..."]:
    if rule.scheme == "ct":
        return (np.clip(cells.astype(np.float64), rule.low, rule.high) - rule.mean) / max(rule.std, 1e-8)
    if rule.scheme == "percentile":
        return (np.clip(cells, rule.low, rule.high) - rule.low) / max(rule.high - rule.low, 1e-8)
    if rule.scheme == "rgb":
        if cells.min() < 0 or cells.max() > 255:
            raise InputError(
                f"normalisation rgb expects values in 0..255, got {cells.min():g}..{cells.max():g}; "
                "name the channel otherwise, or choose plan.normalisation=[zscore]"
            )
        return cells / 255
    return cells
