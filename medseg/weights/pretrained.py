"""Pretrained: tensors trained elsewhere, and what is known of the images that they were trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from medseg.errors import rename_keys
from medseg.sample import Channel
from medseg.weights import hub, onnx_file
from medseg.weights.archive import open_file
from medseg.weights.exported import is_archive, unpacked
from medseg.weights.metadata import images_of
from medseg.weights.nested import refuse_adapters, weights_in
from medseg.weights.resolve import INDEX, file_at, parts_of


@dataclass(frozen=True)
class Pretrained:
    """Tensors trained elsewhere.

    Attributes:
        state: Tensors by their names in the file.
        source: Where from, for messages: the file, the hub's name or the enum.
        channels: Of the images that they were trained on, in the order of the stem's input axis; empty if
            unknown.
        mean: Of each channel, subtracted from images in the unit of the weights; empty if unknown.
        std: Likewise, divided by.
        scale: Raw values of sensor or file for 1 in the unit of the weights, such as 255 for photographs or
            10,000 for reflectances of Sentinel-2; None if unknown.
        normalisation: How images were prepared, in words, where mean, std and scale do not say it all.
        digest: SHA-256 of the file, or of its parts one after another; empty where they are from elsewhere.
        stated: Whether the user says what the channels are, by ``model.encoder.trained_on``.
        order: For right, anterior and superior: the axis of the kernels; empty where they are in this order, or where
            nothing says so. See ``NnunetPlans.order``.
    """

    state: Mapping[str, Tensor]
    source: str
    channels: tuple[Channel, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: float | None = None
    normalisation: str = ""
    digest: str = ""
    stated: bool = False
    order: tuple[int, ...] = ()

    def with_state(self, state: Mapping[str, Tensor]) -> Pretrained:
        """The same of other tensors."""
        return replace(self, state=dict(state))


def read(source: str | Path) -> Pretrained:
    """Weights from a file, a folder or the hub of Hugging Face; nothing in them is ever executed.

    Taken are files of torch and Lightning (with ``weights_only=True``, always), of safetensors, in parts by an
    index, of ONNX, folders of Hugging Face, runs and exports of medseg. Which of the mappings in a checkpoint holds the
    weights is found (``nested.weights_in``); ``FILE::teacher`` says it instead. A checkpoint of medseg tells its
    channels, mean and std, as do nnU-Net's and the files next to those of Hugging Face and ONNX.

    Args:
        source: A path, or ``hf-hub:owner/name[@revision][/file]``; either with ``::part`` if wanted.

    Raises:
        InputError: No such file (with the nearest names), one that holds code, is cut short, has no tensors by
            name, or has adapters among them; no network.
    """
    place, part = str(source), None
    if "::" in place and not Path(place).exists():
        place, _, part = place.rpartition("::")
    with _file(place) as file:
        content: dict[str, object] = {}
        files = parts_of(file) if file.name.endswith(INDEX) else [file]
        for path in files:
            content |= open_file(path)
        files += onnx_file.data_files(file) if onnx_file.is_onnx(file) else []
        state = weights_in(content, place, part)
        refuse_adapters(state, place)
        return Pretrained(state, str(source), **vars(images_of(content, file)), digest=_digest(files))


@contextmanager
def _file(place: str) -> Iterator[Path]:
    """The file of weights of a path or a name of the hub; of an archive of medseg-export, its checkpoint."""
    path = Path(place).expanduser()
    if place.startswith(hub.PREFIX):
        yield hub.fetch(place)
    elif is_archive(path):
        with rename_keys(("name the", "unpack it, and name the")), unpacked(path, "model.encoder.weights") as folder:
            yield file_at(folder)
    else:
        yield file_at(path)


def _digest(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while part := stream.read(1 << 20):
                total.update(part)
    return total.hexdigest()
