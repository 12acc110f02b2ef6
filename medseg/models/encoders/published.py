"""Published: the files that a family of encoders publishes, and the images that they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights.pretrained import Pretrained, read


@dataclass(frozen=True)
class Published:
    """What a family says of its weights.

    Attributes:
        files: Name on the hub (``hf-hub:owner/name/file``) by size.
        channels: Of the images, in the order of the first kernel.
        mean: Of each channel, in the unit of the weights.
        std: Likewise.
        scale: Raw values for 1 in the unit of the weights.
        normalisation: How images were prepared, in words, where mean, std and scale do not say it all.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: float | None = None
    normalisation: str = ""

    def fetch(self, source: str, size: str) -> Pretrained:
        """``pretrained``: the published file of a size; anything else: a file, or a name on a hub.

        A file that does not say what it was trained on is taken to be of the images of the family.

        Args:
            source: Value of ``model.encoder.weights``.
            size: Of the encoder.

        Raises:
            InputError: None is published of this size; it can't be downloaded or read.
        """
        if source == "pretrained":
            source = self._file(size)
        found = read(source)
        if found.channels or found.mean or found.normalisation:
            return found
        return replace(
            found,
            channels=self.channels,
            mean=self.mean,
            std=self.std,
            scale=self.scale,
            normalisation=self.normalisation,
        )

    def _file(self, size: str) -> str:
        """The name on the hub of the weights of a size."""
        if size in self.files:
            return self.files[size]
        others = f"choose model.encoder.size={' or '.join(self.files)}, or " if self.files else ""
        raise InputError(
            f"model.encoder.weights=pretrained: none are published of size {size}; {others}give a file, "
            "model.encoder.weights=FILE"
        )
