from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg import formats
from medseg.data.layout.dates import shown
from medseg.data.reading.options import ReadOptions
from medseg.data.synthetic.phantom_series import PhantomSeries
from medseg.data.synthetic.series import BANDS, LABELS, NODATA, draw_series
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose

SMALL: dict[str, Any] = {"n_scenes": 4, "n_test": 1, "shape": (40, 48), "reading": ReadOptions(nonfinite="mask")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PhantomSeries:
    dataset = PhantomSeries(tmp_path_factory.mktemp("cache"), **SMALL)
    dataset.cases()
    return dataset


def test_cases_are_read_as_they_were_drawn(dataset: PhantomSeries) -> None:
    cases = [*dataset.cases(), *dataset.test_cases()]
    assert [case.id for case in cases] == [f"field_{i:03d}" for i in range(5)]
    assert dataset.spec.dates == 6
    for number, case in enumerate(cases):
        series = draw_series(0, number, SMALL["shape"], 6)
        assert case.days == series.days
        assert [path.stem.rpartition("_")[2] for path in case.images] == [
            shown(d).replace("-", "") for d in series.days
        ]
        sample, n = dataset.read(case), len(series.days)
        image = np.where(series.images == NODATA, np.nan, series.images.astype(np.float32))
        np.testing.assert_array_equal(sample.image[:n], image)
        assert np.isnan(sample.image[n:]).all()
        np.testing.assert_array_equal(sample.label, series.label)
        assert sample.grid.to_dict() == series.grid.to_dict()


def test_drawing_is_a_function_of_seed_and_number() -> None:
    first, again = (draw_series(0, 3, (40, 48), 6) for _ in range(2))
    assert first.days == again.days
    np.testing.assert_array_equal(first.images, again.images)
    assert not np.array_equal(draw_series(1, 3, (40, 48), 6).label, first.label)
    assert not np.array_equal(draw_series(0, 4, (40, 48), 6).label, first.label)


def test_only_the_course_tells_the_classes() -> None:
    by_class: dict[str, list[list[np.ndarray]]] = {name: [[] for _ in range(6)] for name in LABELS}
    gaps = clouds = 0
    for number in range(60):
        series = draw_series(0, number, (64, 64), 6)
        gaps += 6 - len(series.days)
        clouds += sum(bool((image == NODATA).any()) for image in series.images)
        day = np.array(series.days) - (np.datetime64(shown(series.days[0])[:4], "D").astype(int))
        for slot, image in zip((day * 6 // 365).tolist(), series.images.astype(float), strict=True):
            for name, value in LABELS.items():
                cells = image[:, (series.label == value) & (image[0] != NODATA)]
                by_class[name][slot].append((cells[1] - cells[0]) / (cells[1] + cells[0]))
    assert 20 < gaps < 70
    assert 60 < clouds < 160
    for date in zip(*by_class.values(), strict=True):  # quantiles of the vegetation index, of each class
        quantiles = np.array([np.quantile(np.concatenate(parts), [0.1, 0.3, 0.5, 0.7, 0.9]) for parts in date])
        assert np.ptp(quantiles, axis=0).max() < 0.12
    spread = [np.std([np.concatenate(slot).mean() for slot in slots]) for slots in by_class.values()]
    assert max(spread) < 0.05  # nor is a season greener


def test_the_course_does_tell_them() -> None:
    whole = next(s for n in range(9) if len((s := draw_series(0, n, (64, 64), 6)).days) == 6)
    image = np.where((whole.images == NODATA).any(axis=(0, 1)), np.nan, whole.images.astype(float))
    index = (image[:, 1] - image[:, 0]) / (image[:, 1] + image[:, 0])
    angle = 2 * np.pi * np.array(whole.days) / 365
    known = np.isfinite(index[0])
    power = [abs(np.tensordot(np.exp(1j * k * angle), index - index.mean(0), 1)) for k in (1, 2)]
    guess = np.where(np.ptp(index, axis=0) < 0.3, 0, np.where(power[0] > power[1], 1, 2))
    assert (guess == whole.label)[known].mean() > 0.9


def test_files_explain_themselves(dataset: PhantomSeries) -> None:
    case = dataset.cases()[0]
    source = formats.open(case.images[0])
    assert source.names == BANDS
    assert [c.wavelength_nm for c in dataset.spec.channels] == [664.6, 832.8, 1613.7]
    assert dataset.normalisation == ("standard",) * 3


def test_the_yaml_builds_it(tmp_path: Path) -> None:
    cfg = compose("train", ["data=phantom_series", f"data.root={tmp_path}", "data.n_dates=8", "data.dates.slots=7"])
    made = build_dataset(cfg)
    assert made.spec.dates == 7
    assert made.settings["dates"] == 8


def test_too_few_dates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got n_dates=4, expected 5 or more"):
        PhantomSeries(tmp_path, **SMALL, n_dates=4)
