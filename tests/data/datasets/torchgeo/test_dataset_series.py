"""Samples of torchgeo that are time series: images of dates, channels, rows and columns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchgeo.datasets import NonGeoDataset

from medseg.data.dataset import Dataset
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.geometry.box import Box
from medseg.hydra_app.compose import compose
from medseg.prediction.file_predictor import open_image

SHAPE = (9, 7)


class Years(NonGeoDataset):
    """Series of 3, 5 and 4 dates, as datasets of fields give them."""

    classes = ("meadow", "maize")

    def __init__(self, root: str, *, mixed: bool = False) -> None:
        self.mixed = mixed

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        dates = (3, 5, 4)[index]
        image = torch.arange(float(dates * 2 * 9 * 7)).reshape(dates, 2, *SHAPE) + index
        radar = image[:, :1] if not self.mixed else image[:2, :1]
        return {"image": image, "radar": -radar, "mask": (image[0, 0] > 30).long()}


def built(root: Path, *overrides: str) -> Dataset:
    own = ["data=torchgeo", f"data.class_path={__name__}.Years", f"data.root={root}", "data.bands=[B4,B8]"]
    return build_dataset(compose("train", [*own, *overrides, f"cache_dir={root}/cache"]))


def test_samples_with_dates_are_series_with_slots_for_the_longest(tmp_path: Path) -> None:
    dataset = built(tmp_path)
    assert dataset.spec.dates == 5
    assert [c.name for c in dataset.spec.channels] == ["B4", "B8"]
    for i, case in enumerate(dataset.cases()):
        sample, theirs = dataset.read(case), Years("")[i]
        n = len(theirs["image"])
        np.testing.assert_array_equal(sample.image[:n], theirs["image"].numpy())
        assert np.isnan(sample.image[n:]).all()
        assert sample.days is not None
        assert sample.days.tolist() == [*range(n), *[0] * (5 - n)]
        np.testing.assert_array_equal(sample.label, theirs["mask"].numpy())
        window = dataset.open(case).read(Box((1, 2), (4, 6)))
        np.testing.assert_array_equal(window.image, sample.image[:, :, 1:4, 2:6])


def test_slots_may_be_fewer_and_channels_chosen(tmp_path: Path) -> None:
    dataset = built(tmp_path, "data.dates={slots: 2}", "data.channels=[B8]")
    assert dataset.spec.dates == 2
    image = dataset.read(dataset.cases()[1]).image
    np.testing.assert_array_equal(image, Years("")[1]["image"].numpy()[[0, 4], 1:])


def test_several_entries_join_date_by_date(tmp_path: Path) -> None:
    own = ["data.image_key=[image,radar]", "data.bands=[B4,B8,VV]"]
    dataset = built(tmp_path, *own)
    image = dataset.read(dataset.cases()[0]).image
    np.testing.assert_array_equal(image[:3, 2], -Years("")[0]["image"].numpy()[:, 0])
    with pytest.raises(InputError, match=r"have shapes .*\(of time series with dates before them\) of one size"):
        built(tmp_path, *own, "data.arguments={mixed: true}").cases()


def test_a_network_of_numbered_dates_asks_how_dates_of_files_lie(tmp_path: Path) -> None:
    dataset = built(tmp_path)
    with pytest.raises(InputError, match=r"takes time series of up to 5 dates; .*data.dates=\{in_file: 12\}"):
        open_image([tmp_path / "a.tif"], spec=dataset.spec, reading=dataset.reading)


@pytest.mark.parametrize("asked", ["data.dates={in_file: 3}", "data.dates={pattern: '(?P<case>.)(?P<date>.)'}"])
def test_how_dates_lie_in_files_is_no_matter_of_samples(asked: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"only slots can be set, with data\.read=samples; take series of files by"):
        built(tmp_path, asked)
    with pytest.raises(InputError, match="only slots can be set"):
        built(tmp_path, "data.dates={}", "data.read=files")
