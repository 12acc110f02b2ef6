"""medseg-export: the whole predictor of a checkpoint as a folder that runs without this package."""

from __future__ import annotations

from medseg.export.export import export
from medseg.hydra_app import app


def main() -> None:
    """The console script."""
    app.run("export", export)
