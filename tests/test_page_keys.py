"""Keys that pages name in running text, such as ``split.fold=all``, are keys of the configuration."""

import re
from pathlib import Path

import pytest

from medseg.hydra_app import options
from medseg.hydra_app.conf import conf_dir
from tests.pages import PAGES
from tests.prepared import script

write_keys = script("write_keys")
GROUPS = {group.name for group in options.groups("train", [conf_dir()])}
PARTS = {f"{name.replace('/', '.')}.": conf_dir() / name for name in GROUPS}
ASSIGNED = re.compile(r"'?([a-z]\w*(?:[./]\w+)*)=.*", re.DOTALL)
RETIRED = ("docs/reference/commands.md", "docs/benchmarks/index.md")
"""Pages that show words of earlier versions too, or are records of runs."""


def keys_of(path: Path, prefix: str = "") -> set[str]:
    """Every key of a file, those too that only hold others."""
    text = path.read_text(encoding="utf-8")
    names = [(write_keys.package(text) or prefix) + key.name for key in write_keys.keys(text, every=True)]
    return {name[: place.start()] for name in names for place in re.finditer(r"\.|$", name)}


KNOWN = GROUPS | {key for command in write_keys.COMMANDS for key in keys_of(conf_dir() / f"{command}.yaml")}
for prefix, folder in PARTS.items():
    KNOWN |= {key for path in folder.glob("*.yaml") for key in keys_of(path, prefix)}


def assigned(text: str) -> list[str]:
    """Keys that the spans of code of a page set; blocks are commands, which other tests run."""
    without_blocks = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", without_blocks)
    spans = [span for span in spans if span != "key=value" and not re.match(r"[\w.]+\(", span)]  # calls of Python
    words = [word for span in spans for word in re.split(r"\s+(?=(?:[^'\"]*['\"][^'\"]*['\"])*[^'\"]*$)", span)]
    return [match[1] for word in words if (match := ASSIGNED.fullmatch(word))]


@pytest.mark.parametrize("page", [page for page in PAGES if page not in RETIRED])
def test_keys_of_a_page_are_keys_of_the_configuration(page: str) -> None:
    assert sorted(set(assigned(PAGES[page])) - KNOWN) == []


def test_an_unknown_key_is_found() -> None:
    text = (
        "`trainer.max_step=3` and `'data.labels={a: 1, b: 2}' plan.patch=[1,1]`\n```\nx.y=3\n```\n`model/encoder=timm`"
    )
    assert assigned(text) == ["trainer.max_step", "data.labels", "plan.patch", "model/encoder"]
    assert set(assigned(text)) - KNOWN == {"trainer.max_step"}
