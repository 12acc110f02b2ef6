"""Words that leave a group of the configuration without an option, found before Hydra composes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from medseg.errors import InputError
from medseg.hydra_app.options import option_files

_WITHOUT = re.compile(r"(?P<group>[a-z]\w*(?:/\w+)*)=(null|None)?")
_MOST_NAMES = 10
"""Options that a message lists; of larger groups it names the command that lists them."""


def check_groups(words: Sequence[str], folders: Sequence[Path], config_name: str) -> None:
    """Raise if a word leaves a group without an option, such as ``logger=null``, for which Hydra has a traceback.

    Args:
        words: Words of the command.
        folders: Folders of the configuration; the first is that of the package.
        config_name: Command whose file lists the groups, without ``.yaml``.

    Raises:
        InputError: Names the options of the group.
    """
    for word in words:
        match = _WITHOUT.fullmatch(word)
        names = sorted(option_files(match["group"], folders)) if match else []
        if match is None or not names:
            continue
        optional = match["group"] in _optional_groups(folders[0] / f"{config_name}.yaml")
        listed = ", ".join(names)
        expected = f"expected one of: {listed}" if len(names) <= _MOST_NAMES else f"see --options {match['group']}"
        fix = "leave the word out for none" if optional else "this group can't be left out"
        raise InputError(f"{word}: got no option, {expected}; {fix}")


def _optional_groups(path: Path) -> Iterator[str]:
    """Groups for which a command's file lists null."""
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")).get("defaults", []):
        if isinstance(entry, dict):
            yield from (group for group, option in entry.items() if option is None)
