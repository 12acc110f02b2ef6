"""Embeddings of AlphaEarth and Tessera: 8-bit files as values, with cells without data, and what has another scale."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from medseg import formats
from medseg.errors import InputError
from medseg.formats.aligned import aligned
from medseg.formats.embeddings import band_names, embedded
from medseg.geometry.box import Box
from tests.tiny import utm_grid

SHAPE = (6, 8)


def write(path: Path, cells: np.ndarray, *, cell: float = 10, **profile: Any) -> Path:
    """GDAL's own writer, as files of other packages are read here."""
    transform = rasterio.Affine(cell, 0, 500000, 0, -cell, 4200000)
    n, height, width = cells.shape
    given = {"driver": "GTiff", "count": n, "height": height, "width": width, "dtype": cells.dtype.name, **profile}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=transform, **given) as file:
        file.write(cells)
    return path


def drawn(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, (n, *SHAPE), dtype=np.int8)


def test_alphaearth_by_hand(tmp_path: Path) -> None:
    cells = drawn(64)
    cells[:4, 0, 0] = [127, -127, 0, 64]
    cells[:, 2, 3] = -128
    cells[5, 4, 4] = -128
    source = embedded(formats.open(write(tmp_path / "a.tif", cells)), "alphaearth")
    values, valid = source.read_valid()
    assert (source.dtype, source.names[:2], source.names[-1]) == (np.float32, ("A00", "A01"), "A63")
    np.testing.assert_allclose(values[:4, 0, 0], [0.992172, -0.992172, 0, 0.251965], rtol=1e-5)
    assert sorted(zip(*(~valid).nonzero(), strict=True)) == [(2, 3), (4, 4)]
    assert source.read_valid(channels=[0])[1].sum() == valid.size - 1
    np.testing.assert_array_equal(source.read(Box((1, 2), (4, 7)), [9, 3]), values[[9, 3], 1:4, 2:7])


@given(st.integers(-127, 127))
def test_values_are_monotone_and_odd(q: int) -> None:
    grid = utm_grid((1, 1))

    class File(formats.Source):
        path, dtype, n_channels, names = Path("a.tif"), np.dtype(np.int8), 3, ("A01", "A02", "A03")

        def __init__(self) -> None:
            self.grid = grid

        def _read(self, box: Box, channels: tuple[int, ...]) -> np.ndarray:
            return np.int8([q, -q, max(q - 1, -127)]).reshape(3, 1, 1)

    value, opposite, below = embedded(File(), "alphaearth").read().ravel()
    assert value == -opposite
    assert below <= value
    assert abs(value) <= 1
    assert value == pytest.approx((q / 127.5) ** 2 * np.sign(q), rel=1e-5)


def test_floats_are_the_values_themselves(tmp_path: Path) -> None:
    cells = np.random.default_rng(0).uniform(-1, 1, (64, *SHAPE)).astype(np.float32)
    cells[0, 0, 0] = np.nan
    source = embedded(formats.open(write(tmp_path / "a.tif", cells)), "alphaearth")
    np.testing.assert_array_equal(source.read(), cells)
    cells[7, 2, 2] = 1.3
    scaled = embedded(formats.open(write(tmp_path / "b.tif", cells)), "alphaearth")
    with pytest.raises(InputError, match=r"b\.tif: holds the value 1\.3, AlphaEarth's embeddings are from -1 to 1"):
        scaled.read_valid()


@pytest.mark.parametrize("kind", ["alphaearth", "tessera"])
@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_other_types_and_numbers_of_bands_are_refused(kind: str, dtype: str, tmp_path: Path) -> None:
    n = len(band_names(kind))
    path = write(tmp_path / "a.tif", np.ones((n, *SHAPE), dtype))
    with pytest.raises(InputError, match=rf"a\.tif: embeddings of type {dtype}, expected int8 as published, or float"):
        embedded(formats.open(path), kind)
    few = write(tmp_path / "b.tif", np.ones((n - 1, *SHAPE), np.int8))
    with pytest.raises(InputError, match=rf"b\.tif: {n - 1} band\(s\), expected the {n} of data\.embeddings={kind}"):
        embedded(formats.open(few), kind)


def test_some_bands_by_their_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", drawn(2))
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("A17", "A03")
    assert embedded(formats.open(path), "alphaearth").names == ("A17", "A03")


def test_tessera_is_scaled_cell_by_cell(tmp_path: Path) -> None:
    cells = drawn(128)
    scales = np.random.default_rng(1).uniform(0.01, 0.1, (1, *SHAPE)).astype(np.float32)
    scales[0, 0, 1], scales[0, 5, 5] = np.nan, 0
    write(tmp_path / "a_scales.tif", scales)
    source = embedded(formats.open(write(tmp_path / "a.tif", cells)), "tessera")
    values, valid = source.read_valid()
    np.testing.assert_allclose(values[:, valid], (cells * scales)[:, valid], rtol=1e-6)
    assert sorted(zip(*(~valid).nonzero(), strict=True)) == [(0, 1), (5, 5)]
    window = Box((1, 2), (4, 7))
    np.testing.assert_array_equal(source.read(window, [100]), values[100:101, 1:4, 2:7])


def test_tessera_without_its_scales_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", drawn(128))
    with pytest.raises(InputError, match=r"a\.tif: got int8 embeddings .* without their scales, expected a_sc"):
        embedded(formats.open(path), "tessera")
    for scales, cell in ((np.ones((2, *SHAPE)), 10.0), (np.ones((1, 3, 3)), 10.0), (np.ones((1, *SHAPE)), 20.0)):
        write(tmp_path / "a_scales.tif", scales.astype(np.float32), cell=cell)
        with pytest.raises(
            InputError, match=r"a_scales\.tif: \d band\(s\) .*, expected one scale for each of the"
        ) as e:
            embedded(formats.open(path), "tessera")
        assert len(str(e.value).splitlines()) == 1
    written = write(tmp_path / "b.tif", drawn(128).astype(np.float32) / 20)
    np.testing.assert_array_equal(embedded(formats.open(written), "tessera").read(), drawn(128).astype(np.float32) / 20)


def test_cells_without_data_do_not_enter_those_of_another_grid(tmp_path: Path) -> None:
    cells = np.full((64, *SHAPE), 127, np.int8)
    cells[:, :, 4:] = -128
    source = embedded(formats.open(write(tmp_path / "a.tif", cells)), "alphaearth")
    values, valid = aligned(source, utm_grid((12, 16), cell=5), order="linear").read_valid()
    assert valid[:, :8].all()
    assert not valid[:, 8:].any()
    np.testing.assert_allclose(values[:, :, :8], 0.992172, rtol=1e-5)


def test_anything_else_is_read_as_it_is(tmp_path: Path) -> None:
    source = formats.open(write(tmp_path / "a.tif", drawn(2)))
    assert embedded(source, "") is source
