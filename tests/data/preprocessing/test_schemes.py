"""A normalisation of one's own, named by its class path: applied where it was imported, else refused."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from medseg.data.preprocessing.normalise import ImageStats, Normalisation, Scheme, normalise, normalise_dates
from medseg.errors import InputError

PATH = f"{__name__}.Scaled"


class Scaled(Scheme):
    """Subtract the mean of the training set, divide by the maximum of the image."""

    per_image = True

    def __call__(self, cells: np.ndarray, rule: Normalisation, image: ImageStats | None) -> np.ndarray:
        assert image is not None
        return (cells - rule.mean) / image.maximum


class Short(Scheme):
    def __call__(self, cells: np.ndarray, rule: Normalisation, image: ImageStats | None) -> np.ndarray:
        assert image is None
        return cells[1:]


IMAGE = np.array([[[1.0, 3.0], [5.0, 9.0]]], dtype=np.float32)
COUNTED = np.array([[True, True], [True, False]])
OWN = Normalisation(PATH, mean=1.0, own=Scaled())


def test_cells_that_count_pass_the_scheme() -> None:
    np.testing.assert_allclose(normalise(IMAGE, COUNTED, [OWN])[0], [[0, 2 / 5], [4 / 5, 0]], rtol=1e-6)
    whole = normalise(IMAGE, np.ones((2, 2), dtype=bool), [OWN])[0]
    np.testing.assert_allclose(whole, [[0, 2 / 9], [4 / 9, 8 / 9]], rtol=1e-6)
    of_image = [ImageStats(0.0, 1.0, 0.0, 2.0)]
    np.testing.assert_allclose(normalise(IMAGE, COUNTED, [OWN], of_image)[0], [[0, 1], [2, 0]], rtol=1e-6)


def test_dates_of_a_series_share_the_statistics_of_all() -> None:
    dates = np.stack([IMAGE, IMAGE * 2])
    expected = [[[0, 2 / 10], [4 / 10, 0]], [[1 / 10, 5 / 10], [9 / 10, 0]]]
    np.testing.assert_allclose(normalise_dates(dates, COUNTED, [OWN])[:, 0], expected, rtol=1e-6)


def test_a_scheme_that_was_not_imported_is_refused() -> None:
    rule = Normalisation("my_package.Log")
    assert rule.pooled
    with pytest.raises(InputError, match=r"my_package\.Log was not imported; .* add trust=\[my_package\]"):
        normalise(IMAGE, COUNTED, [rule])


def test_another_number_of_values_is_refused() -> None:
    with pytest.raises(InputError, match=r"a\.Short: got \(2,\) for 3 cells; return one number for each cell"):
        normalise(IMAGE, COUNTED, [Normalisation("a.Short", own=Short())])


def test_the_instance_is_no_part_of_what_is_stored_and_survives_pickling() -> None:
    assert OWN.to_dict() == {"scheme": PATH, "mean": 1.0, "std": 1.0, "low": -np.inf, "high": np.inf}
    assert pickle.loads(pickle.dumps(OWN)).imported.per_image
    assert replace(OWN, own=None) == OWN


@pytest.mark.parametrize("name", ["zsore", "os;system.x", "my package.Log", ".Log", "a..b"])
def test_what_is_neither_a_name_nor_a_path_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"is unknown; choose one of zscore, .*, or the path of a class"):
        Normalisation(name)
