"""Hydra parses a file once in a process: never an earlier version of it, and never what a caller made of it."""

import copy
from collections.abc import Sequence
from pathlib import Path

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from medseg.errors import InputError
from medseg.hydra_app import conf, explain
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import find_plugin_options


def options_of_mine(folder: Path, text: str) -> Path:
    """A folder with an option ``optimizer=mine``."""
    path = folder / "optimizer/mine.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder


def rate(folder: Path) -> float:
    return compose("train", ["optimizer=mine"], config_dir=folder).optimizer.lr


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    assert rate(options_of_mine(tmp_path, "defaults: [sgd]\nlr: 0.5\n")) == 0.5
    assert rate(options_of_mine(tmp_path, "defaults: [sgd]\nlr: 0.25\n")) == 0.25
    with pytest.raises(InputError, match="optimizer=sgdd is no option"):
        rate(options_of_mine(tmp_path, "defaults: [/optimizer: sgdd]\nlr: 0.25\n"))


def test_folders_do_not_share_files_of_the_same_name(tmp_path: Path) -> None:
    first = options_of_mine(tmp_path / "first", "lr: 0.5\n")
    second = options_of_mine(tmp_path / "second", "lr: 0.1\n")
    assert [rate(first), rate(second), rate(first)] == [0.5, 0.1, 0.5]


def test_a_configuration_belongs_to_its_caller() -> None:
    cfg = compose("train", ["data=nnunet", "data.root=x"])
    expected = OmegaConf.to_yaml(cfg)
    OmegaConf.set_struct(cfg, False)
    cfg.optimizer.lr = 7
    cfg.data.channels = None
    assert OmegaConf.to_yaml(compose("train", ["data=nnunet", "data.root=x"])) == expected


def test_the_store_is_shared_and_stays_as_it_is() -> None:
    compose("train", [])
    store = ConfigStore.instance()
    before = store.load("hydra/config.yaml").node
    assert copy.deepcopy(store) is store
    compose("train", ["hydra.job.name=other", "hydra/launcher=basic"])
    assert store.load("hydra/config.yaml").node == before
    assert OmegaConf.is_missing(before.job, "name")


def test_what_is_stored_later_is_seen(tmp_path: Path) -> None:
    find_plugin_options()
    (tmp_path / "main.yaml").write_text("defaults: [{net: stored}]")
    for width in (1, 2):
        ConfigStore.instance().store("stored", {"width": width}, group="net")
        with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
            assert hydra.compose("main", []) == {"net": {"width": width}}
    del ConfigStore.instance().repo["net"]


def test_a_list_of_defaults_may_name_a_choice(tmp_path: Path) -> None:
    find_plugin_options()
    for path, text in {
        "main": "defaults: [{net: small}, {net_of: '${net}'}]",
        "net/small": "width: 1", "net/large": "width: 2", "net_of/small": "depth: 3", "net_of/large": "depth: 4",
    }.items():  # fmt: skip
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / f"{path}.yaml").write_text(text)
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert hydra.compose("main", []) == {"net": {"width": 1}, "net_of": {"depth": 3}}
        assert hydra.compose("main", ["net=large"]) == {"net": {"width": 2}, "net_of": {"depth": 4}}


def test_keys_near_a_misspelt_one_come_from_the_composition_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[Sequence[str]] = []

    def counted(config_name: str, words: Sequence[str]) -> None:
        composed.append(words)
        raise AssertionError

    monkeypatch.setattr(explain, "composed", counted)
    for wrong, near in (
        ("trainer.max_epoch=3", "trainer.max_epochs"),
        ("experimnt=phantom", "experiment"),
        ("model.encoder.nme=resnet18", "model.encoder.name"),
    ):
        with pytest.raises(InputError, match=f"is no key of the configuration; did you mean {near}"):
            compose("train", ["model=encoder_decoder", wrong])
    assert composed == []
    assert conf.composed("train", []).seed == 0
