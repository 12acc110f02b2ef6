"""Words of earlier versions end with a line that names today's."""

import pytest

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
        ("method=mae method.share=0.6", "method.share is called method.mask_ratio now"),
        ("method=spark method.block=8", "method.block is called method.mask_patch_size now"),
        ("series=mean", "series is called temporal now"),
        ("series.pool.heads=4", "series.pool.heads is called temporal.pool.heads now"),
    ],
)
def test_an_old_word_is_answered_by_todays(word: str, line: str) -> None:
    with pytest.raises(medseg.InputError) as caught:
        medseg.compose("train", *word.split())
    assert str(caught.value) == line


def test_a_command_that_has_not_the_new_word_does_not_name_it() -> None:
    with pytest.raises(medseg.InputError, match=r"^series is no key of the configuration; did you mean data\.series"):
        medseg.compose("predict", "series=1.2.3")


def test_every_replacement_exists() -> None:
    for new in retired.OPTIONS.values():
        group, _, option = new.partition("=")
        assert (conf_dir() / group / f"{option}.yaml").is_file()
    for old, new in retired.GROUPS.items():
        assert (conf_dir() / new).is_dir()
        assert not (conf_dir() / old).exists()


def test_every_new_key_exists() -> None:
    config = medseg.compose("train", "method=mae")
    for old, new in moved.KEYS.items():
        group, _, key = new.partition(".")
        assert key in config[group]
        assert old.partition(".")[2] not in config[group]


def test_configurations_of_files_know_the_same_groups() -> None:
    assert moved.GROUPS == retired.GROUPS
