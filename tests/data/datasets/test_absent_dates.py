"""Image groups that lack files on single dates of a time series: what is read, stored, trained on and predicted."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medseg
from medseg import formats
from medseg.cli.check import check
from medseg.data.case import Case
from medseg.data.layout.dates import DateLayout, dated
from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.preprocessing.windows import prepared_windows
from medseg.data.store.stored_case import write_case
from medseg.data.store.streamed_case import StreamedCase
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.geometry.box import Box
from medseg.hydra_app.compose import compose
from medseg.planning.fingerprint import fingerprint
from medseg.prediction.predict import predict
from medseg.training.train import train
from tests.tiny import utm_grid

SHAPE = (16, 16)
GROUPS = ["data.images={s2: optical, s1: radar}", "data.channels=[s2.B4,s2.B8,s1.VV]"]
WORDS = ["data=rasters", *GROUPS, "data.dates={}", "data.labels={background: 0, field: 1}", "data.absent=allow"]
DATES = {"a": ("s2 s1", "s1", "s2"), "b": ("s2", "s2 s1"), "c": ("s2 s1", "s2 s1"), "d": ("s1", "s2")}
"""Image groups on each date of the cases."""
PRESENT = {"s2 s1": [True, True, True], "s2": [True, True, False], "s1": [False, False, True]}


def scene(path: Path, names: Sequence[str], seed: int, cell: float = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = tuple(int(n * 10 // cell) for n in SHAPE)
    image = np.random.default_rng(seed).uniform(1, 9, (len(names), *shape)).astype(np.float32)
    formats.write_image(path, image, utm_grid(shape, cell=cell), names=names)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dates")
    (folder / "masks").mkdir()
    for number, (name, dates) in enumerate(DATES.items()):
        cells = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3 == 0).astype(np.uint8)
        formats.write(folder / f"masks/{name}.tif", cells, utm_grid(SHAPE))
        for day, own in enumerate(dates):
            for group, names in (("s2", ["B4", "B8"]), ("s1", ["VV"])):
                if group in own.split():
                    place = "optical" if group == "s2" else "radar"
                    scene(folder / f"{place}/{name}_2020010{day + 1}.tif", names, 10 * number + day)
    return folder


def dataset(root: Path, *words: str) -> Any:
    return build_dataset(compose("train", [*WORDS, f"data.root={root}", *words]))


def expected(name: str, slots: int = 3) -> list[list[bool]]:
    return [*(PRESENT[own] for own in DATES[name]), *[[False] * 3] * (slots - len(DATES[name]))]


def test_each_date_has_the_channels_of_its_files(root: Path) -> None:
    source = dataset(root)
    for case in source.cases():
        sample = source.read(case)
        assert sample.present.tolist() == expected(case.id)
        assert sample.valid.all()
        assert np.isfinite(sample.image).all((2, 3)).tolist() == sample.present.tolist()
        for number, own in enumerate(DATES[case.id]):
            for group, place, channels in (("s2", "optical", slice(0, 2)), ("s1", "radar", slice(2, 3))):
                if group in own.split():
                    cells = formats.open(root / f"{place}/{case.id}_2020010{number + 1}.tif").read()
                    np.testing.assert_array_equal(sample.image[number, channels], cells)
    assert [case.per_date for case in source.cases()] == [(2, 1, 1), (1, 2), (), (1, 1)]


def test_by_default_it_is_refused_in_one_line_that_names_the_switch(root: Path) -> None:
    message = (
        r"case a: only one of .*optical and .*radar has a file of 2020-01-02; add the other, or train without some"
    )
    with pytest.raises(InputError, match=message):
        dataset(root, "data.absent=error").cases()


@pytest.mark.parametrize("arrays", [True, False])
def test_absent_groups_of_dates_are_0_in_the_store(arrays: bool, root: Path, tmp_path: Path) -> None:
    source = dataset(root)
    prepare = Preprocess(None, (Normalisation("standard", mean=20, std=2),) * 3)
    for case in source.cases():
        reader = source.open(case)
        windows, grid, trace = prepared_windows(reader, prepare, (8, 8))
        stored: Any = write_case(tmp_path / case.id, windows, grid, trace, [], (8, 8), arrays=arrays)
        stored = stored if arrays else StreamedCase(stored, reader, prepare)
        sample = stored.read(Box.at((2, 3), (8, 8)))
        assert sample.present.tolist() == expected(case.id)
        assert (sample.image[~sample.present] == 0).all()
        assert (sample.image[sample.present] < 0).all()


def test_statistics_are_those_of_the_dates_that_have_the_group(root: Path, tmp_path: Path) -> None:
    source = dataset(root)
    facts = fingerprint(source, source.cases(), tmp_path / "store")
    radar = np.concatenate([formats.open(path).read().ravel() for path in sorted((root / "radar").iterdir())])
    assert facts.intensities[2].minimum == radar.min()
    assert facts.intensities[2].mean == pytest.approx(radar.mean(), rel=0.05)


def test_the_grid_is_that_of_the_reference_wherever_a_date_has_it(tmp_path: Path, root: Path) -> None:
    shutil.copytree(root, tmp_path / "d")
    scene(tmp_path / "d/radar/d_20200101.tif", ["VV"], 0, cell=5)
    source = dataset(tmp_path / "d")
    assert source.open(source.cases()[3]).grid.spacing == (10, 10)
    assert not any("its grid is" in note for note in source.open(source.cases()[3]).notes)


def test_dates_without_a_channel_are_not_read(root: Path) -> None:
    source = dataset(root, "data.channels=[s1.VV]")
    reader = source.open(source.cases()[0])
    assert len(reader.days) == 2
    assert reader.read().present.tolist() == [[True], [True], [False]]
    assert reader.notes == ["case a: 1 dates have none of the channels and are not read"]


def test_a_group_may_be_taken_away_that_is_alone_on_a_date(root: Path) -> None:
    source = dataset(root)
    sample = source.open(source.cases()[0]).without(["s1"]).read()
    assert sample.present.tolist() == [[True, True, False], [True, True, False], [False] * 3]
    assert (sample.days[1] - sample.days[0], sample.days[2]) == (2, 0)


def test_a_mask_in_the_files_of_a_group_is_not_looked_for_on_dates_without_it(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    formats.write(tmp_path / "masks/a.tif", np.zeros(SHAPE, np.uint8), utm_grid(SHAPE))
    scene(tmp_path / "optical/a_20200101.tif", ["B4", "B8", "SCL"], 0)
    for day in (1, 2):
        scene(tmp_path / f"radar/a_2020010{day}.tif", ["VV"], day)
    source = dataset(tmp_path, "data.date_masks={band: s2.SCL, above: 100}")
    assert source.read(source.cases()[0]).present.tolist() == [[True] * 3, [False, False, True]]
    scene(tmp_path / "optical/a_20200102.tif", ["B4", "B8"], 0)
    source = dataset(tmp_path, "data.date_masks={band: s2.SCL, above: 100}")
    with pytest.raises(InputError, match=r"no band s2\.SCL of data\.date_masks"):
        source.open(source.cases()[0])


def test_files_of_dates_in_any_order_keep_their_groups() -> None:
    paths = tuple(Path(f"{name}.tif") for name in ("s1/a_20200102", "s2/a_20200101", "s2/a_20200102"))
    case = dated(Case("a", paths, None, "a", image_groups=("s1", "s2", "s2")), DateLayout())
    assert (case.per_date, case.image_groups) == ((1, 2), ("s2", "s1", "s2"))
    assert case.of_date(0) == (paths[1:2], ("s2",))
    with pytest.raises(InputError, match=r"2 file\(s\) of 2020-01-02 and 1 of 2020-01-01, expected as many of each"):
        dated(Case("a", paths, None, "a"), DateLayout())


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = [
        f"data.root={root}", f"cache_dir={folder}/cache", f"run_dir={folder}/run", "model=unet_tiny", "temporal=mean",
        "trainer.max_steps=2", "trainer.steps_per_epoch=2", "trainer.accelerator=cpu", "trainer.precision=32-true",
        "plan.patch=[16,16]", "plan.batch_size=2", "callback={}", "logger=csv", "split.val_cases=[a]", "test=false",
        "transform=light", "metric=overlap",
    ]  # fmt: skip
    train(compose("train", [*WORDS, *settings]))
    return folder / "run"


def test_a_prediction_sees_nothing_of_the_absent_group_of_a_date(run: Path, root: Path, tmp_path: Path) -> None:
    """What stands in the channels that a date lacks changes no logit, and the files say which these are."""
    network: Any = medseg.load(run / "checkpoints/last.ckpt").arrays.members[0].network.eval()
    image, present = torch.randn(1, 3, 3, *SHAPE), torch.tensor([expected("a")])
    other = torch.where(present[..., None, None], image, torch.full_like(image, 1e4))
    with torch.no_grad():
        assert torch.equal(network(image, present=present), network(other, present=present))
        assert not torch.equal(network(image), network(image, present=present))
    given = [f"checkpoint={run}/checkpoints/last.ckpt", "device=cpu", f"output={tmp_path}/out"]
    source = {"s2": root / "optical", "s1": root / "radar"}
    paths = predict(compose("predict", [*given, f"input={{s2: {source['s2']}, s1: {source['s1']}}}"]))
    assert [path.name for path in paths] == ["a.tif", "b.tif", "c.tif", "d.tif"]
    predictor, read = medseg.load(run / "checkpoints/last.ckpt"), dataset(root)
    for path, case in zip(paths, read.cases(), strict=True):
        sample, n = read.read(case), len(case.days)
        labels = predictor(sample.image[:n], sample.grid, days=sample.days[:n].tolist())
        np.testing.assert_array_equal(formats.open(path).read()[0], labels)


def test_the_data_check_names_the_bands_of_each_date(root: Path) -> None:
    """Both groups of a date are drawn with one seed, so that the first bands of their files are equal."""
    found = check(compose("check", [*WORDS, f"data.root={root}"]))
    assert not [finding for finding in found if finding.severity == "error"]
    assert [finding.message for finding in found if finding.check == "duplicated channel"] == [
        f"{case}: channels s2.B4 of {day} and s1.VV of {day} are equal in every cell"
        for case, day in (("a", "2020-01-01"), ("b", "2020-01-02"), ("c", "2020-01-01"))
    ]
