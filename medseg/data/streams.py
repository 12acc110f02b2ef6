"""Streams: parts of a training that draw patches of their own, next to the main one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.data.case import Case
from medseg.data.reading.open_case import CaseReader
from medseg.data.sampling.case_samplers import Sampling
from medseg.errors import InputError

MAIN = "main"
"""Name of the batches that a training without further streams has."""


@dataclass(frozen=True)
class Stream:
    """Where the patches of one part of a training come from, and how they are drawn and changed.

    All streams share preprocessing, patch, channels and store of the training.

    Attributes:
        cases: Cases to draw patches from; without their labels where the stream is unlabelled.
        open: Opens and checks one case.
        reading: Settings that decide the result of ``open``, in addition to the files; JSON-able.
        sampling: How patches are drawn.
        transform: Augmentation of a batch of windows into a batch of patches; has ``window_shape``.
        labelled: Whether its labels are read.
        rate: Samples for each sample of the main stream, above 0.
    """

    cases: tuple[Case, ...]
    open: Callable[[Case], CaseReader]
    reading: Mapping[str, Any]
    sampling: Sampling
    transform: Any
    labelled: bool = True
    rate: float = 1.0


def samples_at(rate: float, batch_size: int, name: str) -> int:
    """Samples of a stream in a batch, of which the main stream has ``batch_size``.

    Raises:
        InputError: There would be none.

    Example:
        >>> samples_at(0.5, 4, "unlabelled")
        2
    """
    samples = round(rate * batch_size)
    if samples < 1:
        raise InputError(
            f"streams.{name}.rate={rate:g}: gives no sample in a batch of {batch_size}, expected "
            f"{0.5 / batch_size:g} or more; raise it, or plan.batch_size"
        )
    return samples


def stream_seed(seed: int, name: str) -> int:
    """Seed of a stream: a function of that of the training and the stream's name, whatever other streams there are.

    The main stream has the seed of the training itself.

    Example:
        >>> stream_seed(0, MAIN), stream_seed(0, "unlabelled") == stream_seed(0, "target")
        (0, False)
    """
    if name == MAIN:
        return seed
    words = np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))  # keys of samples are int64
