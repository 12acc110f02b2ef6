"""Every notebook runs from top to bottom, and its stored outputs read well on a code host."""

import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
_OF_A_MACHINE = re.compile(
    r"(?<![\w.>])/(?:home|root|work|tmp|Users|mnt|opt|srv|var|data)/|[A-Z]:\\\\|\bsite-packages\b"
)
_LARGEST_PICTURE = 120_000
_WRITE = re.compile(r"%%writefile (\S+)\n")


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def texts(path: Path) -> Iterator[str]:
    """All that a reader sees: sources, printed lines, results."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        yield "".join(cell["source"])
        for output in cell.get("outputs", ()):
            yield "".join(output.get("text", ()))
            yield from ("".join(v) for kind, v in output.get("data", {}).items() if kind.startswith("text/"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that modules are imported from, and what Jupyter would bring."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MEDSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    shell, display = ModuleType("IPython"), ModuleType("IPython.display")
    vars(shell).update(version_info=(9, 0), get_ipython=lambda: None)  # which matplotlib and rich ask for
    vars(display).update(clear_output=lambda: None)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    if plt := sys.modules.get("matplotlib.pyplot"):
        plt.close("all")


def run_cell(source: str, place: str, names: dict[str, object]) -> None:
    """Run a cell as Jupyter does; of its magic commands ``%%writefile`` is known."""
    if found := _WRITE.match(source):
        Path(found[1]).write_text(source[found.end() :] + "\n")
    else:
        exec(compile(source, place, "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_cells_run_in_order(path: Path, workplace: Path) -> None:
    names: dict[str, object] = {}
    cells = code_cells(path)
    for number, cell in enumerate(cells):
        run_cell("".join(cell["source"]), f"{path.name}[{number}]", names)
    assert cells


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_stored_outputs_are_whole_and_of_no_machine(path: Path) -> None:
    cells = code_cells(path)
    assert not [o["evalue"] for c in cells for o in c["outputs"] if o["output_type"] == "error"]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1)), "run all cells in order, then save"
    pictures = [o["data"]["image/png"] for c in cells for o in c["outputs"] if "image/png" in o.get("data", {})]
    assert pictures, "nothing to look at"
    assert max(len(base64.b64decode("".join(p))) for p in pictures) < _LARGEST_PICTURE
    assert not [text for text in texts(path) if _OF_A_MACHINE.search(text)]
    assert not [text for text in texts(path) if "Warning" in text or "Traceback" in text]


def test_a_module_written_by_a_cell_can_be_imported(workplace: Path) -> None:
    names: dict[str, object] = {}
    run_cell("%%writefile of_a_cell.py\nNUMBER = 17", "first", names)
    run_cell("from of_a_cell import NUMBER", "second", names)
    assert names["NUMBER"] == 17


@pytest.mark.parametrize(
    ("text", "found"),
    [("saved to /tmp/runs/a", True), ("/home/me/x", True), ("runs/a/data/b", False), ("https://a.org/data/x", False)],
)
def test_paths_of_a_machine_are_told_from_others(text: str, found: bool) -> None:
    assert bool(_OF_A_MACHINE.search(text)) == found
