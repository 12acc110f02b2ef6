"""Links and pictures of what people read: each leads to something that is there."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

from medseg.report.comparison import write_comparison
from medseg.report.html import write_report
from tests.pages import PAGES

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "notebooks").glob("*.ipynb")),
        *(ROOT / page for page in PAGES if page.startswith("docs/")),
    )
]
_MARKDOWN = MarkdownIt("commonmark").enable("table")  # with HTML in it
_HEADINGS = {f"h{level}" for level in range(1, 7)}
_A_FILE = re.compile(r"[\w<>./-]+/[\w<>*.-]+\.(?:py|sh|yaml|toml|ipynb)|\w+\.ipynb")
_OF_THE_READER = (
    "data/dishes.yaml",
    "runs/",
    "mine/",
    "my_lab/",
    "conf/model/plain.yaml",
)  # written by commands, notebooks, examples
_A_HOST = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}")


@dataclass
class Page(HTMLParser):
    """What a page of HTML points at, and what can be pointed at in it."""

    source: str
    targets: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    silent: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.inside: dict[str, str] = {}
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.targets += [told[key] or "" for key in ("href", "src") if key in told]
        self.anchors |= {told[key] or "" for key in ("id", "name") if key in told}
        if tag == "img" and not told.get("alt"):
            self.silent.append(told.get("src") or "")
        if tag in _HEADINGS | {"code"}:
            self.inside[tag] = ""

    def handle_data(self, data: str) -> None:
        self.inside = {tag: text + data for tag, text in self.inside.items()}

    def handle_endtag(self, tag: str) -> None:
        text = self.inside.pop(tag, None)
        if text is not None and tag == "code":
            self.code.append(text)
        elif text is not None:
            name = slug(text)
            taken = {f"{name}-{n}" for n in range(1, 100)} - self.anchors
            self.anchors.add(min(taken) if name in self.anchors else name)


def slug(heading: str) -> str:
    """Anchor that a code host gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@cache
def read(path: Path) -> Page:
    """A document: Markdown, or the Markdown cells of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells: list[dict[str, Any]] = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return Page(_MARKDOWN.render(text))


@cache
def kept() -> frozenset[str]:
    """Files of the repository; outside of a checkout all that lie here."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        return frozenset(listed.stdout.splitlines())
    return frozenset(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*") if p.is_file())


def broken(page: Page, place: str) -> Iterator[str]:
    """Targets of a page that lead nowhere, and why.

    Args:
        page: What to check.
        place: Its path in the repository.
    """
    for target in page.targets:
        parts = urlsplit(target)
        if parts.scheme in ("http", "https"):
            if not _A_HOST.fullmatch(parts.hostname or "") or re.search(r"[\s<>\"]", target):
                yield f"{target}: not the address of a page"
        elif parts.scheme == "mailto" or (parts.scheme == "data" and target.startswith("data:image/")):
            continue
        elif parts.scheme or parts.netloc or parts.path.startswith("/"):
            yield f"{target}: neither in the repository nor on the web"
        else:
            yield from _broken_here(page, place, unquote(parts.path), unquote(parts.fragment), target)


def _broken_here(page: Page, place: str, path: str, anchor: str, target: str) -> Iterator[str]:
    file = (ROOT / place).parent / path if path else ROOT / place
    inside = file.exists() and file.resolve().is_relative_to(ROOT.resolve())
    name = file.resolve().relative_to(ROOT.resolve()).as_posix() if inside else ""
    if path and name not in kept() and not any(other.startswith(f"{name}/") for other in kept() if name):
        yield f"{target}: no such file in the repository"
    elif anchor and anchor not in (read(file) if path else page).anchors:
        yield f"{target}: no such heading"


@pytest.mark.parametrize("place", DOCUMENTS)
def test_links_and_pictures_of_documents_are_there(place: str) -> None:
    page = read(ROOT / place)
    assert list(broken(page, place)) == []
    assert page.silent == [], "pictures need alt text"


@pytest.mark.parametrize("place", DOCUMENTS)
def test_files_that_documents_name_are_there(place: str) -> None:
    folders = (ROOT, ROOT / "medseg", ROOT / "notebooks")
    named = [t for t in read(ROOT / place).code if _A_FILE.fullmatch(t) and not t.startswith(_OF_THE_READER)]
    patterns = [re.sub(r"<\w+>", "*", text) for text in named]
    assert [text for text in patterns if not any(any(folder.glob(text)) for folder in folders)] == []


def test_a_report_needs_nothing_beside_it(tmp_path: Path) -> None:
    entry = {"mean": 0.5, "ci95": None, "cases": 1}
    scored = {
        "summary": {"dice": entry}, "classes": {"liver": {"dice": entry}}, "policy": {"cases": "the test set"},
        "cases": [{"case": "a", "class": "liver", "dice": 0.5}],
    }  # fmt: skip
    write_report(tmp_path / "report.html", scored, [("a", b"png")], {"git": "https://host.org/me/it"})
    arms = [{"name": name, "scores": {"0": 0.5}, "mean": 0.5} for name in ("lr=1", "lr=2")]
    row = {"of": "lr=2", "to": "lr=1", "seeds": {"0": 0.0}, "difference": 0.0, "ci95": None, "of_cases": None}
    write_comparison(
        tmp_path / "comparison.html", {"metric": "dice", "folds": False, "arms": arms, "differences": [row]}
    )
    for name in ("report.html", "comparison.html"):
        page = Page((tmp_path / name).read_text(encoding="utf-8"))
        assert [t for t in page.targets if not t.startswith(("data:image/", "#"))] == []
        assert page.silent == []
        assert list(broken(page, name)) == []
        assert "url(" not in page.source


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a](notebooks/absent.ipynb)", "no such file"),
        ("![a](runs/x.png)", "no such file"),
        ("[a](#nowhere)", "no such heading"),
        ("[a](README.md#nowhere)", "no such heading"),
        ("[a](/etc/passwd)", "neither"),
        ('<a href="file:///etc/passwd">a</a>', "neither"),
        ("[a](../../README.md)", "no such file"),
        ("[a](https://)", "not the address"),
        ("[a](https://nowhere/x)", "not the address"),
    ],
)
def test_what_leads_nowhere_is_found(text: str, told: str) -> None:
    (found,) = broken(Page(_MARKDOWN.render(text)), "README.md")
    assert told in found


def test_what_leads_somewhere_is_not_found() -> None:
    text = (
        "# Two *words*, `x=1`\n\n# a\n\n# a\n\n[a](#two-words-x1) [b](#a-1) [c](notebooks) "
        "[d](README.md#where-to-go)\n\n"
        "[e](notebooks/features.ipynb) [f](https://example.org/a?b=c#d) ![g](notebooks/demo.png)"
    )
    assert list(broken(Page(_MARKDOWN.render(text)), "README.md")) == []


def test_a_picture_without_alt_text_is_found() -> None:
    assert Page(_MARKDOWN.render("![](a.png) ![told](b.png)")).silent == ["a.png"]
