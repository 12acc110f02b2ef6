"""Formats of other packages: read and written by their suffix, or refused in one line."""

import sys
from pathlib import Path

import numpy as np
import pytest

from medseg import formats
from medseg.data.layout.pairing import pair
from medseg.errors import InputError
from medseg.formats.companions import companions
from medseg.geometry.grid import Grid
from tests.outside import install

MODULE = """
import numpy as np

from medseg.formats import Format, Source
from medseg.geometry.grid import Grid


class Cells(Source):
    def __init__(self, path):
        self._cells = np.load(path)[None]
        self.path, self.n_channels, self.dtype = path, 1, self._cells.dtype
        self.grid = Grid.regular(self._cells.shape[1:], (1, 1, 1))

    def _read(self, box, channels):
        return self._cells[list(channels)][:, *box.slices]


class Npy(Format):
    suffixes = (".npy", ".old.cells")
    kind = "volume"
    written = (".npy",)

    def open(self, path, options):
        return Cells(path)

    def write(self, path, cells, grid, options):
        np.save(path, cells[0])

    def companions(self, path):
        return [path.with_suffix(".txt")]


class Nothing(Format):
    suffixes = (".none",)
    kind = "volume"


class Kindless(Format):
    suffixes = (".none",)
    kind = "picture"


class Writeless(Nothing):
    written = (".none",)

    def open(self, path, options):
        return None


def function():
    pass
"""
CELLS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
GRID = Grid.regular((2, 3, 4), (1, 1, 1))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "outside_format", raising=False)
    return tmp_path / "site"


def declare(site: Path, points: dict[str, str], package: str = "my-formats") -> None:
    install(site, package, {"medseg.formats": points}, {"outside_format.py": MODULE})


def test_a_format_of_another_package_is_read_written_and_paired(site: Path, tmp_path: Path) -> None:
    declare(site, {".npy": "outside_format:Npy", ".old.cells": "outside_format:Npy"})
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        formats.write(tmp_path / folder / "case.npy", CELLS, GRID)
    np.testing.assert_array_equal(formats.open(tmp_path / "images/case.npy").read(), CELLS[None])
    (case,) = pair(tmp_path / "images", tmp_path / "labels", 1)
    assert (case.id, case.label) == ("case", tmp_path / "labels/case.npy")
    assert formats.suffixes("volume")[-2:] == (".npy", ".old.cells")
    assert companions(tmp_path / "images/case.npy") == [tmp_path / "images/case.txt"]
    assert (formats.label_suffix("case.npy"), formats.label_suffix("case.old.cells")) == (".npy", ".nii.gz")
    assert (formats.suffix("a.b.old.CELLS"), formats.stem("a.b.old.cells")) == (".old.cells", "a.b")
    with pytest.raises(InputError, match=r"x\.old\.cells: \.old\.cells is read but not written; write to x\.nii\.gz"):
        formats.write(tmp_path / "x.old.cells", CELLS, GRID)


def test_a_plugin_is_imported_for_its_own_suffix_only(site: Path, tmp_path: Path) -> None:
    declare(site, {".npy": "outside_format:Npy"})
    formats.write(tmp_path / "a.nii", CELLS, GRID)
    formats.open(tmp_path / "a.nii")
    assert formats.find_format("a.csv") is None
    assert "outside_format" not in sys.modules
    assert formats.find_format("a.npy") is not None
    assert "outside_format" in sys.modules


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({".nii.gz": "outside_format:Npy"}, r"\.nii\.gz is read by medseg itself already; uninstall one of them"),
        ({".PNG": "outside_format:Npy"}, r"expected a suffix such as \.npy, in lower case; fix or update my-formats"),
        ({"npy": "outside_format:Npy"}, r"expected a suffix such as \.npy"),
        ({".npz": "outside_format:Npy"}, r"Npy\.suffixes are \['\.npy', '\.old\.cells'\], expected \.npz to be one"),
        ({".npy": "outside_format:function"}, r"got <function function .*, expected a class derived from medseg"),
        ({".none": "outside_format:Nothing"}, "Nothing lacks the method open"),
        ({".none": "outside_format:Writeless"}, "Writeless lacks the method write"),
        ({".none": "outside_format:Kindless"}, "Kindless.kind is 'picture', expected one of volume, scene, image"),
        ({".npy": "outside_format:Missing"}, r"can't be imported \(AttributeError: .*; fix or update my-formats, or"),
        ({".npy": "no_such_module:Npy"}, r"can't be imported \(ModuleNotFoundError: .*; fix or update my-formats, or"),
    ],
)
def test_a_plugin_that_does_not_work_is_one_line_with_its_package(
    site: Path, points: dict[str, str], words: str
) -> None:
    declare(site, points)
    with pytest.raises(InputError, match=rf"^package my-formats \(entry point .* of medseg\.formats\): .*{words}"):
        formats.suffixes()


def test_two_plugins_for_one_suffix_are_refused(site: Path) -> None:
    declare(site, {".npy": "outside_format:Npy"})
    declare(site, {".npy": "outside_format:Npy"}, package="other-formats")
    with pytest.raises(InputError, match=r"package other-formats .*: \.npy is read by package my-formats .* already"):
        formats.find_format("a.npy")


def test_every_suffix_of_medseg_is_read_by_one_format_of_its_kind() -> None:
    for kind in ("volume", "scene", "image"):
        for suffix in formats.suffixes(kind):
            form = formats.find_format(f"a{suffix}")
            assert form is not None
            assert form.kind == kind
            assert set(form.written) <= set(form.suffixes)
