"""Commands that a page of Markdown shows, so that whatever runs them takes them from the page.

python scripts/page_commands.py docs/tutorials/volumes.md

prints those that are to be run one after the other, one a line: the fenced blocks marked ``sh``. Blocks marked
``text`` or ``python`` hold no commands; in all others, each line is one.
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHOWN_AS = re.compile(r"(medseg-\w+|python scripts/|bash scripts/|sbatch |torchrun |make |pip install |wandb )")
"""How a span of code begins that is a command and not a key, a name or a file."""


@dataclass(frozen=True)
class Command:
    """One command of a page.

    Attributes:
        text: In one line, without the comment behind it.
        line: Number of its first line.
        path: Whether it belongs to a block marked ``sh``, which is to be run as it stands.
    """

    text: str
    line: int
    path: bool = False


def commands(page: str) -> Iterator[Command]:
    """All commands of a page in their order, those of fenced blocks and those in spans of code."""
    fence, pending, began = None, "", 0
    lines = page.splitlines()
    for number, line in enumerate(lines, start=1):
        marker = re.match(r"```+ *(\{?\w*)", line)
        if marker:
            fence = None if fence is not None else marker[1]
            continue
        if fence is None:
            continue
        if fence in ("text", "python", "yaml", "toml") or (fence is not None and fence.startswith("{")):
            continue
        pending, began = f"{pending} {line.strip()}".strip(), began or number
        if pending.endswith("\\"):
            pending = pending[:-1].rstrip()
            continue
        if text := split_comment(pending)[0]:
            yield Command(text, began, path=fence == "sh")
        pending, began = "", 0
    yield from _spans(lines)


def split_comment(text: str) -> tuple[str, str]:
    """A line without its comment, and the comment; ``#`` within quotes begins none.

    Example:
        >>> split_comment("'a # b'  # c")
        ("'a # b'", 'c')
    """
    quote = ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and (place == 0 or text[place - 1].isspace()):
            return text[:place].strip(), text[place + 1 :].strip()
    return text.strip(), ""


def _spans(lines: list[str]) -> Iterator[Command]:
    """Commands between backquotes, also where they run over the end of a line; tables cell by cell."""
    fenced, paragraph, began = False, "", 0
    for number, line in enumerate([*lines, ""], start=1):
        marker = line.startswith("```")
        fenced ^= marker
        if fenced or marker or not line.strip() or line[0] in "#|":
            yield from _in_paragraph(paragraph, began)
            paragraph, began = "", 0
            if not (fenced or marker):
                yield from _in_paragraph(line, number)
            continue
        paragraph, began = f"{paragraph} {line.strip()}".strip(), began or number


def _in_paragraph(text: str, line: int) -> Iterator[Command]:
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text):
        if SHOWN_AS.match(span):
            yield Command(span.replace("\\|", "|"), line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    given = parser.parse_args()
    found = [c.text for c in commands(given.page.read_text(encoding="utf-8")) if c.path]
    if not found:
        parser.error(f"{given.page} has no block marked sh")
    print("\n".join(found))


if __name__ == "__main__":
    main()
