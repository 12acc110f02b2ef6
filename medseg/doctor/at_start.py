"""Warnings of a training and a plan about the headers of a dataset, before they read its cases."""

from __future__ import annotations

import logging

from medseg.data.dataset import Dataset
from medseg.doctor.examine import fast

_LOG = logging.getLogger(__name__)

_SAID_LATER = ("sform and qform", "skewed axes", "memory", "sides", "footprint", "grid", "axes", "direction", "refused")
"""Checks whose findings are reported by the fingerprint, the plan, the start-up screen or the opening of the cases."""


def warn_of_headers(dataset: Dataset) -> None:
    """Log one warning for each finding in the headers of all cases, with its fix.

    Errors are left to the opening of the cases, which reports all of them at once.
    """
    for finding in fast(dataset):
        if finding.severity != "note" and finding.check not in (*_SAID_LATER, "unreadable"):
            _LOG.warning("%s; %s", finding.message, finding.fix)
