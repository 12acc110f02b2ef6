"""The contract of samples and batches: shapes that belong together, and what a time series has besides."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import LabelTable
from medseg.sample import Batch, Channel, DataSpec, Sample, evenly_spaced, fullest_date, in_slots

SPEC = DataSpec((Channel("B4"),), LabelTable.declare({"background": 0, "crop": 1}), 2)
GRID = Grid((3, 4), np.eye(3), PIXEL)


def sample(image: np.ndarray, **series: Any) -> Sample:
    return Sample(image, None, np.ones((3, 4), bool), GRID, "a", "g", **series)


def batch(t: int | None = 5) -> Batch:
    lead = (2, 3) if t is None else (2, t, 3)
    days = None if t is None else torch.arange(2 * t).reshape(2, t)
    label = torch.zeros(2, 3, 4, dtype=torch.int64)
    image, present, key = torch.rand(*lead, 3, 4), torch.ones(lead, dtype=torch.bool), torch.zeros(2, 3).long()
    return Batch(image, label, label == 0, present, key, ("a", "b"), days)


def test_what_is_stored_of_a_spec_may_be_changed() -> None:
    spec = DataSpec((Channel("R"), Channel("G")), LabelTable.declare(["background", "a"]), 2)
    stored = spec.to_dict()
    stored["channels"][0]["name"] = "B"  # type: ignore[index]
    assert [channel.name for channel in spec.channels] == ["R", "G"]


def test_a_spec_without_time_is_stored_as_before_time_was_known() -> None:
    stored = SPEC.to_dict()
    assert set(stored) == {"channels", "labels", "ndim"}
    assert DataSpec.from_dict(stored) == SPEC
    series = replace(SPEC, dates=6)
    assert DataSpec.from_dict(series.to_dict()) == series


@pytest.mark.parametrize("lead", [(), (2, 3, 1)])
def test_an_image_whose_cells_are_not_those_of_its_grid_is_a_defect(lead: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image of shape"):
        sample(np.zeros((*lead, 3, 4), np.float32))


def test_planes_of_a_series_are_its_dates_one_after_another_and_finite() -> None:
    image = np.arange(2 * 3 * 12, dtype=np.float32).reshape(2, 3, 3, 4)
    image[1, :, 0] = np.nan
    series = sample(image, days=np.array([7, 9]), present=np.ones((2, 3), bool))
    assert series.planes.shape == (6, 3, 4)
    np.testing.assert_array_equal(series.planes[4], np.where(np.isnan(image[1, 1]), 0, image[1, 1]))
    plain = sample(np.ones((3, 3, 4), np.float32))
    assert plain.planes is plain.image


def test_a_batch_tells_networks_of_dates_only_where_there_are_some() -> None:
    plain, series = batch(None), batch(5)
    assert (plain.dates, plain.context) == (0, {})
    assert series.dates == 5
    assert {name: tuple(t.shape) for name, t in series.context.items()} == {"present": (2, 5, 3), "days": (2, 5)}
    with pytest.raises(ValueError, match="presence"):
        replace(series, days=None)


@pytest.mark.parametrize("t", [None, 5])
def test_a_moved_batch_keeps_its_key_on_the_cpu(t: int | None) -> None:
    moved = batch(t).to("meta")
    assert {n: v.device.type for n, v in moved._tensors()} == (
        {"image": "meta", "label": "meta", "valid": "meta", "present": "meta", "key": "cpu"}
        | ({"days": "meta"} if t else {})
    )  # fmt: skip
    assert (moved.days is None) == (t is None)


def test_slots_are_filled_from_the_first_and_the_others_are_missing() -> None:
    image = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
    slots, days, present = in_slots(image, [100, 120], 4)
    np.testing.assert_array_equal(slots[:2], image)
    assert np.isnan(slots[2:]).all()
    assert days.tolist() == [100, 120, 0, 0]
    assert present[:, 0].tolist() == [True, True, False, False]


@pytest.mark.parametrize(("n", "slots"), [(1, 1), (4, 4), (5, 4), (61, 12), (7, 1)])
def test_dates_kept_are_distinct_and_in_order(n: int, slots: int) -> None:
    kept = evenly_spaced(n, slots)
    assert len(kept) == min(n, slots)
    assert kept == sorted(set(kept))
    assert kept[0] == 0
    assert slots == 1 or kept[-1] == n - 1


def test_the_picture_of_a_series_is_its_fullest_date() -> None:
    image = np.zeros((4, 2, 3, 4), np.float32)
    image[0, :, :2], image[1], image[2], image[3, :, 0] = 1, 2, 3, 4
    image[2, :, 0, 0] = np.nan
    image[1, :, 0, 1] = 0
    np.testing.assert_array_equal(fullest_date(image), np.nan_to_num(image[2]))
    series = sample(image[:, :1], days=np.arange(4), present=np.ones((4, 1), bool))
    np.testing.assert_array_equal(series.picture, np.nan_to_num(image[2, :1]))
    plain = sample(np.ones((3, 3, 4), np.float32))
    assert plain.picture is plain.image
