"""Cases that lack the file, the band or the folder of a channel, in every layout; and on single dates."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg import formats
from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.preprocessing.windows import prepared_windows
from medseg.data.sampling.collate import collate_windows
from medseg.data.sampling.patch_dataset import Window
from medseg.data.store.stored_case import write_case
from medseg.data.store.streamed_case import StreamedCase
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from medseg.planning.fingerprint import fingerprint
from tests.tiny import AFFINE, utm_grid

LABELS = "data.labels={background: 0, lesion: 1}"
ALLOW = "data.absent=allow"
THERE = {"a": (True, True, True), "b": (True, False, True), "c": (False, True, False)}
"""Which of three channels each case has."""


def volume(path: Path, seed: int, *, label: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).uniform(1, 9, (6, 5, 4)).astype(np.float32)
    nib.save(nib.Nifti1Image((cells > 6).astype(np.uint8) if label else cells, AFFINE), path)


def scene(path: Path, names: Sequence[str], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).uniform(1, 9, (len(names), 10, 12)).astype(np.float32)
    formats.write_image(path, image, utm_grid((10, 12)), names=names)


def mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    formats.write(path, (np.arange(120).reshape(10, 12) % 3 == 0).astype(np.uint8), utm_grid((10, 12)))


def nnunet(root: Path) -> list[str]:
    for name, there in THERE.items():
        volume(root / f"labelsTr/{name}.nii.gz", 99, label=True)
        for number, here in enumerate(there):
            if here:
                volume(root / f"imagesTr/{name}_{number:04d}.nii.gz", ord(name) + number)
    channels = {"0": "FLAIR", "1": "T1", "2": "T1c"}
    declared = {"channel_names": channels, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(declared))
    return ["data=nnunet"]


def msd(root: Path) -> list[str]:
    nnunet(root)
    files = {
        name: [f"imagesTr/{name}_{number:04d}.nii.gz" if here else None for number, here in enumerate(there)]
        for name, there in THERE.items()
    }
    listed = [{"image": files[name], "label": f"labelsTr/{name}.nii.gz"} for name in THERE]
    declared = {
        "modality": {"0": "FLAIR", "1": "T1", "2": "T1c"}, "labels": {"0": "background", "1": "lesion"},
        "training": listed, "test": [{"image": files["c"]}],
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(declared))
    return ["data=msd"]


def volumes(root: Path) -> list[str]:
    nnunet(root)
    return [
        "data=volumes",
        "data.images=imagesTr",
        "data.label_folder=labelsTr",
        "data.channels=[FLAIR,T1,T1c]",
        LABELS,
    ]


def patterns(root: Path) -> list[str]:
    nnunet(root)
    images = ", ".join(f"'imagesTr/(?P<case>.)_000{number}\\.nii\\.gz'" for number in range(3))
    names = f"data.names={{image: [{images}], label: 'labelsTr/(?P<case>.)\\.nii\\.gz'}}"
    return ["data=volumes", names, "data.channels=[FLAIR,T1,T1c]", LABELS]


def bands(root: Path) -> list[str]:
    """Bands by name in one GeoTIFF a case."""
    for name, there in THERE.items():
        mask(root / f"masks/{name}.tif")
        scene(root / f"images/{name}.tif", [b for b, here in zip(("B2", "B4", "B8"), there) if here], ord(name))
    return ["data=rasters", "data.channels=[B2,B4,B8]", LABELS]


def folders(root: Path) -> list[str]:
    """A folder a band, of which files say nothing."""
    for name, there in THERE.items():
        mask(root / f"masks/{name}.tif")
        for band, here in zip(("B2", "B4", "B8"), there):
            if here:
                scene(root / band / f"{name}.tif", [""], ord(name))
    return ["data=rasters", "data.images=[B2,B4,B8]", "data.channels=[B2,B4,B8]", LABELS]


def grey(root: Path) -> list[str]:
    """PNG images, a folder a channel."""
    for name, there in THERE.items():
        cells = np.random.default_rng(ord(name)).integers(1, 200, (10, 12)).astype(np.uint8)
        for channel, here in zip(("phase", "dapi", "gfp", "masks"), (*there, True)):
            if here:
                (root / channel).mkdir(exist_ok=True)
                shown = cells // 100 if channel == "masks" else cells
                formats.write(root / f"{channel}/{name}.png", shown, Grid((10, 12), np.eye(3), PIXEL))
    return ["data=images", "data.images=[phase,dapi,gfp]", "data.channels=[phase,dapi,gfp]", LABELS]


LAYOUTS: Mapping[str, Any] = {f.__name__: f for f in (nnunet, msd, volumes, patterns, bands, folders, grey)}


def dataset(root: Path, words: Sequence[str]) -> Any:
    return build_dataset(compose("train", [*words, f"data.root={root}"]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_case_without_the_file_or_band_of_a_channel_is_read_with_0(layout: str, tmp_path: Path) -> None:
    words = [*LAYOUTS[layout](tmp_path), ALLOW]
    source = dataset(tmp_path, words)
    samples = {case.id: source.read(case) for case in source.cases()}
    assert {name: tuple(sample.has.tolist()) for name, sample in samples.items()} == THERE
    for sample in samples.values():
        assert sample.valid.all()
        assert sample.image.reshape(3, -1).any(1).tolist() == sample.has.tolist()
        prepared = Preprocess(None, (Normalisation("zscore"),) * 3).window(sample)
        assert (prepared.image[~sample.has] == 0).all()
        assert prepared.image[sample.has].reshape(sample.has.sum(), -1).any(1).all()
    assert fingerprint(source, source.cases(), tmp_path / "store").intensities[1].minimum >= 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_by_default_it_is_refused_in_one_line_that_names_the_switch(layout: str, tmp_path: Path) -> None:
    words = LAYOUTS[layout](tmp_path)
    source = dataset(tmp_path, words)
    with pytest.raises(InputError, match=r"data\.absent=allow") as error:
        list(map(source.open, source.cases()))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("layout", ["nnunet", "bands"])
def test_the_cells_of_a_channel_stay_those_of_the_complete_case(layout: str, tmp_path: Path) -> None:
    words = [*LAYOUTS[layout](tmp_path), ALLOW]
    source = dataset(tmp_path, words)
    case = source.cases()[1]
    paths = case.images
    sample = source.read(case)
    if layout == "nnunet":
        np.testing.assert_array_equal(sample.image[2], formats.open(paths[1]).read()[0])
    else:
        np.testing.assert_array_equal(sample.image[[0, 2]], formats.open(paths[0]).read())


def test_a_channel_that_every_training_case_lacks_is_refused_in_one_line(tmp_path: Path) -> None:
    source = dataset(tmp_path, [*bands(tmp_path), ALLOW])
    wrong = dataset(tmp_path, [*bands(tmp_path), ALLOW, "data.channels=[B2,B4,B8A]"])
    with pytest.raises(InputError, match=r"data\.channels: B8A absent in each of the 3 training cases") as error:
        fingerprint(wrong, wrong.cases(), tmp_path / "store")
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(InputError, match=r"data\.channels: B4 absent in each of the 1 training cases"):
        fingerprint(source, source.cases()[1:2], tmp_path / "store")


def test_a_file_without_any_of_the_bands_is_refused(tmp_path: Path) -> None:
    words = [*bands(tmp_path), ALLOW]
    scene(tmp_path / "images/a.tif", ["B11", "B12"], 0)
    source = dataset(tmp_path, words)
    with pytest.raises(InputError, match=r"case a: 2 channel\(s\) in .*a\.tif, expected 3"):
        source.open(source.cases()[0])


def test_a_formula_is_absent_with_any_of_its_bands(tmp_path: Path) -> None:
    words = [*bands(tmp_path), ALLOW, 'data.channels=[B2, {ratio: "B4 / B8"}, {sum: "B2 + B8"}]']
    source = dataset(tmp_path, words)
    has = [source.read(case).has.tolist() for case in source.cases()[:2]]
    assert has == [[True, True, True], [True, False, True]]
    with pytest.raises(InputError, match=r"case c: no band B2, B8 in"):
        source.open(source.cases()[2])


def test_files_of_another_number_of_unnamed_bands_stay_an_error(tmp_path: Path) -> None:
    mask(tmp_path / "masks/a.tif")
    scene(tmp_path / "images/a.tif", ["", ""], 0)
    source = dataset(tmp_path, ["data=rasters", "data.channels=[B2,B4,B8]", LABELS, ALLOW])
    with pytest.raises(InputError, match=r"2 channel\(s\) in .*, expected 3 .*data\.bands"):
        source.open(source.cases()[0])


@pytest.mark.parametrize("entry", [[None, None, None], ["imagesTr/a_0000.nii.gz"]])
def test_a_list_of_an_msd_entry_names_each_channel(entry: list[str | None], tmp_path: Path) -> None:
    words = [*msd(tmp_path), ALLOW]
    path = tmp_path / "dataset.json"
    declared = json.loads(path.read_text())
    declared["training"][0]["image"] = entry
    path.write_text(json.dumps(declared))
    with pytest.raises(InputError, match=r"as an image, expected one file, or a file for each of the channels"):
        dataset(tmp_path, words).cases()


def test_test_cases_lack_channels_too(tmp_path: Path) -> None:
    source = dataset(tmp_path, [*msd(tmp_path), ALLOW])
    (case,) = source.test_cases()
    assert (case.id, case.absent) == ("c", (0, 2))


def test_two_cases_of_one_file_for_different_channels_are_stored_apart(tmp_path: Path) -> None:
    source = dataset(tmp_path, [*nnunet(tmp_path), ALLOW])
    first, second = tmp_path / "imagesTr/c_0001.nii.gz", tmp_path / "imagesTr/c_0002.nii.gz"
    before = fingerprint(source, source.cases(), tmp_path / "store")
    first.rename(second)
    after = fingerprint(source, source.cases(), tmp_path / "store")
    assert before.intensities[1] != after.intensities[1]


def series(root: Path) -> list[str]:
    """Case a lacks B4 on its second date, case b on both; c has every band and one date."""
    for name, dates in {"a": (("B2", "B4"), ("B2",)), "b": (("B2",), ("B2",)), "c": (("B2", "B4"),)}.items():
        mask(root / f"masks/{name}.tif")
        for number, own in enumerate(dates):
            scene(root / f"images/{name}_2020010{number + 1}.tif", own, ord(name) + number)
    return ["data=rasters", "data.channels=[B2,B4]", "data.dates={}", LABELS, ALLOW]


def test_a_date_may_lack_a_band(tmp_path: Path) -> None:
    source = dataset(tmp_path, series(tmp_path))
    samples = [source.read(case) for case in source.cases()]
    assert [s.present.tolist() for s in samples] == [
        [[True, True], [True, False]], [[True, False], [True, False]], [[True, True], [False, False]],
    ]  # fmt: skip
    assert [s.has.tolist() for s in samples] == [[True, True], [True, False], [True, True]]
    for sample in samples:
        assert sample.valid.all()
        assert np.isfinite(sample.image).all((2, 3)).tolist() == sample.present.tolist()
    batch = collate_windows([Window(sample, (0, 0, 0)) for sample in samples])
    assert batch.present.tolist() == [s.present.tolist() for s in samples]


@pytest.mark.parametrize("scheme", ["standard", "zscore", "unit_range"])
@pytest.mark.parametrize("arrays", [True, False])
def test_absent_bands_of_dates_are_0_in_the_store(scheme: str, arrays: bool, tmp_path: Path) -> None:
    source = dataset(tmp_path, series(tmp_path))
    prepare = Preprocess(None, (Normalisation(scheme, mean=20, std=2),) * 2)
    if not arrays and prepare.per_image:
        return
    for case in source.cases():
        reader = source.open(case)
        windows, grid, trace = prepared_windows(reader, prepare, (4, 4))
        stored: Any = write_case(tmp_path / "store" / case.id, windows, grid, trace, [], (4, 4), arrays=arrays)
        stored = stored if arrays else StreamedCase(stored, reader, prepare)
        for box in (Box.whole((10, 12)), Box.at((2, 3), (4, 4))):
            sample, raw = stored.read(box), reader.read(box)
            np.testing.assert_array_equal(sample.present, raw.present)
            np.testing.assert_array_equal(sample.days, raw.days)
            assert (sample.image[~sample.present] == 0).all()
            assert sample.image[sample.present].reshape(int(sample.present.sum()), -1).any(1).all()


def test_statistics_of_dates_leave_absent_bands_out(tmp_path: Path) -> None:
    source = dataset(tmp_path, series(tmp_path))
    facts = fingerprint(source, source.cases(), tmp_path / "store")
    read = [formats.open(tmp_path / f"images/{name}_20200101.tif").read()[1] for name in "ac"]
    assert facts.intensities[1].minimum == min(cells.min() for cells in read)
    assert facts.intensities[1].mean == pytest.approx(np.mean(read), rel=0.05)
    assert facts.warnings == {}


def test_a_time_series_may_lack_an_image_group(tmp_path: Path) -> None:
    for name in "ab":
        mask(tmp_path / f"masks/{name}.tif")
        for day in (1, 2):
            scene(tmp_path / f"optical/{name}_2020010{day}.tif", ["B4"], day)
            if name == "a":
                scene(tmp_path / f"radar/{name}_2020010{day}.tif", ["VV"], day + 5)
    words = ["data=rasters", "data.images={s1: radar, s2: optical}", "data.channels=[s1.VV,s2.B4]", "data.dates={}"]
    source = dataset(tmp_path, [*words, LABELS, ALLOW])
    samples = [source.read(case) for case in source.cases()]
    assert [s.present.tolist() for s in samples] == [[[True, True]] * 2, [[False, True]] * 2]
    assert all(sample.valid.all() for sample in samples)
