"""Trainings with labels of several observers: from the command to scores, and resumed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from medseg import formats
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from medseg.training.train import train

SHAPE = (24, 32)
READERS = ("anna", "bert")


class Stop(Callback):
    """Dies like a killed process, in the middle of the second epoch."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 3:
            raise RuntimeError("killed")


def write(root: Path) -> Path:
    """The two observers differ in eight columns."""
    grid = Grid(SHAPE, np.eye(3), PIXEL)
    for folder in ("images", *READERS):
        (root / folder).mkdir(parents=True)
    for number in range(4):
        image = np.random.default_rng(number).normal(0, 0.1, (1, *SHAPE)) + np.where(np.arange(32) < 16, 1, -1)
        formats.write_image(root / f"images/c{number}.tif", image.astype(np.float32), grid, names=["B1"])
        for reader, last in zip(READERS, (12, 20), strict=True):
            formats.write(
                root / f"{reader}/c{number}.tif", np.tile(np.arange(32) < last, (24, 1)).astype(np.uint8), grid
            )
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("observers")
    write(root / "raw")
    return root


def words(root: Path, run: str, *own: str) -> list[str]:
    return [
        "data=rasters", f"data.root={root}/raw", "data.channels=[B1]", "data.labels={off: 0, on: 1}",
        "data.masks={anna: anna, bert: bert}", "split.val_cases=[c3]", "model=unet", "model.base_features=4",
        "plan.patch=[16,16]", "plan.batch_size=2", "transform=light", "logger=csv", "callback={}", "metric=overlap",
        "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.steps_per_epoch=2", "trainer.max_steps=4",
        "trainer.deterministic=true", "temperature_scaling=false", "plan.normalisation=[none]",
        f"cache_dir={root}/cache", f"run_dir={root}/{run}", *own,
    ]  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    held: dict[str, torch.Tensor] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return held


@pytest.mark.parametrize("rule", ["draw", "soft"])
def test_a_resumed_training_equals_an_uninterrupted_one(root: Path, rule: str) -> None:
    own = [f"data.annotations={rule}", "test=false"]
    run = train(compose("train", words(root, f"{rule}_whole", own[0])))
    whole = weights(run)
    stopped = [*own, "+callback.stop._target_=tests.training.test_observers.Stop"]
    with pytest.raises(RuntimeError, match="killed"):
        train(compose("train", words(root, f"{rule}_killed", *stopped)))
    resumed = weights(train(compose("train", words(root, f"{rule}_killed", *own, "ckpt_path=last"))))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    section = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["observers"]
    assert list(section["prediction"]) == list(READERS)
    assert section["agreement"]["dice"] == pytest.approx(0.75)  # 12 of 12 and 20 columns, of both classes
    assert "observers against each other" in (run / "report.html").read_text(encoding="utf-8")
