import math
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.sensors.bands import bands_of
from medseg.sensors.formula import INDICES, Formula, index_formula


def test_bands_in_order_of_appearance() -> None:
    assert Formula.parse("(B12 - B8) / (B8 + B12 * NIR)").names == ("B12", "B8", "NIR")
    assert Formula.parse("'SR-B4' + \"8A\" - 'B8#2'\n  * abs").names == ("SR-B4", "8A", "B8#2", "abs")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a - b - 1", -2.0),  # (2 - 3) - 1
        ("-a ** b", -8.0),
        ("a ** b ** a", 512.0),  # 2 ** 9
        ("2.5 * (a - b) / (a + 0.5)", -1.0),
        ("sqrt(a * 8)", 4.0),
        ("log(exp(b))", 3.0),
        ("abs(a - b)", 1.0),
        ("minimum(a, b) + 10 * maximum(a, b)", 32.0),
        ("clip(a * b, 0, 5)", 5.0),
        ("clip(a - b, 0, 5)", 0.0),
        ("--a", 2.0),
        ("1e3 * a", 2000.0),
    ],
)
def test_arithmetic(text: str, expected: float) -> None:
    value = Formula.parse(text)({"a": np.full((2, 3), 2, np.float32), "b": np.full((2, 3), 3, np.float32)})
    assert (value.dtype, value.shape) == (np.float32, (2, 3))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def expressions() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["a", "b", "2", "0.5"])
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
            inner.map("({})".format),
            inner.map("-({})".format),
            st.tuples(st.sampled_from(["minimum", "maximum"]), inner, inner).map("{0[0]}({0[1]}, {0[2]})".format),
        ),
        max_leaves=6,
    )


@given(expressions(), st.integers(1, 50), st.integers(51, 100))
def test_agrees_with_python(text: str, a: int, b: int) -> None:
    text = f"a - b + {text}"
    names = {"a": a, "b": b, "minimum": min, "maximum": max}
    try:
        expected = eval(text, names)  # in double precision
    except ZeroDivisionError:
        return
    value = Formula.parse(text)({"a": np.float32([a]), "b": np.float32([b])})
    assert math.isclose(value[0], expected, rel_tol=1e-3, abs_tol=1e-3 * (b + abs(expected)))


def test_what_is_not_finite_is_zero_unless_a_band_is() -> None:
    a = np.float32([0, 1, -1, np.nan, np.inf, 1e38])
    b = np.float32([0, 0, 0, 0, 1, 1e38])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ratio = Formula.parse("(a - b) / (a + b)")({"a": a, "b": b})
        np.testing.assert_array_equal(ratio, np.float32([0, 1, 1, np.nan, np.nan, 0]))
        np.testing.assert_array_equal(Formula.parse("log(a)")({"a": a[:3]}), [0, 0, 0])
        np.testing.assert_array_equal(Formula.parse("a / b")({"a": a[:3], "b": b[:3]}), [0, 0, 0])
        np.testing.assert_array_equal(Formula.parse("9 ** 9 ** 9 * a")({"a": a[:2]}), [0, 0])
        np.testing.assert_array_equal(Formula.parse("a ** 0")({"a": a[2:4]}), np.float32([1, np.nan]))


def test_bands_are_left_as_they_are() -> None:
    a = np.float32([1, np.inf])
    value = Formula.parse("a")({"a": a, "unused": np.float32([np.nan, np.nan])})
    np.testing.assert_array_equal(value, np.float32([1, np.nan]))
    np.testing.assert_array_equal(a, np.float32([1, np.inf]))
    value[0] = 5
    assert a[0] == 1


def test_it_travels_to_loader_processes() -> None:
    formula = Formula.parse("clip('B-8' / 2, 0, 1)")
    assert pickle.loads(pickle.dumps(formula)) == formula


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("B8 + pre.B4.real", r"'pre.B4.real' at character 6 is not allowed, expected bands, numbers"),
        ("__import__('os')", r"'__import__' at character 1 is not allowed, expected one of the functions sqrt, log"),
        ("B1 + where(B2, 1, 0)", r"'where' at character 6"),
        ("B1.sum()", r"'B1.sum\(\)' at character 1"),
        ("B1[0]", r"'B1\[0\]' at character 1"),
        ("(lambda: 1)() + B1", r"at character 1"),
        ("B1 > 2", r"'B1 > 2' at character 1"),
        ("2 * (B8 ^ 2)", r"'B8 \^ 2' at character 6"),
        ("é + B8 % 2", r"'B8 % 2' at character 5"),
        ("[B8]", r"'\[B8\]' at character 1"),
        ("B8 and B4", r"at character 1"),
        ("B8 if B4 else 1", r"at character 1"),
        ("True * B8", r"'True' at character 1"),
        ("B8 + None", r"'None' at character 6"),
        ("2j * B8", r"'2j' at character 1"),
        ("B8 * 1e400", r"'1e400' at character 6 is not allowed, expected a number up to 3.4"),
        ("sqrt(B8, B4)", r"expected sqrt of 1 argument$"),
        ("clip(B8, a_min=1)", r"expected clip of 3 arguments"),
        ("clip(*B8)", r"expected clip of 3 arguments"),
        ("sqrt(B8, x=1)", r"expected sqrt of 1 argument"),
        ("B8 - ", r"breaks off at character 4"),
        ("(B8 - B4", r"breaks off at character 1 .*never closed"),
        ("B8 - 8A", r"breaks off at character 6 .*stand in quotes"),
        ("rgb#2 * 2", r"# outside quotes"),
        ("B8; B4", r"breaks off at character 3"),
        ("x := B8", r"breaks off at character 3"),
        ("B8\x00", r"breaks off"),
        ("2 * 3", r"uses no band"),
        ("  ", r"formula of 0 characters"),
        ("B8 + " * 200 + "B8", r"formula of 1002 characters"),
        ("(" * 300 + "B8" + ")" * 300, r"breaks off"),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        Formula.parse(text)
    assert "\n" not in str(error.value)


