"""Presence of channels as further input of a network."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import medseg
from medseg import checkpoint
from medseg.data.preprocessing.normalise import Normalisation
from medseg.errors import InputError
from medseg.export import runner
from medseg.export.export import export
from medseg.factory.network import network
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.models.presence import PresenceIndicators
from medseg.planning.plan import Plan
from medseg.sample import Channel, DataSpec
from medseg.training.train import train
from tests.tiny import SMALL, write_nnunet


@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 5)])
def test_planes_say_which_channels_are_not_0(shape: tuple[int, ...]) -> None:
    image = torch.randn(3, 3, *shape)
    image[0, 1], image[1, 0], image[2] = 0, 0, 0
    image[2, 2].flatten()[-1] = 1e-20
    shown = PresenceIndicators(3, 3).shown(image)
    assert torch.equal(shown[:, :3], image)
    planes = shown[:, 3:].flatten(2)
    assert torch.equal(planes.amin(2), planes.amax(2))
    assert planes[..., 0].tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 1]]
    given = PresenceIndicators(3, 3)(torch.nn.Identity(), (shown,))
    assert given[0] is shown


def test_class_numbers_have_no_presence() -> None:
    image = torch.randn(1, 5, 4, 4)
    image[:, 0] = 0
    shown = PresenceIndicators(2, 5).shown(image)
    assert shown.shape[1] == 7
    assert shown[0, 5:, 0, 0].tolist() == [0, 1]


def test_a_spec_with_presence_is_stored_and_names_its_inputs() -> None:
    labels = LabelTable.declare({"background": 0, "lesion": 1})
    spec = DataSpec((Channel("T1"), Channel("before", classes=("lesion",))), labels, 3, presence=True)
    assert [c.name for c in spec.inputs] == ["T1", "before: lesion", "T1: present"]
    assert DataSpec.from_dict(spec.to_dict()) == spec
    plain = DataSpec(spec.channels, labels, 3)
    assert "presence" not in plain.to_dict()
    assert spec.of_files == plain.of_files
    with pytest.raises(InputError, match=r"spec\.presence"):
        DataSpec.from_dict(spec.to_dict() | {"presence": "yes"})


def test_a_network_with_presence_trains_predicts_and_is_exported(tmp_path: Path) -> None:
    root = write_nnunet(tmp_path / "data", n_cases=4, channels=["T1", "T2"])
    (root / "imagesTr/c1_0001.nii.gz").unlink()
    places = [f"data.root={root}", f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"]
    train(compose("train", [*SMALL, *places, "split.n_folds=2", "data.absent=allow", "presence=true"]))
    path = tmp_path / "run/checkpoints/last.ckpt"
    stored = checkpoint.read(path)
    assert stored.metadata.spec.presence
    predictor = medseg.load(path, device="cpu")
    first = next(weight for weight in predictor.network.parameters() if weight.ndim == 5)
    assert first.shape[1] == 4
    assert [channel.name for channel in predictor.spec.channels] == ["T1", "T2"]
    words = [f"checkpoint={path}", f"output={tmp_path}/out"]
    export(compose("export", words))
    parity = json.loads((tmp_path / "out/parity.json").read_text(encoding="utf-8"))["cases"]
    assert len(parity) == 2
    assert all(one["largest_difference"] < 1e-4 for one in parity)
    exported = runner.Predictor(tmp_path / "out")
    (_, files), *_ = runner.find_cases([root / "imagesTr"], exported.settings)
    case = runner.read_volume(files, exported.settings)
    assert np.isfinite(exported.index_and_prob(case)[1]).all()


@pytest.mark.parametrize("words", [["data=phantom_series"], ["method=mae"]])
def test_it_is_refused_where_it_has_no_meaning(words: list[str], tmp_path: Path) -> None:
    places = [f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run", "logger=csv", "presence=true"]
    with pytest.raises(InputError, match="presence=true: says which channels an image has, got"):
        train(compose("train", [*words, *places, "trainer.accelerator=cpu"]))


def test_presence_changes_what_a_network_gives() -> None:
    labels = LabelTable.declare({"background": 0, "lesion": 1})
    channels = (Channel("a"), Channel("b"))
    cfg = compose("train", ["model=unet", "model.base_features=4", "presence=true"])
    plan = Plan((1.0, 1.0), (16, 16), 2, ((3, 3), (3, 3)), ((1, 1), (2, 2)), (Normalisation("zscore"),) * 2, False)
    nets = [network(cfg.model, plan, DataSpec(channels, labels, 2, presence=on)) for on in (False, True)]
    assert [net.in_channels for net in nets] == [2, 4]
    image = torch.randn(1, 2, 16, 16)
    image[:, 1] = 0
    assert nets[1].eval()(image).shape == nets[0].eval()(image).shape
