"""There is one table of wavelengths, and its parts agree."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import medseg
from medseg.sensors import wavelengths
from medseg.sensors.bands import SENSORS, bands_of, roles
from medseg.sensors.colours import COLOUR_WORDS, MSI_COLOURS
from medseg.sensors.wavelengths import CAMERA, MSI, MSI_SPECIFIED, RANGES
from medseg.weights.bands import of_sentinel2

PACKAGE = Path(medseg.__file__).parent
TABLE = Path(wavelengths.__file__)


def numbers(node: ast.AST) -> Iterator[float]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and type(inner.value) in (int, float):
            yield float(inner.value)


def is_light(entry: ast.AST) -> bool:
    """Whether it is a wavelength in nanometres, or a tuple of two or three numbers that holds one."""
    found = list(numbers(entry))
    literal = isinstance(entry, (ast.Constant, ast.Tuple, ast.List))
    return literal and len(found) <= 3 and any(380 <= n <= 2500 for n in found)


def tables(tree: ast.AST) -> Iterator[int]:
    """Lines of dicts, and of lists of tuples, of three or more entries that are all wavelengths.

    Means and deviations of reflectances, under the name ``STATISTICS``, only look like them.
    """
    statistics = [n for n in ast.walk(tree) if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "STATISTICS"]
    apart = {id(part) for assigned in statistics for part in ast.walk(assigned)}
    for node in ast.walk(tree):
        if id(node) in apart:
            continue
        if isinstance(node, ast.Dict):
            entries: list[ast.expr] = node.values
        elif isinstance(node, (ast.Tuple, ast.List)) and not any(isinstance(e, ast.Constant) for e in node.elts):
            entries = node.elts
        else:
            continue
        if len(entries) >= 3 and all(map(is_light, entries)):
            yield node.lineno


def test_the_search_finds_tables() -> None:
    text = '{"B2": 492.7, "B3": 559.8, "B4": 664.6}\n[(440, 20), (490, 65), (560, 35)]\n{"base": (768, 12)}\n'
    assert sorted(tables(ast.parse(text))) == [1, 2]
    assert list(tables(ast.parse(TABLE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(PACKAGE.rglob("*.py")) if p != TABLE],
    ids=lambda p: p.relative_to(PACKAGE).as_posix(),
)
def test_no_other_module_holds_wavelengths(path: Path) -> None:
    lines = list(tables(ast.parse(path.read_text(encoding="utf-8"))))
    assert not lines, f"{path}: lines {lines} list wavelengths; they belong into sensors/wavelengths.py"


def test_specified_bands_are_the_measured_ones() -> None:
    assert MSI_SPECIFIED.keys() == MSI.keys()
    assert all(abs(middle - MSI[band]) <= 13 for band, (middle, _) in MSI_SPECIFIED.items())


@pytest.mark.parametrize("sensor", [s for s in SENSORS if s != "sentinel-1"])
def test_colours_lie_in_their_ranges_and_nothing_else_does(sensor: str) -> None:
    """Each role is played by the sensor's band of that name: no coastal, panchromatic or red-edge band gets in."""
    colours = [c for c in RANGES if c not in ("SWIR1", "SWIR2") or sensor != "naip"]
    assert roles(bands_of(colours, sensor)) == {colour: colour for colour in colours}
    assert roles(bands_of(["COASTAL", "B8"], sensor if sensor == "landsat-8" else None)) == {}


def test_wavelengths_that_weights_are_given() -> None:
    """Those of Sentinel-2's bands of the ground; those of the atmosphere stay unknown to weights named by code."""
    assert MSI_COLOURS.keys() == MSI.keys() - {"B9", "B10"}
    assert {*MSI_COLOURS.values()} == COLOUR_WORDS.keys()
    assert [of_sentinel2(name).wavelength_nm for name in ("B02", "B8A", "B12", "B9", "VV")] == [
        492.7, 864.7, 2202.4, None, None,
    ]  # fmt: skip
    assert CAMERA == {"red": 640.0, "green": 550.0, "blue": 470.0}
