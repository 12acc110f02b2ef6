"""What a training and a plan say of the headers of a dataset, before they read its cases."""

from __future__ import annotations

import logging

from medseg.data.dataset import Dataset
from medseg.doctor.examine import fast

_LOG = logging.getLogger(__name__)

_SAID_LATER = ("sform and qform", "skewed axes", "memory", "sides", "footprint", "grid", "axes", "direction", "refused")
"""Checks of which the fingerprint, the plan, the start-up screen or the opening of the cases says the same."""


def warn_of_headers(dataset: Dataset) -> None:
    """Print one warning for each thing that is odd in the headers of all cases, with its fix.

    What a training refuses is left to the opening of the cases, which names all of them at once.
    """
    for finding in fast(dataset):
        if finding.severity != "note" and finding.check not in (*_SAID_LATER, "unreadable"):
            _LOG.warning("%s; %s", finding.message, finding.fix)
