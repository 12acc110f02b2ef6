"""A user's own yaml may name a class where an earlier version had it."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import medseg
from medseg.hydra_app.current import with_current_classes

OLD, NEW = "medseg.models.segresnet.SegResNet", "medseg.models.monai.segresnet.SegResNet"


def test_an_old_class_path_is_read_as_todays_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text(f"_target_: {OLD}\n_partial_: true\n")
    with pytest.warns(FutureWarning, match=rf"{OLD} is {NEW} now"):
        cfg = medseg.compose("train", "model=mine", config_dir=tmp_path)
    assert cfg.model._target_ == NEW
    assert cfg.data.name == "phantom_volumes"
    assert OmegaConf.is_struct(cfg)


def test_a_configuration_of_today_stays_the_same_object() -> None:
    cfg = medseg.compose("train")
    assert with_current_classes(cfg) is cfg


def test_interpolations_and_missing_values_stay(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"a": "${b}", "b": "???", "part": [{"_target_": OLD}], "series": 1})
    with pytest.warns(FutureWarning, match="now"):
        current = with_current_classes(cfg)
    assert OmegaConf.to_container(current) == {"a": "${b}", "b": "???", "part": [{"_target_": NEW}], "series": 1}
