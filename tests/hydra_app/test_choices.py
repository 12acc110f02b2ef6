"""Options are called what the command line calls them, however the configuration was composed."""

import pytest
from omegaconf import OmegaConf

from medseg.hydra_app.choices import network_name, option_name
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir
from tests.running import running

OPTIONS = [
    (group, path.stem)
    for group in ("model", "finetuning", "temporal", "loss", "optimizer", "scheduler")
    for path in sorted((conf_dir() / group).glob("*.yaml"))
]


@pytest.mark.parametrize("group, option", OPTIONS)
def test_every_option_is_recognised_without_hydra(group: str, option: str) -> None:
    part = OmegaConf.load(conf_dir() / group / f"{option}.yaml")
    if "defaults" in part:
        part = compose("train", [f"{group}={option}"])[group]
    assert option_name(group, part) == option


def test_settings_of_ones_own_leave_the_option() -> None:
    model = compose("train", ["model=smp_unet", "model.decoder_channels=[64,32,16,8,8]"]).model
    assert network_name(model) == "smp_unet"
    assert network_name(OmegaConf.to_container(model)) == "smp_unet", "as a checkpoint holds it"


@pytest.mark.parametrize(
    "words, name",
    [
        (["model.encoder.name=vit_tiny_patch16_224", "model/decoder=unet"], "timm/vit_tiny_patch16_224 + unet"),
        (["model/encoder=monai_resnet"], "monai_resnet + linear"),
        (["model/encoder=inflated", "model.encoder.of.name=resnet18"], "inflated timm/resnet18 + linear"),
        (["model/decoder=smp"], "timm/resnet34 + smp/Unet"),
    ],
)
def test_an_encoder_and_a_decoder_are_named_together(words: list[str], name: str) -> None:
    assert network_name(compose("train", ["model=encoder_decoder", *words]).model) == name


def test_a_class_of_ones_own_is_named() -> None:
    assert option_name("model", {"_target_": "mine.nets.Net", "width": 3}) == "Net"


def test_in_a_command_it_is_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = running(monkeypatch, "model=unet", "model.base_features=16")
    assert network_name(cfg.model) == "unet", "though unet_small has the same settings"


def test_a_configuration_that_is_not_the_commands_own_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch, "model=unet")
    assert network_name(compose("train", ["model=segresnet"]).model) == "segresnet", "as in a sweep or a rerun"
    assert network_name(compose("train", ["model=unet_small"]).model) == "unet_small"
