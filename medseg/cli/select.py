"""medseg-select: ensemble members, mirrors and post-processing, chosen on out-of-fold predictions."""

from __future__ import annotations

from medseg.hydra_app import app
from medseg.selection.select import select


def main() -> None:
    """The console script."""
    app.run("select", select)
