"""Dates in the names of files, and series as people have them: gaps, sub-folders, all dates in one file, mistakes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg import formats
from medseg.data.case import Case
from medseg.data.datasets.rasters import RastersDataset
from medseg.data.layout.dates import DateLayout, dated, day_of
from medseg.data.preprocessing.normalise import ImageStats, Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.preprocessing.windows import image_stats, prepared_windows, tiles
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.data.sampling.collate import collate_windows
from medseg.data.sampling.patch_dataset import CaseDataset, Window
from medseg.data.store.stored_case import StoredCase, write_case
from medseg.data.store.streamed_case import StreamedCase
from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.planning.fingerprint import scene_facts
from medseg.sample import DataSpec, Sample
from tests.tiny import utm_grid

SHAPE = (12, 17)
LABELS = {"field": 0, "wood": 1}
DAYS = {"a": ("20200110", "20200305", "20200601"), "b": ("20200112", "20200530")}
HOLE = Box((2, 3), (5, 9))  # of the second date of a


def image_of(name: str, date: str, bands: int = 2) -> np.ndarray:
    rng = np.random.default_rng([ord(name[-1]), int(date)])
    return (1000 + 500 * np.arange(bands)[:, None, None] + rng.normal(0, 100, (bands, *SHAPE))).astype(np.float32)


def write(path: Path, image: np.ndarray, grid: Grid | None = None, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"B{4 * (i + 1)}" for i in range(len(image))]
    formats.write_image(path, image, grid or utm_grid(image.shape[1:]), names=more.pop("names", names), **more)
    return path


def write_series(root: Path, form: str = "{case}_{date}.tif", days: dict[str, Sequence[str]] | None = None) -> Path:
    """Two cases of two bands, of which one has a hole on one date, and one lacks a date."""
    for case, dates in (days or DAYS).items():
        for date in dates:
            image = image_of(case, date)
            if (case, date) == ("a", "20200305"):
                image[:, *HOLE.slices] = -9
            write(root / "images" / form.format(case=case, date=date), image, nodata=-9)
        (root / "masks").mkdir(exist_ok=True)
        label = (np.arange(SHAPE[1]) > 8).astype(np.uint8)
        formats.write(root / "masks" / f"{case}.tif", np.broadcast_to(label, SHAPE).copy(), utm_grid(SHAPE))
    return root


def dataset(root: Path, dates: dict[str, Any] | None = None, **more: Any) -> RastersDataset:
    reading = ReadOptions.from_config(**{"nonfinite": "mask", "dates": dates or {}} | more.pop("reading", {}))
    return RastersDataset(root, ["B4", "B8"], LABELS, reading=reading, **more)


def expected(case: str, slots: int = 3) -> np.ndarray:
    image = np.full((slots, 2, *SHAPE), np.nan, np.float32)
    for slot, date in zip(image, DAYS[case], strict=False):
        slot[:] = image_of(case, date)
    if case == "a":
        image[1, :, *HOLE.slices] = np.nan
    return image


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        (None, "field_20200131.tif", ("field", "2020-01-31")),
        (None, "my_field_2020-01-31.tif", ("my_field", "2020-01-31")),
        (None, "f-2020031.tiff", ("f", "2020-01-31")),
        (None, "field/20200131.tif", ("field", "2020-01-31")),
        (None, "field/S2A_20200131_T32.tif", ("field", "2020-01-31")),
        (None, "field_20200131_B4.tif", None),
        (None, "field.tif", None),
        (r"(?P<date>\d{8})T\d+_(?P<case>\w+)\.", "20200131T101559_T32TQM.tif", ("T32TQM", "2020-01-31")),
        (r"(?P<case>.+)/(?P<date>\d{4}_\d\d_\d\d)/", "x/y/2020_01_31/image.tif", ("x_y", "2020-01-31")),
    ],
)
def test_case_and_date_are_found_in_a_name(pattern: str | None, path: str, found: tuple[str, str] | None) -> None:
    told = DateLayout(pattern=pattern).find(path)
    assert told == (found and (found[0], int(np.datetime64(found[1], "D").astype(int))))


@pytest.mark.parametrize("text", ["20201341", "20200230", "2021366", "2020000", "2020"])
def test_what_is_no_date_is_told(text: str) -> None:
    with pytest.raises(InputError, match=rf"field.tif: {text} is no date .* expected YYYYMMDD"):
        day_of(text, "field.tif")


def test_leap_years_count() -> None:
    assert day_of("2020366", "a") == day_of("20201231", "a") == int(np.datetime64("2020-12-31", "D").astype(int))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slot": 3}, "data.dates: got .'slot'., expected some of"),
        ({"slots": 0}, "expected 1 or more"),
        ({"pattern": "(?P<case>.+"}, "is no regular expression"),
        ({"pattern": r"(?P<case>.+)_\d+"}, r"needs the groups \(\?P<case>"),
        ({"pattern": r"(?P<case>.+)_(?P<date>\d+)", "in_file": 3}, "give one"),
    ],
)
def test_settings_that_make_no_sense_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReadOptions.from_config(dates=settings)


def test_reading_without_dates_is_stored_as_before_time_was_known() -> None:
    assert "dates" not in ReadOptions().to_dict()
    assert json.loads(json.dumps(ReadOptions.from_config(dates={"slots": 3}).to_dict()))["dates"]["slots"] == 3


@pytest.mark.parametrize("form", ["{case}_{date}.tif", "{case}/{date}.tif", "{case}/S2_{date}_x.tif"])
def test_files_of_a_case_are_read_in_the_order_of_their_dates(form: str, tmp_path: Path) -> None:
    source = dataset(write_series(tmp_path, form))
    assert source.spec.dates == 3
    cases = source.cases()
    assert [case.id for case in cases] == ["a", "b"]
    for case in cases:
        sample = source.read(case)
        np.testing.assert_array_equal(sample.image, expected(case.id))
        assert sample.valid.all()
        days = [day_of(date, "") for date in DAYS[case.id]]
        assert sample.days is not None
        assert sample.present is not None
        assert sample.days.tolist() == days + [0] * (3 - len(days))
        assert sample.present.tolist() == [[i < len(days)] * 2 for i in range(3)]
        assert sample.label is not None
        assert sample.label[0].tolist() == [0] * 9 + [1] * 8


def test_a_cell_is_valid_where_any_date_has_data(tmp_path: Path) -> None:
    write_series(tmp_path, days={"a": ("20200305",)})
    source = dataset(tmp_path)
    sample = source.read(source.cases()[0])
    hole = np.zeros(SHAPE, bool)
    hole[HOLE.slices] = True
    np.testing.assert_array_equal(sample.valid, ~hole)
    assert np.isnan(sample.image[:, :, hole]).all()


def test_reading_a_window_equals_reading_all(tmp_path: Path) -> None:
    source = dataset(write_series(tmp_path))
    opened, box = source.open(source.cases()[0]), Box((1, 2), (7, 15))
    whole, window = opened.read(), opened.read(box)
    np.testing.assert_array_equal(window.image, whole.image[:, :, *box.slices])
    np.testing.assert_array_equal(window.valid, whole.valid[box.slices])
    assert window.days is not None
    np.testing.assert_array_equal(window.days, whole.days)


def test_of_too_many_dates_evenly_spaced_ones_are_read_and_that_is_told(tmp_path: Path) -> None:
    days = {"a": [f"202001{d:02d}" for d in range(1, 10)]}
    source = dataset(write_series(tmp_path, days=days), {"slots": 3})
    opened = source.open(source.cases()[0])
    sample = opened.read()
    assert sample.days is not None
    assert (sample.days - day_of("20200101", "")).tolist() == [0, 4, 8]
    np.testing.assert_array_equal(sample.image[1], image_of("a", "20200105"))
    assert opened.notes == ["case a: of its 9 dates 3 evenly spaced ones are read"]


def test_bands_of_a_date_may_lie_in_several_folders(tmp_path: Path) -> None:
    write_series(tmp_path)
    for path in sorted((tmp_path / "images").iterdir()):
        image = formats.open(path).read()
        write(tmp_path / "radar" / path.name, 2 * image[:1], names=["VV"])
    reading = ReadOptions.from_config(nonfinite="mask", dates={})
    source = RastersDataset(tmp_path, ["VV", "B8"], LABELS, reading=reading, images=["images", "radar"])
    sample = source.read(source.cases()[1])
    np.testing.assert_array_equal(sample.image[:2, 0], 2 * expected("b")[:2, 0])
    np.testing.assert_array_equal(sample.image[:2, 1], expected("b")[:2, 1])
    (tmp_path / "radar/b_20200530.tif").unlink()
    with pytest.raises(InputError, match=r"case b: only one of .*images and .*radar has a file of 2020-05-30"):
        source.cases()


@pytest.mark.parametrize("bands", [(), ("B4", "B8")])
def test_all_dates_may_lie_in_one_file(bands: tuple[str, ...], tmp_path: Path) -> None:
    image = expected("a")
    names = () if bands else ("B4", "B8") * 3
    write(tmp_path / "a.tif", np.nan_to_num(image, nan=-9).reshape(6, *SHAPE), names=names, nodata=-9)
    reading = ReadOptions.from_config(nonfinite="mask", dates={"in_file": 3}, bands=bands)
    source = RastersDataset(tmp_path, ["B4", "B8"], LABELS, reading=reading, images=".", masks="")
    case = replace(source._pair("train")[0], label=None)
    sample = source.read(case)
    np.testing.assert_array_equal(sample.image, image)
    assert sample.days is not None
    assert sample.days.tolist() == [0, 1, 2]


# --- mistakes, each with one line


def spoilt(root: Path, change: Any) -> RastersDataset:
    write_series(root)
    change(root / "images")
    return dataset(root)


def no_date(images: Path) -> None:
    (images / "a_20200110.tif").rename(images / "a_first.tif")


def twice(images: Path) -> None:
    write(images / "a_2020-01-10.tif", image_of("a", "20200110"))


def not_a_date(images: Path) -> None:
    (images / "a_20200110.tif").rename(images / "a_20201310.tif")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_date, r"1 image\(s\) in .* without a date in their names: a_first.tif; expected case_20200131.tif"),
        (twice, r"with more than one image of a date: a on 2020-01-10 \(a_2020-01-10.tif and a_20200110.tif\)"),
        (not_a_date, r"a_20201310.tif: 20201310 is no date"),
        (lambda images: write(images / "c_20200110.tif", image_of("c", "20200110")), "without one of the same name in"),
    ],
)
def test_names_that_cannot_be_right_are_told_in_a_line(change: Any, message: str, tmp_path: Path) -> None:
    source = spoilt(tmp_path, change)
    with pytest.raises(InputError, match=message) as caught:
        source.cases()
    assert "\n" not in str(caught.value)


def more_bands(images: Path) -> None:
    write(images / "a_20200305.tif", image_of("a", "20200305", bands=3), names=())


def other_shape(images: Path) -> None:
    write(images / "a_20200305.tif", image_of("a", "20200305")[:, :10])


def shifted(images: Path) -> None:
    grid = utm_grid(SHAPE)
    affine = grid.affine.copy()
    affine[:2, 2] += 3
    write(images / "a_20200305.tif", image_of("a", "20200305"), Grid(SHAPE, affine, grid.frame))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (more_bands, r"case a: 3 channel\(s\) in .*a_20200305.tif, expected 2 \['B4', 'B8'\]"),
        (other_shape, r"case a: .*a_20200305.tif does not lie on the grid of .*a_20200110.tif: shape \(10, 17\)"),
        (shifted, r"a_20200305.tif does not lie on the grid of .*a_20200110.tif: displaced by up to 0.424"),
    ],
)
def test_a_date_unlike_the_others_is_told_in_a_line(change: Any, message: str, tmp_path: Path) -> None:
    source = spoilt(tmp_path, change)
    with pytest.raises(InputError, match=message) as caught:
        source.open(source.cases()[0])
    assert "\n" not in str(caught.value)


def test_a_date_on_another_grid_is_aligned_where_that_is_allowed(tmp_path: Path) -> None:
    write_series(tmp_path)
    shifted(tmp_path / "images")
    source = dataset(tmp_path, reading={"other_grid": "align"})
    opened = source.open(source.cases()[0])
    assert "aligned to the linear cells" in opened.notes[0]
    found = opened.read().image[1]
    assert np.isfinite(found).any()
    assert not np.array_equal(found, image_of("a", "20200305"))


def test_a_file_whose_bands_are_no_multiple_of_its_dates_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", image_of("a", "1", bands=7), names=())
    spec = DataSpec(dataset(tmp_path)._spec.channels, dataset(tmp_path)._spec.labels, 2, dates=3)
    case = dated(Case("a", (tmp_path / "a.tif",), None, "a"), DateLayout(in_file=3))
    with pytest.raises(InputError, match=r"case a: 7 band\(s\) in .*a.tif, expected a multiple of its 3 dates"):
        CaseReader(case, spec, ReadOptions.from_config(dates={"in_file": 3}))


def test_series_and_single_images_are_not_taken_for_each_other(tmp_path: Path) -> None:
    source = dataset(write_series(tmp_path))
    case = source.cases()[0]
    with pytest.raises(InputError, match=r"case a: 3 dates in .* where no time axis was declared"):
        CaseReader(case, replace(source.spec, dates=0), source.reading)
    with pytest.raises(InputError, match=r"case a: no dates in .*, expected a time series of up to 3"):
        CaseReader(replace(case, days=()), source.spec, source.reading)


def test_files_of_new_images_are_put_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"a_{date}.tif" for date in DAYS["a"]]
    case = dated(Case("a", tuple(reversed(paths)), None, "a"), DateLayout())
    assert case.images == tuple(paths)
    assert case.days == tuple(day_of(date, "") for date in DAYS["a"])
    with pytest.raises(InputError, match=r"case a: 1 file\(s\) of 2020-03-05 and 2 of 2020-01-10, expected"):
        dated(replace(case, images=(*paths, tmp_path / "s1_20200110.tif")), DateLayout())
    with pytest.raises(InputError, match=r"a\.tif: no date in its name"):
        dated(replace(case, images=(tmp_path / "a.tif",)), DateLayout())


# --- statistics, preprocessing, store


RULES = (Normalisation("standard", mean=1000.0, std=100.0), Normalisation("zscore"))


def test_statistics_of_a_channel_are_those_of_all_its_dates(tmp_path: Path) -> None:
    source = dataset(write_series(tmp_path))
    opened = source.open(source.cases()[0])
    found = image_stats(opened, [Box((0, 0), (5, 17)), Box((5, 0), (12, 17))])
    for channel, stats in enumerate(found):
        cells = expected("a")[:, channel].astype(np.float64)
        numbers = [np.nanmean(cells), np.nanstd(cells), np.nanmin(cells), np.nanmax(cells)]
        np.testing.assert_allclose(list(vars(stats).values()), numbers, rtol=1e-9)


def test_facts_of_a_scene_are_drawn_from_all_its_dates(tmp_path: Path) -> None:
    source = dataset(write_series(tmp_path))
    for case, n in zip(source.cases(), (3, 2), strict=True):
        facts = scene_facts(source.open(case), draw=60_000, seed=0)
        cells = expected(case.id)
        assert facts.cells.shape[1] == pytest.approx(20_000 * n, rel=0.1)
        np.testing.assert_allclose(facts.cells.mean(axis=1), np.nanmean(cells, axis=(0, 2, 3)), rtol=0.005)
        np.testing.assert_allclose(facts.cells.std(axis=1), np.nanstd(cells, axis=(0, 2, 3)), rtol=0.02)
        assert facts.counts == (9 * 12, 8 * 12)


def test_preparing_normalises_all_dates_alike_and_leaves_0_where_there_are_no_data(tmp_path: Path) -> None:
    source = dataset(write_series(tmp_path))
    for case in source.cases():
        image = expected(case.id).astype(np.float64)
        mean, std = (f(image[:, 1]) for f in (np.nanmean, np.nanstd))
        normal = np.stack([(image[:, 0] - 1000) / 100, (image[:, 1] - mean) / std], axis=1)
        prepared, _ = Preprocess(None, RULES)(source.read(case))
        np.testing.assert_allclose(prepared.image, np.nan_to_num(normal), rtol=1e-4, atol=1e-5)


def test_resampling_moves_every_date_alike(tmp_path: Path) -> None:
    source = dataset(write_series(tmp_path))
    sample = source.read(source.cases()[1])
    prepare = Preprocess((20.0, 20.0), (Normalisation("none"),) * 2)
    prepared, _ = prepare(sample)
    assert prepared.image.shape == (3, 2, 6, 8)
    single = replace(sample, image=sample.image[1], days=None, present=None)
    np.testing.assert_array_equal(prepared.image[1], prepare(single)[0].image)
    assert (prepared.image[2] == 0).all()


def test_the_store_keeps_dates_and_gives_windows_of_them(tmp_path: Path) -> None:
    source = dataset(write_series(tmp_path))
    case, prepare = source.cases()[1], Preprocess(None, RULES)
    opened = source.open(case)
    windows, grid, trace = prepared_windows(opened, prepare, (4, 4))
    stored = write_case(tmp_path / "store/b", windows, grid, trace, source.spec.labels.targets, (4, 4))
    found, direct = StoredCase(stored.folder).read(), prepare(source.read(case))[0]
    for name in ("image", "label", "valid", "days", "present"):
        np.testing.assert_array_equal(getattr(found, name), getattr(direct, name))
    over = Box((-2, 5), (6, 21))
    window = stored.read(over)
    assert window.image.shape == (3, 2, 8, 16)
    np.testing.assert_array_equal(window.image[:, :, 2:, :12], direct.image[:, :, :6, 5:])
    assert (window.image[:, :, :2] == 0).all()
    standard = Preprocess(None, (RULES[0],) * 2)
    filed = StreamedCase(stored, opened, standard).read(over)
    np.testing.assert_array_equal(filed.image[:, 0], window.image[:, 0])
    np.testing.assert_array_equal(filed.days, window.days)


def test_batches_carry_days_and_presence(tmp_path: Path) -> None:
    source = dataset(write_series(tmp_path))
    prepared = [Preprocess(None, RULES)(source.read(case))[0] for case in source.cases()]
    batch = collate_windows([Window(sample, (0, 1, i)) for i, sample in enumerate(prepared)])
    assert batch.image.shape == (2, 3, 2, *SHAPE)
    assert batch.present[:, :, 0].tolist() == [[True, True, True], [True, True, False]]
    assert batch.days is not None
    assert batch.days[1].tolist() == [day_of("20200112", ""), day_of("20200530", ""), 0]


def test_dates_share_the_memory_of_a_window() -> None:
    one, several = (tiles((4096, 4096), (128, 128), dates)[0] for dates in (0, 16))
    assert np.prod(one.shape) == 16 * np.prod(several.shape)


def test_pooled_statistics_of_nothing_are_neutral() -> None:
    empty = Sample(
        np.full((2, 1, 3, 3), np.nan, np.float32), None, np.zeros((3, 3), bool), utm_grid((3, 3)), "a", "a",
        np.array([1, 2]), np.ones((2, 1), bool),
    )  # fmt: skip
    prepared = Preprocess(None, (Normalisation("zscore"),)).window(empty)
    assert (prepared.image == 0).all()
    assert ImageStats.pooled([]).std == 1


def test_large_cases_validate_in_tiles(tmp_path: Path) -> None:
    source = dataset(write_series(tmp_path))
    windows, grid, trace = prepared_windows(source.open(source.cases()[0]), Preprocess(None, RULES), (4, 4))
    stored = write_case(tmp_path / "store/a", windows, grid, trace, source.spec.labels.targets, (4, 4))
    parts = CaseDataset([stored], largest=60)
    assert len(parts) == 4
    assert parts[3].image.shape[:2] == (3, 2)
