"""Names of the files of an exported predictor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Where files lie in the exported folder; members are counted from 1.

    Attributes:
        monai: Whether as in a MONAI bundle.
        onnx: Whether networks are written as ONNX, in addition to torch.export.

    Example:
        >>> Layout(monai=False, onnx=True).network(2), Layout(monai=True, onnx=True).network(1)
        ('network_2.onnx', 'models/model.onnx')
    """

    monai: bool
    onnx: bool

    @classmethod
    def of(cls, name: str) -> Layout:
        """Of the key ``format``: ``onnx``, ``pt2`` or ``monai``."""
        return cls(monai=name == "monai", onnx=name != "pt2")

    def network(self, member: int) -> str:
        """The file of a network that the runner loads."""
        return self._numbered("models/model" if self.monai else "network", member, self._ending)

    def first_stage(self, member: int) -> str:
        """The file of the first network of a cascade that the runner loads."""
        return self._numbered("models/first_stage" if self.monai else "first_stage", member, self._ending)

    @property
    def _ending(self) -> str:
        return "onnx" if self.onnx else "pt2"

    def checkpoint(self, member: int) -> str:
        """Of a checkpoint."""
        return self._numbered("model", member, "ckpt")

    @property
    def card(self) -> str:
        """The model card."""
        return "docs/README.md" if self.monai else "model_card.md"

    def _numbered(self, stem: str, member: int, ending: str) -> str:
        return f"{stem}.{ending}" if member == 1 else f"{stem}_{member}.{ending}"
