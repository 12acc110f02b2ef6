"""A training that goes on from a folder of nnU-Net's results."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medseg import checkpoint
from medseg.cli import train as command
from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.training.train import train
from tests import nnunet_files, tiny
from tests.nnunet_files import PLAIN, RESIDUAL, Shape

MODEL = ["model.base_features=4", "model.max_features=8"]
SMALL = [word for word in tiny.SMALL if not word.startswith(("plan.", "model.", "trainer.max_steps"))]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_nnunet(tmp_path_factory.mktemp("raw") / "Dataset004_Hippocampus")


def continued(tmp_path: Path, data: Path, shape: Shape, *overrides: str) -> Path:
    folder = nnunet_files.write_model(tmp_path, shape, spacing=[1.0, 1.0, 1.0], patch_size=[8, 8, 8])
    own = [
        f"data.root={data}", f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run", "trainer.max_steps=1",
        "optimizer.lr=0", "test=false", f"plan.file={folder}", f"weights={folder}/fold_0/checkpoint_final.pth",
    ]  # fmt: skip
    return train(compose("train", [*SMALL, *MODEL, *own, *overrides]))


def test_all_tensors_are_in_the_network_and_the_plan_is_that_of_nnunet(tmp_path: Path, data: Path) -> None:
    run = continued(tmp_path, data, PLAIN)
    stored = checkpoint.read(run / "checkpoints/last.ckpt")
    report = stored.metadata.provenance["weights"]
    assert report["share"] == 1.0
    assert not report["warnings"]
    theirs = nnunet_files.state_of(PLAIN)["encoder.stages.0.0.convs.0.conv.weight"]
    assert torch.equal(stored.network_state["encoder.0.0.0.weight"], theirs.permute(0, 1, 4, 3, 2))
    assert stored.metadata.plan.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 2))
    assert "nnUNetTrainer__nnUNetPlans__3d_fullres" in (run / "plan.yaml").read_text()


def test_other_classes(tmp_path: Path, data: Path) -> None:
    shape = replace(RESIDUAL, classes=9)
    words = ["model=residual_unet", "model.encoder_blocks=[1,3,4]"]
    report = checkpoint.read(continued(tmp_path, data, shape, *words) / "checkpoints/last.ckpt").metadata.provenance[
        "weights"
    ]
    assert {row["name"] for row in report["rows"] if row["how"] == "random"} == {
        f"heads.{i}.{leaf}" for i in range(2) for leaf in ("weight", "bias")
    }
    assert 0.9 < report["share"] < 1


def test_another_geometry_is_refused_before_a_case_is_read(tmp_path: Path, data: Path) -> None:
    with pytest.raises(
        InputError, match=r"weights=.*checkpoint_final.pth: is nnU-Net's U-Net of another shape: .*; set m"
    ):
        continued(tmp_path, data, replace(PLAIN, features=(6, 12, 12)))
    assert not (tmp_path / "cache").exists()


def test_the_command_says_it_in_one_line(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["medseg-train", "data=nnunet", f"data.root={data}", f"plan.file={data}"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "this folder holds no plans.json" in lines[0]
    assert json.loads((data / "dataset.json").read_text())  # a folder of data, not of results
