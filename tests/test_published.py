"""Experiments on published datasets read their files as they are meant: cases, splits, channels and classes."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from omegaconf import DictConfig

from medseg.data.dataset import Dataset
from medseg.factory import split
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose
from medseg.labels import IGNORE
from tests import image_layouts, volume_layouts
from tests.test_conf import PUBLISHED
from tests.torchgeo_layouts import drawn
from tests.volume_layouts import DECATHLON

Opener = Callable[[str], tuple[DictConfig, Dataset]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """Configuration and dataset of an experiment, on files in the dataset's own layout; written once."""

    @cache
    def open_published(name: str) -> tuple[DictConfig, Dataset]:
        overrides = PUBLISHED[name](tmp_path_factory.mktemp(name))
        cfg = compose("train", [f"experiment={name}", "split.n_folds=3", *overrides])
        return cfg, build_dataset(cfg)

    return open_published


def counts(source: Dataset, case_id: str) -> list[int]:
    """Cells of each class of a case, those to ignore last."""
    case = next(c for c in [*source.cases(), *source.test_cases()] if c.id == case_id)
    label = source.read(case).label
    assert label is not None
    return [int((label == index).sum()) for index in [*range(source.spec.labels.n_classes), IGNORE]]


SPLITS = {
    "amos": ("Tr_amos_0001 Tr_amos_0004", "Va_amos_0008", ""),
    "drive": ("21 22", "37 38 39 40", "01 02"),
    "hls_burn_scars": (
        "training_subsetted_512x512_HLS.S30.T10SDH.2020245.v1.4 training_subsetted_512x512_HLS.S30.T10SEH.2018190.v1.4",
        "validation_subsetted_512x512_HLS.S30.T10SDH.2019150.v1.4",
        "",
    ),
    "isic2018": ("Training_ISIC_0000000 Training_ISIC_0000001", "Validation_ISIC_0012255", "ISIC_0012169"),
    "landslide4sense": ("train_1 train_10 train_2", "validation_1", "test_1"),
    "totalsegmentator": ("s0000 s0001", "s0002", "s0003"),
}


@pytest.mark.parametrize("name", SPLITS)
def test_published_splits_are_kept(name: str, opened: Opener) -> None:
    cfg, source = opened(name)
    train, val = split.halves(cfg.split, source)
    found = [" ".join(c.id for c in part) for part in (train, val, split.judged(cfg.split, source))]
    assert found == list(SPLITS[name])


def test_frames_of_a_patient_stay_together(opened: Opener) -> None:
    cfg, source = opened("acdc")
    train, val = split.halves(cfg.split, source)
    assert {c.group for c in train}.isdisjoint({c.group for c in val})
    assert len(train + val) == 6
    assert [c.id for c in split.judged(cfg.split, source)] == ["patient101_frame01", "patient101_frame12"]


@pytest.mark.parametrize("name", DECATHLON)
def test_decathlon_has_the_channels_and_classes_of_its_file(name: str, opened: Opener) -> None:
    named, modalities, classes = DECATHLON[name]
    source = opened(name)[1]
    assert [c.name for c in source.spec.channels] == modalities
    assert list(source.spec.labels.names) == classes
    assert set(source.normalisation) == {"ct" if modalities == ["CT"] else "zscore"}
    assert [c.id for c in source.test_cases()] == [named.format(9)]
    case = next(c for c in source.cases() if c.id == named.format(2))
    expected = volume_layouts.drawn(case.id, range(len(classes)))
    sample = source.read(case)
    np.testing.assert_array_equal(sample.label, expected[1])
    for number, channel in enumerate(sample.image):
        np.testing.assert_allclose(channel, expected[0] * (1 - 0.5 * number), rtol=1e-5)


VALUES = {
    "btcv": ("0002", "0002", range(14)),
    "acdc": ("patient002_frame12", "patient002_frame12", range(4)),
    "amos": ("Va_amos_0008", "amos_0008", range(16)),
    "brats": ("BraTS2021_00002", "BraTS2021_00002", (0, 1, 2, 4)),
    "kits": ("case_00001", "case_00001", range(4)),
}


