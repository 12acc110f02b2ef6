"""What can be chosen, as the terminal and the page tell it: from conf/, and current."""

import re
from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.hydra_app import options
from medseg.hydra_app.conf import conf_dir
from medseg.metrics.registry import builtin
from scripts import write_choices

CONF = conf_dir()
GROUPS = options.groups("train", [CONF])
FILES = sorted(path for path in CONF.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_first_line_of_a_file_stands_by_itself(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    first, second = lines[:2]
    assert options.described(path) == first.removeprefix("# ").removesuffix(".")
    assert len(options.described(path)) >= 15
    if second.startswith("#"):
        assert first.endswith("."), "the sentence goes on in the second line, which no listing shows"


def test_every_group_and_every_option_is_listed() -> None:
    experiments = CONF / "experiment"  # its folders hold options, those of other groups are groups
    folders = {experiments if experiments in path.parents else path.parent for path in FILES} - {CONF}
    assert {CONF / group.name for group in GROUPS} == folders
    for group in GROUPS:
        paths = (path.relative_to(CONF) for path in FILES)
        there = {path.stem for path in paths if path.parent.as_posix() == group.name}
        if group.name == "experiment":
            there |= {f"regimes/{path.stem}" for path in (experiments / "regimes").glob("*.yaml")}
        assert set(group.options) == {name for name in there if not name.endswith(options.SHARED)}
        assert set(re.findall(r"\w+", group.default)) <= {*group.options, "null"}
        assert group.summary, f"conf/ does not describe {group.name} next to its entry in the defaults list"


def test_other_commands_have_the_groups_that_they_take() -> None:
    assert options.groups("plan", [CONF]) == GROUPS
    assert [group.name for group in options.groups("predict", [CONF])] == ["engine"]
    assert options.groups("export", [CONF]) == []


def test_options_in_folders_have_their_folder_in_their_name(tmp_path: Path) -> None:
    for name in ("experiment/a", "experiment/mine/b", "experiment/mine/c_defaults", "model/a", "model/encoder/b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text("# A file that is here to be listed.\n")
    assert set(options.option_files("experiment", [tmp_path])) == {"a", "mine/b"}
    assert set(options.option_files("model", [tmp_path])) == {"a"}
    assert options.option_files("model/encoder", [tmp_path]) == {"b": tmp_path / "model/encoder/b.yaml"}
    assert options.option_files("nothing", [tmp_path]) == {}


def test_listing_of_a_group_has_those_within_it(capsys: pytest.CaptureFixture[str]) -> None:
    options.show("train", "model", [CONF])
    shown = capsys.readouterr().out
    assert re.findall(r"(?m)^(\S+): ", shown) == ["model", "model/encoder", "model/encoder/fusion", "model/decoder"]
    assert "\n  unet               Plain U-Net whose stages" in shown
    assert "\x1b" not in shown
    with pytest.raises(
        InputError,
        match=r"--options modle: no such group of choices; expected one of: split, .*, data, .*, model, model/enc",
    ):
        options.show("train", "modle", [CONF])
    with pytest.raises(InputError, match=r"medseg-export has none"):
        options.show("export", None, [CONF])


def test_listing_folds_to_the_width() -> None:
    lines = options.listing(GROUPS, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) > len(options.listing(GROUPS).splitlines())


def test_options_of_the_user_are_listed_too(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss/mine.yaml").write_text("# Mine alone.\n_target_: mine.Loss\n")
    (loss,) = [group for group in options.groups("train", [CONF, tmp_path]) if group.name == "loss"]
    assert loss.options["mine"] == "Mine alone"
    assert "dice_ce" in loss.options


def test_table_of_the_readme_is_current() -> None:
    text, content = write_choices.PAGE.read_text(encoding="utf-8"), write_choices.choices()
    assert write_choices.filled(text, content) == text, "run python scripts/write_choices.py"
    for group in GROUPS:
        for name, told in group.options.items():
            assert f"| `{name}` | {told} |\n" in text
    assert write_choices.filled(text.replace("| `unet` |", "| `gone` |"), content) == text


def test_page_of_the_metrics_is_current() -> None:
    text, content = write_choices.METRICS.read_text(encoding="utf-8"), write_choices.metrics_table()
    assert write_choices.filled(text, content) == text, "run python scripts/write_choices.py"
    for name, cls in builtin().items():
        assert f"| `{name}` | {cls.title} | {cls.description} |" in content
    hd95 = "| mm, m or px | 0 to ∞ | smaller | diagonal of the case's grid | diagonal of the case's grid | no |"
    assert hd95 in content
