"""What TensorBoard gets, read back from its files."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.viz.logged_images import Picture

pytest.importorskip("tensorboard")

from medseg.loggers.tensorboard_run import TensorBoardRun


def test_scalars_settings_and_pictures_are_there(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    ground = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    mask = np.zeros((6, 5), dtype=np.int64)
    picture = Picture(ground, "c0", {"label": mask}, {0: ("background", None)})
    run = TensorBoardRun(save_dir=str(tmp_path), metrics=["val/dice"])
    run.log_hyperparams({"seed": 3, "model": {"name": "UNet", "features": [4, 8], "norm": None}})
    run.log_metrics({"val/dice": 0.5}, step=7)
    run.log_pictures({"val/previews/c0": [picture], "test/pictures/c1": [picture, picture]}, 7)
    run.finalize("success")
    run.experiment.close()

    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    (event,) = read.Scalars("val/dice")
    assert (event.step, event.value) == (7, 0.5)
    assert read.Tags()["images"] == ["val/previews/c0", "test/pictures/c1/0", "test/pictures/c1/1"]
    (shown,) = read.Images("val/previews/c0")
    with Image.open(io.BytesIO(shown.encoded_image_string)) as stored:
        np.testing.assert_array_equal(np.array(stored), picture.side_by_side())
    content = HParamsPluginData.FromString(read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    told = dict(content.session_start_info.hparams.items())
    assert told["seed"].number_value == 3
    assert told["model.name"].string_value == "UNet"
    assert (told["model.features"].string_value, told["model.norm"].string_value) == ("[4, 8]", "None")
