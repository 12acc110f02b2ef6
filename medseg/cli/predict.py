"""medseg-predict: label files for new images, on the very grid of each."""

from __future__ import annotations

from medseg.hydra_app import app
from medseg.prediction.predict import predict


def main() -> None:
    """The console script."""
    app.run("predict", predict)
