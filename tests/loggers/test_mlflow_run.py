"""What MLflow gets, read back from its files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.viz.logged_images import Picture

pytest.importorskip("mlflow")

from medseg.loggers.mlflow_run import MlflowRun


@pytest.mark.slow  # MLflow brings a new database through all its migrations
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the database's mapper
def test_scalars_settings_tags_and_pictures_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ground = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    picture = Picture(ground, "c0")
    run = MlflowRun(
        tracking_uri="sqlite:///runs/mlflow.db", experiment_name="medseg", run_name="one", tags={"group": "g"}
    )
    run.log_hyperparams({"seed": 3, "model": {"name": "UNet"}})
    run.log_metrics({"val/dice": 0.5, "val/dice/organ": 0.25}, step=7)
    run.log_pictures({"val/previews/c0": [picture]}, 7)
    run.finalize("success")

    stored = run.experiment.get_run(run.run_id)
    assert (stored.info.run_name, stored.info.status, stored.data.tags["group"]) == ("one", "FINISHED", "g")
    assert stored.data.params == {"seed": "3", "model/name": "UNet"}
    assert stored.data.metrics == {"val/dice": 0.5, "val/dice/organ": 0.25}
    shown = list((tmp_path / "runs/mlartifacts").rglob("images/*.png"))
    assert len(shown) == 1
    with Image.open(shown[0]) as image:
        np.testing.assert_array_equal(np.array(image), ground)
