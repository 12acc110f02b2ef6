"""Words of earlier versions end with a line that names today's."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import medseg
from medseg.hydra_app import retired
from medseg.hydra_app.conf import conf_dir
from medseg.runtime import moved


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("model=segmenter", "model=segmenter is called model=encoder_decoder now"),
        ("peft=lora", "peft is called finetuning now"),
        ("peft.rank=4", "peft.rank is called finetuning.rank now"),
        ("finetuning.rate=0.1", "finetuning.rate is called finetuning.encoder_lr_scale now"),
        ("peft.thaw=0.1", "peft.thaw is called finetuning.gradual_unfreeze now"),
        ("series=mean", "series is called temporal now"),
        ("series.pool.heads=4", "series.pool.heads is called temporal.pool.heads now"),
        ("callbacks.ema.decay=0.9", "callbacks.ema.decay is called callback.ema.decay now"),
        ("callbacks={}", "callbacks is called callback now"),
        ("data.fold=1", "data.fold is called split.fold now"),
        ("+data.fold=1", "data.fold is called split.fold now"),
        ("++data.workers=2", "data.workers is called loader.workers now"),
        ("data.blocks.size=64", "data.blocks.size is called split.blocks.size now"),
        ("data.blocks={size:64}", "data.blocks is called split.blocks now"),
        ("data.steps=100", "data.steps is called trainer.max_steps now"),
        ("data.strategy=area", "data.strategy=area is called sampling=area now"),
        ("++data.strategy=area", "data.strategy=area is called sampling=area now"),
        ("data.strategy=mine", "data.strategy is called sampling now"),
        ("data.foreground_share=0.5", "data.foreground_share is called sampling.foreground_fraction now"),
        ("data.dataset.root=x", "data.dataset.root is called data.root now"),
    ],
)
def test_an_old_word_is_answered_by_todays(word: str, line: str) -> None:
    with pytest.raises(medseg.InputError) as caught:
        medseg.compose("train", word)
    assert str(caught.value) == line


@pytest.mark.parametrize("command", ["check", "plan"])
def test_every_command_with_the_new_word_answers(command: str) -> None:
    with pytest.raises(medseg.InputError, match=r"^data\.fold is called split\.fold now$"):
        medseg.compose(command, "data.fold=1")


def test_an_old_key_of_an_option_is_answered_by_todays() -> None:
    with pytest.raises(medseg.InputError, match=r"^method\.share is called method\.mask_ratio now$"):
        medseg.compose("train", "method=mae", "method.share=0.6")


def test_a_command_that_has_not_the_new_word_does_not_name_it() -> None:
    with pytest.raises(medseg.InputError, match=r"^series is no key of the configuration; did you mean data\.series"):
        medseg.compose("predict", "series=1.2.3")
    with pytest.raises(medseg.InputError, match=r"^data\.fold is no key of the configuration"):
        medseg.compose("predict", "data.fold=1")
    medseg.compose("predict", "data.series=1.2.3")


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("data: {fold: 1}", "data.fold is called split.fold now"),
        ("data: {strategy: area}", "data.strategy=area is called sampling=area now"),
        ("data: {steps: null}", "data.steps is called trainer.max_steps now"),
        ("callbacks: {ema: {decay: 0.9}}", "callbacks is called callback now"),
        ("peft: {rank: 2}", "peft is called finetuning now"),
    ],
)
def test_an_old_key_in_an_experiment_of_the_user_is_found_in_its_file(tmp_path: Path, body: str, line: str) -> None:
    path = written(tmp_path, "experiment/mine", f"# @package _global_\n{body}\n")
    with pytest.raises(medseg.InputError) as caught:
        medseg.compose("train", "experiment=mine", config_dir=tmp_path)
    assert str(caught.value) == f"{path}: {line}"


def test_an_old_choice_in_an_experiment_of_the_user_is_answered(tmp_path: Path) -> None:
    written(tmp_path, "experiment/mine", "# @package _global_\ndefaults:\n  - override /callbacks: default\n")
    with pytest.raises(medseg.InputError, match="callbacks is called callback now"):
        medseg.compose("train", "experiment=mine", config_dir=tmp_path)


def test_a_dataset_of_the_user_as_it_was_written_before_is_answered(tmp_path: Path) -> None:
    path = written(tmp_path, "data/mine", "name: mine\ndataset: {_target_: my.Data, root: x}\n")
    with pytest.raises(medseg.InputError, match=r"data\.dataset: .* stand directly under data now") as caught:
        medseg.compose("train", "data=mine", config_dir=tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


def test_an_argument_of_the_users_own_dataset_may_be_called_like_an_old_key(tmp_path: Path) -> None:
    written(tmp_path, "data/mine", "_target_: my.Data\nname: mine\nfold: 3\nsteps: 2\ndataset: {_target_: my.Other}\n")
    assert medseg.compose("train", "data=mine", config_dir=tmp_path).data.fold == 3


def test_every_replacement_exists() -> None:
    for new in retired.OPTIONS.values():
        group, _, option = new.partition("=")
        assert (conf_dir() / group / f"{option}.yaml").is_file()
    for old, new in moved.GROUPS.items():
        assert (conf_dir() / new).is_dir()
        assert not (conf_dir() / old).exists()


def test_every_new_key_exists() -> None:
    config = medseg.compose("train", "method=mae")
    for old, new in moved.KEYS.items():
        group, _, key = new.partition(".")
        assert key in config[group]
        assert old.partition(".")[2] not in config[group]


def test_every_new_place_of_a_key_of_data_exists() -> None:
    config = medseg.compose("train", "sampling=class")
    for old, new in moved.DATA_KEYS.items():
        assert OmegaConf.select(config, new.rpartition(".")[0] or new) is not None, f"{old} -> {new}"
        assert new.rpartition(".")[2] in config[new.partition(".")[0]] or "." not in new, f"{old} -> {new}"
