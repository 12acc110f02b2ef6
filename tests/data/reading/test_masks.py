"""Bands that mask clouds, of single images and of the dates of time series."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg import formats
from medseg.data.reading.masks import KINDS, DateMask
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose
from medseg.planning.fingerprint import fingerprint
from tests.tiny import utm_grid

SHAPE = (8, 12)
LABELS = "data.labels={background: 0, field: 1}"


def scene(path: Path, bands: np.ndarray, names: Sequence[str], cell: float = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    formats.write_image(path, bands.astype(np.float32), utm_grid(bands.shape[1:], cell=cell), names=names)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two dates with SCL as a band; the left half is cloud on the first, the upper row on both."""
    (tmp_path / "masks").mkdir()
    formats.write(tmp_path / "masks/a.tif", (np.arange(96).reshape(SHAPE) % 2).astype(np.uint8), utm_grid(SHAPE))
    for day in (1, 2):
        cells = np.random.default_rng(day).uniform(1, 9, (2, *SHAPE))
        scl = np.full(SHAPE, 4)
        scl[0] = 9
        if day == 1:
            scl[:, :6] = 3
            cells[:, :, :6] = 1e4
        cells[:, 0] = -1e4
        scene(tmp_path / f"images/a_2020010{day}.tif", np.concatenate([cells, scl[None]]), ["B4", "B8", "SCL"])
    return tmp_path


def dataset(root: Path, *words: str) -> Any:
    own = ["data=rasters", f"data.root={root}", "data.channels=[B4,B8]", LABELS, "data.dates={}"]
    return build_dataset(compose("train", [*own, *words]))


def test_masked_cells_of_a_date_have_no_data_there(root: Path, tmp_path: Path) -> None:
    source = dataset(root, "data.date_masks={kind: scl}")
    (case,) = source.cases()
    sample = source.read(case)
    known = np.isfinite(sample.image)
    assert not known[0, :, :, :6].any()
    assert known[0, :, 1:, 6:].all()
    assert known[1, :, 1:].all()
    assert sample.valid[1:].all()
    assert not sample.valid[0].any()
    facts = fingerprint(source, [case], tmp_path / "store")
    assert [i.maximum < 10 and i.minimum > 0 for i in facts.intensities] == [True, True]
    plain = dataset(root).read(case)
    assert plain.valid.all()
    assert plain.image.max() == 1e4


def test_only_some_values_are_dropped(root: Path) -> None:
    source = dataset(root, "data.date_masks={band: SCL, drop: [9]}")
    sample = source.read(source.cases()[0])
    assert np.isfinite(sample.image[:, :, 1:]).all()
    assert sample.valid[0].tolist() == [True] * 6 + [False] * 6


def test_a_mask_of_a_single_image_takes_cells_out(root: Path) -> None:
    (root / "images/a_20200101.tif").rename(root / "images/a.tif")
    (root / "images/a_20200102.tif").unlink()
    words = ["data.dates=null", "data.date_masks={kind: scl}"]
    source = dataset(root, *words)
    sample = source.read(source.cases()[0])
    assert not sample.valid[:, :6].any()
    assert not sample.valid[0].any()
    assert sample.valid[1:, 6:].all()
    assert (sample.image[:, ~sample.valid] == 0).all()


def test_a_mask_of_coarser_cells_in_a_folder_of_its_own_takes_the_nearest_cell(tmp_path: Path) -> None:
    scl = np.array([[8, 4, 4], [4, 10, 4]])
    scene(tmp_path / "s2/a.tif", np.random.default_rng(0).uniform(1, 9, (1, 4, 6)), ["B4"])
    scene(tmp_path / "scl/a.tif", scl[None], ["SCL"], cell=20)
    words = ["data=rasters", f"data.root={tmp_path}", "data.images={s2: s2, scl: scl}", "data.channels=[s2.B4]"]
    more = ["data.labels=null", "data.masks=null", "data.date_masks={kind: scl, band: scl.SCL}"]
    source = build_dataset(compose("train", [*words, *more]))
    sample = source.read(source.cases()[0])
    expected = np.repeat(np.repeat(scl == 4, 2, 0), 2, 1)
    np.testing.assert_array_equal(sample.valid, expected)


def test_a_mask_may_be_of_bits_or_a_probability() -> None:
    cells = np.array([0, 2, 4, 8, 16, 32, 64])
    assert KINDS["hls_fmask"].hides(cells).tolist() == [False, True, True, True, False, False, False]
    assert KINDS["fmask"].hides(np.array([0, 1, 2, 3, 4, 255])).tolist() == [False, False, True, False, True, True]
    assert DateMask("CLP", above=0.4).hides(np.array([0.4, 0.41, np.nan])).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{kind: scn}", r"data\.date_masks\.kind=scn: choose scl, fmask, hls_fmask, cloud_probability"),
        ("{band: SCL}", r"expected a band and what is dropped"),
        ("{drop: [3]}", r"expected a band and what is dropped"),
        ("{kind: scl, values: [3]}", r"data\.date_masks: got \['values'\], expected some of"),
    ],
)
def test_other_masks_are_refused(value: str, message: str, root: Path) -> None:
    with pytest.raises(InputError, match=message):
        dataset(root, f"data.date_masks={value}")


def test_a_band_that_files_lack_is_refused_in_one_line(root: Path) -> None:
    source = dataset(root, "data.date_masks={kind: fmask}", "data.absent=allow")
    with pytest.raises(InputError, match=r"case a: no band Fmask of data\.date_masks in .*fix the file or the name"):
        source.open(source.cases()[0])


def test_the_mask_is_part_of_the_stored_options() -> None:
    options = ReadOptions.from_config(date_masks={"kind": "scl", "drop": [3]})
    assert options.date_masks == DateMask("SCL", drop=(3,))
    assert options.to_dict()["date_masks"]["drop"] == (3,)
    assert "date_masks" not in ReadOptions().to_dict()
