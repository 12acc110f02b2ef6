"""Mappings that are open to any name are set as ``--help`` shows them."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir

EMPTY = re.compile(r"^( *)(\w+): *\{\}", re.MULTILINE)


def open_keys() -> list[tuple[str, str]]:
    """(choice of an option, dotted key) of every ``key: {}`` in a group of ``conf/``."""
    found = []
    for path in sorted([*conf_dir().glob("*/*.yaml"), *conf_dir().glob("loss/term/*.yaml")]):
        group, is_term = path.parent.name, path.parent.name == "term"
        choice = f"loss/term=[{path.stem}]" if is_term else f"{group}={path.stem}"
        above: dict[int, str] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"^( *)(\w+):", line):
                depth = len(match[1])
                above = {d: n for d, n in above.items() if d < depth} | {depth: match[2]}
                if EMPTY.match(line):
                    found.append((choice, ".".join(["loss" if is_term else group, *above.values()])))
    return found


def test_there_are_open_keys() -> None:
    assert ("loss/term=[cross_entropy]", "loss.terms.cross_entropy.class_weights") in open_keys()


@pytest.mark.parametrize(("choice", "key"), open_keys())
def test_every_open_mapping_takes_names(choice: str, key: str) -> None:
    for words in ([f"{key}={{anterior: 2, b: 3}}"], [f"{key}.anterior=2", f"{key}.b=3"]):
        cfg = compose("train", [choice, *words])
        assert OmegaConf.select(cfg, key) == {"anterior": 2, "b": 3}


def test_an_open_mapping_of_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("_target_: mine.Net\nextra: {}\n")
    cfg = compose("train", ["model=mine", "model.extra={a: 1}"], config_dir=tmp_path)
    assert cfg.model.extra == {"a": 1}


@pytest.mark.parametrize("word", ["plan={pach: [8, 8]}", "plan.pach=[8,8]", "plan.pach={a: 8}"])
def test_other_mappings_stay_closed(word: str) -> None:
    with pytest.raises(InputError, match=r"plan\.pach is no key of the configuration; did you mean plan\.patch"):
        compose("train", [word])


@pytest.mark.parametrize(
    ("key", "source"), [("model.num_classes=2", "data.labels"), ("model.in_channels=3", "data.cha")]
)
def test_what_comes_from_the_data_is_said(key: str, source: str) -> None:
    with pytest.raises(InputError, match=f"is no key of the configuration: it is derived from {source}"):
        compose("train", [key])
