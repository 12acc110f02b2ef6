"""What a configuration is built into."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset, store_dir
from medseg.factory.network import network
from medseg.factory.plan import build_plan
from medseg.factory.run import assemble
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir
from medseg.labels import LabelTable
from medseg.planning.plan import Plan
from medseg.sample import Channel, DataSpec
from tests.factory.test_initial_weights import SCENES


class Bare(Dataset):
    """A dataset whose author knows nothing of how files are read."""

    name = "bare"

    def __init__(self, size: int) -> None:
        self.size = size

    @property
    def spec(self) -> DataSpec:
        return DataSpec((Channel("c"),), LabelTable.declare({"background": 0, "b": 1}), 2)

    def cases(self) -> list[Case]:
        return []


class Own(Bare):
    """One that takes it."""

    def __init__(self, size: int, reading: ReadOptions) -> None:
        super().__init__(size)
        self.given = self.reading = reading


class Loose(Bare):
    """One that takes anything."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(settings["size"])
        self.given = self.reading = settings["reading"]


def configured(kind: type, **settings: Any) -> DictConfig:
    """``data: {defaults: [raster_defaults, _self_], _target_: kind, ...}``."""
    cfg = compose("train", ["data=phantom_scenes", "data.nodata=7"])
    shared = {
        key: cfg.data[key] for key in OmegaConf.load(conf_dir() / "data/raster_defaults.yaml") if key != "defaults"
    }
    with open_dict(cfg):
        cfg.data = {**shared, "_target_": f"{__name__}.{kind.__name__}", "name": "own", "size": 3, **settings}
    return cfg


@pytest.mark.parametrize("kind", [Bare, Own, Loose])
def test_how_files_are_read_reaches_every_dataset(kind: type) -> None:
    built = build_dataset(configured(kind))
    assert isinstance(built, kind)
    assert (built.size, built.reading.nodata) == (3, 7)  # type: ignore[attr-defined]


def test_a_setting_that_a_dataset_does_not_take_is_refused() -> None:
    with pytest.raises(InputError, match=r"^data\.depth is no setting of \S+Bare, which takes size$"):
        build_dataset(configured(Bare, depth=2))
    with pytest.raises(InputError, match=r"^data\.fold is called split\.fold now$"):
        build_dataset(configured(Bare, fold=2))
    assert build_dataset(configured(Loose, fold=2)).reading.nodata == 7, "a class that takes anything is given it"


def test_a_run_in_a_folder_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a notebook: nothing of Lightning's start-up is said."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.INFO)
    own = [f"data.root={tmp_path}/raw", f"cache_dir={tmp_path}/cache", "run_dir=elsewhere", "plan.patch=[32,32]"]
    run = assemble(compose("train", [*SCENES, *own]), str(tmp_path / "run"))
    assert run.trainer.default_root_dir == str(tmp_path / "run")
    assert np.prod(run.plan.patch) == 32 * 32
    assert logging.getLogger("lightning.pytorch.utilities.rank_zero").level == logging.INFO, "as it was"
    assert "TPU" not in "".join(capsys.readouterr())


def test_settings_of_a_part_are_named_where_they_stand() -> None:
    model = OmegaConf.create(
        {
            "_target_": "medseg.models.encoder_decoder.EncoderDecoder",
            "_partial_": True,
            "encoder": {
                "_target_": "medseg.models.timm.encoder.Timm",
                "_partial_": True,
                "name": "test_resnet",
                "size": "b",
            },
            "decoder": {"_target_": "medseg.models.decoders.linear.Linear", "_partial_": True},
        }
    )
    plan = Plan((1.0, 1.0), (32, 32), 2, kernels=(), strides=(), normalisation=(), masked=False)
    with pytest.raises(
        InputError, match=r"^model\.encoder\.size is no setting of medseg\.models\.timm\.encoder\.Timm; "
    ):
        network(model, plan, Bare(1).spec)


@pytest.mark.parametrize("how, known", [("quick", True), ("full", False)])
def test_files_are_read_again_where_that_is_asked_for(how: str, known: bool, tmp_path: Path) -> None:
    cfg = compose("train", [*SCENES, f"data.root={tmp_path}/raw", f"cache_dir={tmp_path}/cache", f"verify_files={how}"])
    source = build_dataset(cfg)
    record = store_dir(cfg, source) / "digests.json"
    build_plan(cfg, source, source.cases())
    record.write_text('{"a file of before": "0"}')
    build_plan(cfg, source, source.cases())
    assert (record.exists() and "a file of before" in record.read_text(encoding="utf-8")) is known