def test_known_indices_of_each_sensor() -> None:
    sentinel = bands_of(["B02", "B03", "B04", "B08", "B8A", "B11", "B12"])
    landsat = bands_of([f"SR_B{n}" for n in range(1, 8)], "landsat-8")
    expected = {
        "NDVI": ("(B08 - B04) / (B08 + B04)", "(SR_B5 - SR_B4) / (SR_B5 + SR_B4)"),
        "NBR": ("(B08 - B12) / (B08 + B12)", "(SR_B5 - SR_B7) / (SR_B5 + SR_B7)"),
        "NDWI": ("(B03 - B08) / (B03 + B08)", "(SR_B3 - SR_B5) / (SR_B3 + SR_B5)"),
        "MNDWI": ("(B03 - B11) / (B03 + B11)", "(SR_B3 - SR_B6) / (SR_B3 + SR_B6)"),
        "NDBI": ("(B11 - B08) / (B11 + B08)", "(SR_B6 - SR_B5) / (SR_B6 + SR_B5)"),
    }
    for name, formulas in expected.items():
        assert (index_formula(name, sentinel), index_formula(name.lower(), landsat)) == formulas


def test_no_index_without_its_bands() -> None:
    assert index_formula("NBR", bands_of(["B4", "B8"], "sentinel-2")) is None
    assert index_formula("NBR", bands_of(["B8", "B7"])) is None  # no telling which sensor
    assert index_formula("elevation", bands_of(["B8", "B12"])) is None
    assert index_formula("NDVI", bands_of(["TCI_R", "B8", "B12"])) is None


def test_names_that_are_no_identifiers_are_quoted() -> None:
    channels = (Channel("8A-red", wavelength_nm=660.0), Channel("in", wavelength_nm=850.0))
    formula = index_formula("NDVI", channels)
    assert formula == "('in' - '8A-red') / ('in' + '8A-red')"
    assert Formula.parse(formula).names == ("in", "8A-red")


@pytest.mark.parametrize("one", [1.0, 10_000.0])
def test_indices_with_constants_know_the_scale(one: float) -> None:
    """Literature values for reflectances 0.4, 0.05, 0.03, the same in any scale."""
    channels = bands_of(["B2", "B4", "B8"], "sentinel-2")
    cells = {name: np.float32([value * one]) for name, value in (("B8", 0.4), ("B4", 0.05), ("B2", 0.03))}
    for name, expected in (("EVI", 2.5 * 0.35 / (0.4 + 0.3 - 0.225 + 1)), ("SAVI", 1.5 * 0.35 / 0.95)):
        formula = index_formula(name, channels, one=one)
        assert formula is not None
        np.testing.assert_allclose(Formula.parse(formula)(cells), expected, rtol=1e-6)
        with pytest.raises(InputError, match=rf"{name} needs the raw value .*\+ (0.5 \* )?10000\)"):
            index_formula(name, channels)
    reflectance = tuple(Channel(c.name, "reflectance", c.wavelength_nm) for c in channels)
    assert index_formula("SAVI", reflectance) == "1.5 * (B8 - B4) / (B8 + B4 + 0.5 * 1)"


def test_every_index_can_be_written_for_sentinel_2() -> None:
    channels = bands_of(["B2", "B3", "B4", "B8", "B11", "B12"])
    assert {name for name in INDICES if Formula.parse(index_formula(name, channels, one=1) or "")} == set(INDICES)


def test_burned_ratio_of_a_real_scene(real_data: Path) -> None:
    """RANCH has an edge of NaN; elsewhere the index lies between -1 and 1 and is lower where it burned."""
    rasterio = pytest.importorskip("rasterio")
    folder = real_data / "s2_burned_area_california"
    with rasterio.open(folder / "images" / "RANCH_20240601.tif") as scene:
        bands, names = scene.read(), scene.descriptions
    with rasterio.open(folder / "masks" / "RANCH_20240601.tif") as mask:
        burned = mask.read(1) == 1
    formula = index_formula("NBR", bands_of(names))
    assert formula == "(B8 - B12) / (B8 + B12)"
    ratio = Formula.parse(formula)(dict(zip(names, bands, strict=True)))
    nir, swir = bands[3].astype(float), bands[4].astype(float)
    np.testing.assert_allclose(ratio, (nir - swir) / (nir + swir), atol=1e-6)
    assert np.isnan(ratio).sum() == 225
    assert np.nanmedian(ratio[burned]) < np.nanmedian(ratio[~burned])
