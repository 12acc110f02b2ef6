"""Windows and cases -> Batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.data.sampling.patch_dataset import Window
from medseg.labels import IGNORE
from medseg.sample import Batch, Sample


def _dates(samples: Sequence[Sample]) -> tuple[Bool[Tensor, "b *lead"], Int[Tensor, "b t"] | None]:
    """Which channels are there, of time series on each date; and the days of these, None without a time axis."""
    if samples[0].days is None:
        return torch.from_numpy(np.stack([s.has for s in samples])), None
    present = np.stack([s.present for s in samples if s.present is not None])
    days = np.stack([s.days for s in samples if s.days is not None])
    return torch.from_numpy(present), torch.from_numpy(days)


def _facts(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Encoded facts and class of each case; nothing where cases have none."""
    of_cases = [s.facts for s in samples if s.facts is not None]
    if not of_cases:
        return {}
    stacked: dict[str, Tensor] = {}
    if of_cases[0].facts:
        stacked["facts"] = torch.from_numpy(np.stack([facts.encoded for facts in of_cases]))
    if of_cases[0].label is not None:
        stacked["case_label"] = torch.tensor([facts.label_index for facts in of_cases], dtype=torch.int64)
    return stacked


def collate_windows(windows: Sequence[Window], *, stream: str = "", labelled: bool = True) -> Batch:
    """Stack windows of one shape; labels stay as small as they were stored.

    Args:
        windows: Of one stream.
        stream: Its name; empty where a training has no streams.
        labelled: Whether its labels are read.
    """
    samples = [w.sample for w in windows]
    image = torch.from_numpy(np.stack([s.image for s in samples]))
    present, days = _dates(samples)
    return Batch(
        image=image,
        label=torch.from_numpy(np.stack([_label(s) for s in samples])),
        valid=torch.from_numpy(np.stack([s.valid for s in samples])),
        present=present,
        key=torch.tensor([w.key for w in windows], dtype=torch.int64),
        cases=tuple(s.case for s in samples),
        days=days,
        annotated=_annotated(samples),
        soft=_soft(samples),
        stream=stream,
        labelled=labelled,
        **_facts(samples),  # type: ignore[arg-type]
    )


def _soft(samples: Sequence[Sample]) -> Float[Tensor, "b n *s"] | None:
    """Soft labels; None where samples have none."""
    shares = [s.soft for s in samples if s.soft is not None]
    return torch.from_numpy(np.stack(shares)) if shares else None


def _annotated(samples: Sequence[Sample]) -> Bool[Tensor, "b k"] | None:
    """Which outputs each sample annotates; None where all annotate all of them."""
    partial = next((s.annotated for s in samples if s.annotated is not None), None)
    if partial is None:
        return None
    rows = [np.ones_like(partial) if s.annotated is None else s.annotated for s in samples]
    return torch.from_numpy(np.stack(rows))


def collate_case(samples: Sequence[Sample]) -> Batch:
    """One whole case as a batch of one; its key is (0, 0, 0), as nothing about it is random."""
    (sample,) = samples
    return collate_windows([Window(sample, (0, 0, 0))])


def _label(sample: Sample) -> np.ndarray:
    if sample.label is None:
        return np.full(sample.grid.shape, IGNORE, dtype=np.int16)
    return sample.label
