"""Words that leave a group without an option are one line that lists the options."""

from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir
from medseg.hydra_app.groups import check_groups


@pytest.mark.parametrize("word", ["logger=null", "logger=", "logger=None"])
def test_a_group_that_needs_an_option(word: str) -> None:
    with pytest.raises(InputError, match="one of: csv, mlflow, tensorboard, wandb; this group can't be left out"):
        check_groups(["seed=1", word], [conf_dir()], "train")


def test_a_group_that_may_have_none() -> None:
    with pytest.raises(
        InputError, match=r"sweep=null: got no option, expected one of: .*; leave the word out for none"
    ):
        check_groups(["sweep=null"], [conf_dir()], "train")
    with pytest.raises(InputError, match="experiment=null: got no option, see --options experiment"):
        check_groups(["experiment=null"], [conf_dir()], "train")


@pytest.mark.parametrize(
    "word",
    ["monitor=null", "plan.patch=null", "logger=csv", "~logger", "~data.sensor", "-m", "name=", "model/encoder=timm"],
)
def test_other_words_are_not_looked_at(word: str) -> None:
    check_groups([word], [conf_dir()], "train")


def test_options_of_other_folders_count(tmp_path: Path) -> None:
    (tmp_path / "logger").mkdir()
    (tmp_path / "logger/mine.yaml").write_text("a: 1\n")
    with pytest.raises(InputError, match="csv, mine, mlflow"):
        check_groups(["logger=null"], [conf_dir(), tmp_path], "train")


def test_files_of_shared_keys_are_no_options() -> None:
    with pytest.raises(
        InputError, match="sampling=null: got no option, expected one of: area, case, class, group, weighted;"
    ):
        compose("train", ["sampling=null"])
