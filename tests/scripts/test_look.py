"""scripts/look.py: what it makes of Markdown, and what it finds wrong with a page in a real browser."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from tests.prepared import SCRIPTS


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("look", SCRIPTS / "look.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


look = _script()
needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on PATH")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with look.Chromium() as opened:
        yield opened


def test_markdown_becomes_a_page_with_tables_and_folded_parts(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# A\n\n<details><summary>more</summary>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n</details>"
    )
    page = look.page_of(tmp_path / "a.md")
    assert all(tag in page for tag in ("<h1>A</h1>", "<details><summary>more", "<td>2</td>", 'name="viewport"'))


def test_without_a_browser_or_a_reader_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(look.Missing, match="no chromium on PATH; install it"):
        look.Chromium()
    monkeypatch.setitem(look.sys.modules, "nbconvert", None)
    with pytest.raises(look.Missing, match="nbconvert is not installed; pip install nbconvert"):
        look.page_of(tmp_path / "a.ipynb")


@needs_chromium
def test_a_good_page_is_pictured_in_pieces(tmp_path: Path, browser: Any) -> None:
    (tmp_path / "good.md").write_text("word " * 2000)
    assert look.look(browser, tmp_path / "good.md", tmp_path, 390, piece=1000) == []
    sizes = []
    for path in sorted(tmp_path.glob("good-390-*.png")):
        with Image.open(path) as picture:
            sizes.append(picture.size)
    assert sizes[0] == (780, 2000)  # a phone has two points for each pixel
    assert len(sizes) > 2
    assert 0 < sizes[-1][1] <= 2000


@needs_chromium
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('<div style="width: 500px">wide</div>', " pixels wide on a screen of 390: <div> wide"),
        ('<img src="absent.png" alt="a">', "a picture is missing: "),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==">', "no alt text"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "asks for https://example.org/a.css"),
    ],
)
def test_what_is_wrong_with_a_page_is_told(tmp_path: Path, browser: Any, body: str, told: str) -> None:
    head = '<!doctype html><meta name="viewport" content="width=device-width"><style>body { margin: 0 }</style>'
    (tmp_path / "bad.html").write_text(head + body)
    (found,) = look.look(browser, tmp_path / "bad.html", tmp_path, 390)
    assert told in found


@needs_chromium
def test_a_page_without_viewport_is_as_wide_as_a_desk_on_a_phone(tmp_path: Path, browser: Any) -> None:
    (tmp_path / "bad.html").write_text("<!doctype html><p>words</p>")
    (found,) = look.look(browser, tmp_path / "bad.html", tmp_path, 390)
    assert found == "980 pixels wide on a screen of 390: no viewport is declared"
    assert look.look(browser, tmp_path / "bad.html", tmp_path, 1280) == []


@needs_chromium
def test_a_table_in_a_box_that_scrolls_is_not_too_wide(tmp_path: Path, browser: Any) -> None:
    (tmp_path / "a.md").write_text("| " + "word | " * 40 + "\n|" + "---|" * 40)
    assert look.look(browser, tmp_path / "a.md", tmp_path, 390) == []
