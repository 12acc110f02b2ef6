"""medseg-evaluate: scores of predicted label files against reference label files; no model needed."""

from __future__ import annotations

from medseg.evaluation.evaluate import evaluate
from medseg.hydra_app import app


def main() -> None:
    """The console script."""
    app.run("evaluate", evaluate)
