"""Batches of several streams: which of them have labels, and several as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from medseg.sample import Batch, StrongView


def labelled(batch: Batch | Mapping[str, Batch]) -> Batch:
    """The patches with labels of all streams, as one batch; the batch itself where there are no streams."""
    return batch if isinstance(batch, Batch) else joined([one for one in batch.values() if one.labelled])


def unlabelled(batch: Batch | Mapping[str, Batch]) -> list[Batch]:
    """The batches of the streams without labels."""
    return [] if isinstance(batch, Batch) else [one for one in batch.values() if not one.labelled]


def strong_view(weak: Batch) -> StrongView:
    """The second view of a batch.

    Raises:
        ValueError: It has none.
    """
    if weak.strong is None:
        raise ValueError(f"stream {weak.stream}: got one view, expected a strong one too")
    return weak.strong


def patches(batch: Batch | Mapping[str, Batch]) -> Batch:
    """The patches of all streams, as one batch; the batch itself where there are no streams."""
    return batch if isinstance(batch, Batch) else joined(list(batch.values()))


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of one shape one after another, as one batch; without second views, as their maps are of their own batch.

    Raises:
        ValueError: Something that only some of them have.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    values = {f.name: [getattr(one, f.name) for one in batches] for f in fields(Batch)}
    values["annotated"], values["soft"] = _annotated(batches), _soft(batches)
    together = {name: _joined(name, parts) for name, parts in values.items() if name not in ("stream", "labelled")}
    return replace(first, **{**together, "strong": None, "labelled": all(values["labelled"])})


def _annotated(batches: Sequence[Batch]) -> list[Tensor | None]:
    """What each batch annotates; all, where others annotate a part."""
    some = next((one.annotated for one in batches if one.annotated is not None), None)
    if some is None:
        return [None] * len(batches)
    return [some.new_ones(len(one.image), some.shape[1]) if one.annotated is None else one.annotated for one in batches]


def _soft(batches: Sequence[Batch]) -> list[Tensor | None]:
    """Soft labels of each batch; where others have some, one of hard labels has all of the share in one class."""
    some = next((one.soft for one in batches if one.soft is not None), None)
    if some is None:
        return [None] * len(batches)
    classes = torch.arange(some.shape[1], device=some.device).view(-1, *[1] * (some.ndim - 2))
    return [(one.label[:, None] == classes).to(some) if one.soft is None else one.soft for one in batches]


def _joined(name: str, parts: Sequence[Any]) -> Any:
    """One attribute of several batches."""
    if name == "strong" or all(part is None for part in parts):
        return None
    if all(isinstance(part, Tensor) for part in parts):
        return torch.cat(list(parts))
    if all(isinstance(part, tuple) for part in parts):
        return tuple(value for part in parts for value in part)
    raise ValueError(f"batches of several streams: some have {name}, and others have not")
