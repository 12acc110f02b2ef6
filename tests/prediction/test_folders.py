"""Prediction where the bands of a case lie in several folders, in files of one name."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

import medseg
from medseg import formats
from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.prediction.inputs import find_cases
from medseg.prediction.predict import predict
from medseg.training.train import train
from tests.tiny import SMALL, write_nnunet, write_planar

TINY = (
    "data=rasters", "data.images=[radar,optical]", "data.channels=[VV,B4,B8]", "logger=csv",
    "trainer.steps_per_epoch=2",
    "data.labels={background: 0, road: 1, river: 7}", "plan.patch=[32,32]", "plan.batch_size=2", "model=unet",
    "model.base_features=4", "trainer.max_steps=2", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "callback={}", "transform=none", "metric=overlap", "split.n_folds=3", "test=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders")
    given = [*TINY, f"data.root={folder}/raw", f"cache_dir={folder}/cache", f"run_dir={folder}/run"]
    cfg = compose("train", given)
    write_planar(folder / "raw", cfg, shape=(32, 32))
    train(cfg)
    return folder


@pytest.fixture
def raw(run: Path, tmp_path: Path) -> Path:
    """A copy of the scenes, to be spoilt."""
    for path in sorted((run / "raw").rglob("*.tif")):
        copy = tmp_path / path.relative_to(run)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path / "raw"


def predicted(run: Path, source: str, output: Path, *overrides: str) -> list[Path]:
    given = [f"checkpoint={run}/run/checkpoints/last.ckpt", f"input={source}", f"output={output}", "device=cpu"]
    return predict(compose("predict", [*given, *overrides]))


def maps(paths: list[Path]) -> dict[str, np.ndarray]:
    return {path.name: formats.open(path).read()[0] for path in paths}


@pytest.fixture(scope="module")
def expected(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    predictor, out = medseg.load(run / "run/checkpoints/last.ckpt", device="cpu"), tmp_path_factory.mktemp("expected")
    names = sorted(path.name for path in (run / "raw/radar").iterdir())
    return maps([predictor.file([run / "raw" / f / name for f in ("radar", "optical")], out / name) for name in names])


@pytest.mark.parametrize("source", ["[{raw}/radar,{raw}/optical]", "[{raw}/optical,{raw}/radar]", "{raw}"])
def test_files_of_one_name_are_one_case(
    source: str, run: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    found = maps(predicted(run, source.format(raw=run / "raw"), tmp_path / "maps"))
    assert list(found) == ["case_0.tif", "case_1.tif", "case_2.tif"]
    for name, cells in expected.items():
        np.testing.assert_array_equal(found[name], cells)
    with (
        rasterio.open(tmp_path / "maps/case_0.tif") as made,
        rasterio.open(run / "raw/radar/case_0.tif") as source_file,
    ):
        assert (made.transform, made.crs, made.shape) == (source_file.transform, source_file.crs, source_file.shape)


def test_a_folder_of_files_with_all_bands_does_as_well(
    raw: Path, run: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    parts = [formats.open(raw / folder / "case_1.tif") for folder in ("optical", "radar")]
    (tmp_path / "whole").mkdir()
    bands, names = np.concatenate([p.read() for p in parts]), [n for p in parts for n in p.names]
    formats.write_image(tmp_path / "whole/case_1.tif", bands, parts[0].grid, names=names)
    found = maps(predicted(run, f"{tmp_path}/whole", tmp_path / "maps"))
    np.testing.assert_array_equal(found["case_1.tif"], expected["case_1.tif"])


def rename(raw: Path) -> None:
    (raw / "optical").rename(raw / "other")


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a file is absent": (
        lambda raw: (raw / "optical/case_1.tif").unlink(), "{raw}",
        r"1 file\(s\) of .*radar without one of the same name in .*optical: case_1; add the files",
    ),
    "a file too many": (
        lambda raw: (raw / "radar/case_1.tif").unlink(), "[{raw}/radar,{raw}/optical]",
        r"1 file\(s\) of .*optical without one of the same name in .*radar: case_1; add the files",
    ),
    "a sub-folder is absent": (
        rename, "{raw}", r"no folder optical in it; the training took the bands of each case from radar, optical",
    ),
    "a folder is absent": (rename, "[{raw}/radar,{raw}/optical]", r"input=.*/optical: no such file or folder"),
    "none": (rename, "[]", r"input=\[\]: no such file or folder"),
    "files": (rename, "[{raw}/radar/case_1.tif,{raw}/other]", r"file .*case_1\.tif in a list, expected folders"),
    "a folder twice": (
        rename, "[{raw}/radar,{raw}/other,{raw}/radar]",
        r"case_0: got band VV, B4 more than once in .*; give each band once",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_incomplete_cases_are_refused_in_one_line(name: str, run: Path, raw: Path, tmp_path: Path) -> None:
    change, source, told = WRONG[name]
    change(raw)
    with pytest.raises(InputError, match=told) as error:
        predicted(run, source.format(raw=raw), tmp_path / "maps")
    assert len(str(error.value).splitlines()) == 1
    assert not list(tmp_path.glob("maps/*.tif"))


def test_tiles_of_several_folders_are_not_joined(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mosaic=area joins the tiles of one folder, input names 2; join those"):
        predicted(run, f"{run}/raw", tmp_path / "maps", "mosaic=area")


def test_volumes_have_their_channels_in_one_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got 2 folders, expected one; the channels of a volume lie in one folder"):
        find_cases([tmp_path, tmp_path], 2, ndim=3)


def test_a_folder_in_the_layout_of_the_training_is_read_by_its_names(tmp_path: Path) -> None:
    """Both files of a case, in the order of the channels, and not its label, which lies beside them."""
    layout = {"flair": "imagesTr/{}_0000", "t1": "imagesTr/{}_0001", "seg": "labelsTr/{}"}
    write_nnunet(tmp_path / "old", n_cases=3, channels=("FLAIR", "T1"))
    for case, (name, path) in itertools.product(("c0", "c1", "c2"), layout.items()):
        (tmp_path / "raw" / case).mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / f"{path.format(case)}.nii.gz").rename(tmp_path / "raw" / case / f"{name}.nii.gz")
    patterns = {name: rf"'(?P<case>.+)/{name}\.nii\.gz'" for name in layout}
    names = f"data.names={{image: [{patterns['flair']}, {patterns['t1']}], label: {patterns['seg']}}}"
    own = ["data=volumes", "data.channels=[FLAIR,T1]", "data.labels={background: 0, anterior: 1, posterior: 2}", names]
    small = [w for w in SMALL if w != "data=nnunet"]
    places = [f"data.root={tmp_path}/raw", f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run", "test=false"]
    train(compose("train", [*small, *own, "split.n_folds=3", *places]))
    assert [p.name for p in predicted(tmp_path, f"{tmp_path}/raw", tmp_path / "new")] == [
        f"c{n}.nii.gz" for n in range(3)
    ]
    predictor = medseg.load(tmp_path / "run/checkpoints/last.ckpt", device="cpu")
    images = [tmp_path / f"raw/c1/{name}.nii.gz" for name in ("flair", "t1")]
    predictor.file(images, tmp_path / "by_hand.nii.gz")
    np.testing.assert_array_equal(
        formats.open(tmp_path / "new/c1.nii.gz").read(), formats.open(tmp_path / "by_hand.nii.gz").read()
    )