@pytest.mark.parametrize("name", VALUES)
def test_volumes_have_the_labels_of_their_files(name: str, opened: Opener) -> None:
    case, drawing, values = VALUES[name]
    raw = volume_layouts.drawn(drawing, list(values))[1]
    assert counts(opened(name)[1], case) == [*(int((raw == value).sum()) for value in values), 0]


@pytest.mark.parametrize(
    ("name", "regions", "painted"),
    [
        ("brats", {"whole tumour": {1, 2, 4}, "tumour core": {1, 4}, "enhancing tumour": {4}}, [2, 1, 4]),
        ("kits", {"kidney and masses": {1, 2, 3}, "masses": {2, 3}, "tumour": {2}}, [1, 3, 2]),
    ],
)
def test_tumours_are_judged_as_regions(
    name: str, regions: dict[str, set[int]], painted: list[int], opened: Opener
) -> None:
    """A region paints what it has beyond the next, smaller one."""
    table = opened(name)[1].spec.labels
    values = [table.classes[i].values[0] for i in range(table.n_classes)]
    assert {r.name: {values[i] for i in r.members} for r in table.regions} == regions
    assert [values[r.paint] for r in table.regions] == painted


def test_brats_has_its_sequences_in_the_order_of_its_channels(opened: Opener) -> None:
    source = opened("brats")[1]
    image = source.read(source.cases()[0]).image
    np.testing.assert_allclose(np.diff(image.mean(axis=(1, 2, 3))), 50, rtol=1e-4)
    assert [c.name for c in source.spec.channels] == ["FLAIR", "T1", "T1ce", "T2"]


@pytest.mark.parametrize("name", ["btcv", "amos"])
def test_paired_organs_are_named_left_first(name: str, opened: Opener) -> None:
    table = opened(name)[1].spec.labels
    assert [(table.names[a], table.names[b]) for a, b in table.pairs] == [
        ("left kidney", "right kidney"),
        ("left adrenal gland", "right adrenal gland"),
    ]


@pytest.mark.parametrize(
    ("name", "case", "drawing", "white"),
    [
        ("drive", "21", "21", 1),
        ("isbi2012", "03", "section 3", 0),
        ("dsb2018", "003cee89357d", "003cee89357d", 1),
        ("kvasir_seg", image_layouts.POLYPS[1], image_layouts.POLYPS[1], 1),
    ],
)
def test_white_of_a_mask_is_this_class(name: str, case: str, drawing: str, white: int, opened: Opener) -> None:
    mask = image_layouts.picture(drawing)[1]
    found = counts(opened(name)[1], case)
    assert found[white] == (mask == 255).sum() > 0
    assert found[1 - white] == (mask == 0).sum() > 0


def test_missing_data_of_burn_scars_are_ignored(opened: Opener) -> None:
    label = drawn("T10SDH.2019150", (-1, 0, 1), 6)[1]
    source = opened("hls_burn_scars")[1]
    name = "validation_subsetted_512x512_HLS.S30.T10SDH.2019150.v1.4"
    assert counts(source, name) == [(label == 0).sum(), (label == 1).sum(), (label == -1).sum()]
    assert [c.wavelength_nm for c in source.spec.channels] == [492.7, 559.8, 664.6, 864.7, 1613.7, 2202.4]


def test_a_retina_counts_inside_its_field_of_view(opened: Opener) -> None:
    source = opened("drive")[1]
    for case in (source.cases()[0], source.test_cases()[0]):
        valid = source.read(case).valid
        assert not valid[:2].any()
        assert valid[2:].all()


def test_slope_and_elevation_have_no_wavelength(opened: Opener) -> None:
    channels = opened("landslide4sense")[1].spec.channels
    assert [c.name for c in channels if c.wavelength_nm is None] == ["slope", "DEM"]
