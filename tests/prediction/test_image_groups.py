"""Prediction with image groups: a folder or a file for each, by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medseg
from medseg import formats
from medseg.doctor.examine import examine
from medseg.errors import InputError
from medseg.export import runner
from medseg.export.export import export
from medseg.factory.dataset import build_dataset
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from medseg.prediction.predict import predict
from medseg.training.train import train
from tests.tiny import SMALL, draw, save, utm_grid

TINY = (
    "data=rasters", "data.images={pre: before, post: after}", "data.sensor=sentinel2",
    "data.channels=[post.B4, pre.B8, {dB8: 'pre.B8 - post.B8'}]", "data.labels={background: 0, burned: 1}",
    "logger=csv", "trainer.steps_per_epoch=2", "plan.patch=[32,32]", "plan.batch_size=2", "model=unet",
    "model.base_features=4", "trainer.max_steps=2", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "callback={}", "transform=scene", "metric=overlap", "split.n_folds=3", "test=false",
)  # fmt: skip
GRID = utm_grid((32, 32))
NAMES = ["a.tif", "b.tif", "c.tif"]


def write_scenes(root: Path) -> None:
    for number, name in enumerate(NAMES):
        rng = np.random.default_rng(number)
        label = (rng.random(GRID.shape) < 0.3).astype(np.uint8)
        for folder, factor in (("before", 1), ("after", 1 - 0.8 * label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image = (rng.normal(100, 3, (2, *GRID.shape)) * factor).astype(np.float32)
            formats.write_image(root / folder / name, image, GRID, names=["B4", "B8"])
        (root / "masks").mkdir(exist_ok=True)
        formats.write(root / "masks" / name, label, GRID)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("groups")
    write_scenes(folder / "raw")
    train(compose("train", [*TINY, f"data.root={folder}/raw", f"cache_dir={folder}/cache", f"run_dir={folder}/run"]))
    return folder


def predicted(run: Path, source: str, output: Path, *overrides: str) -> list[np.ndarray]:
    given = [f"checkpoint={run}/run/checkpoints/last.ckpt", f"input={source}", f"output={output}", "device=cpu"]
    return [formats.open(path).read()[0] for path in predict(compose("predict", [*given, *overrides]))]


@pytest.fixture(scope="module")
def expected(run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    predictor, out = medseg.load(run / "run/checkpoints/last.ckpt", device="cpu"), tmp_path_factory.mktemp("expected")
    raw = run / "raw"
    made = [predictor.file({"post": raw / "after" / n, "pre": raw / "before" / n}, out / n) for n in NAMES]
    maps = [formats.open(path).read()[0] for path in made]
    assert len({cells.tobytes() for cells in maps}) > 1
    return maps


@pytest.mark.parametrize("source", ["{{post: {raw}/after, pre: {raw}/before}}", "{raw}"])
def test_folders_by_name_and_the_folder_of_the_training(
    source: str, run: Path, expected: list[np.ndarray], tmp_path: Path
) -> None:
    np.testing.assert_array_equal(predicted(run, source.format(raw=run / "raw"), tmp_path / "maps"), expected)


def test_folders_called_after_the_groups(run: Path, expected: list[np.ndarray], tmp_path: Path) -> None:
    for folder, group in (("before", "pre"), ("after", "post")):
        (tmp_path / "new" / group).parent.mkdir(exist_ok=True)
        (tmp_path / "new" / group).symlink_to(run / "raw" / folder)
    np.testing.assert_array_equal(predicted(run, f"{tmp_path}/new", tmp_path / "maps"), expected)


@pytest.mark.parametrize("target", ["maps", "one.tif"])
def test_a_file_for_each_group_is_one_case(target: str, run: Path, expected: list[np.ndarray], tmp_path: Path) -> None:
    source = f"{{pre: {run}/raw/before/b.tif, post: {run}/raw/after/b.tif}}"
    (found,) = predicted(run, source, tmp_path / target)
    np.testing.assert_array_equal(found, expected[1])
    assert (tmp_path / ("maps/b.tif" if target == "maps" else target)).is_file()


WRONG = {
    "one file": ("{raw}/before/a.tif", r"expected a folder or file for each image group, 'input=\{pre: FOLDER, "),
    "two folders without names": ("[{raw}/before,{raw}/after]", r"'input=\{pre: FOLDER, post: FOLDER\}', or one"),
    "one group": ("{{pre: {raw}/before}}", r"got the image groups pre, expected those of the training: pre, post"),
    "another group": (
        "{{pre: {raw}/before, now: {raw}/after}}", r"got the image groups pre, now, expected those of the training"
    ),
    "a file and a folder": ("{{pre: {raw}/before/a.tif, post: {raw}/after}}", r"got the file .*a\.tif in a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_other_groups_are_refused_in_one_line(name: str, run: Path, tmp_path: Path) -> None:
    source, message = WRONG[name]
    with pytest.raises(InputError, match=message) as error:
        predicted(run, source.format(raw=run / "raw"), tmp_path / "maps")
    assert len(str(error.value).splitlines()) == 1
    assert not list(tmp_path.glob("maps/*.tif"))


def test_files_by_name_have_to_be_those_of_the_training(run: Path, tmp_path: Path) -> None:
    predictor = medseg.load(run / "run/checkpoints/last.ckpt", device="cpu")
    file = run / "raw/before/a.tif"
    with pytest.raises(InputError, match=r"got the image groups pre, expected those of the training: pre, post"):
        predictor.file({"pre": file}, tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"got 1 file\(s\), expected one for each image group: pre, post"):
        predictor.file(file, tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"mosaic=area joins tiles of images without groups; leave it out"):
        predicted(run, f"{run}/raw", tmp_path / "maps", "mosaic=area")


def test_the_exported_runner_reads_the_same_bands(run: Path, expected: list[np.ndarray], tmp_path: Path) -> None:
    words = [f"checkpoint={run}/run/checkpoints/last.ckpt", f"output={tmp_path}/out"]
    export(compose("export", words))
    exported = runner.Predictor(tmp_path / "out")
    cases = runner.find_cases([run / "raw"], exported.settings)
    assert [name for name, _ in cases] == ["a", "b", "c"]
    for (name, files), cells in zip(cases, expected, strict=True):
        target = exported.file(files, tmp_path / f"{name}.tif")
        np.testing.assert_array_equal(formats.open(target).read()[0], cells)
    with pytest.raises(runner.Refusal, match="got 1 files, expected one for each image group: pre, post"):
        exported.file([run / "raw/before/a.tif"], tmp_path / "a.tif")


def test_the_doctor_names_bands_with_their_group(run: Path) -> None:
    cfg = compose("check", [*(w for w in TINY if w.startswith("data")), f"data.root={run}/raw"])
    survey = examine(build_dataset(cfg))[0]
    for facts in survey.cases:
        assert [c.name for c in facts.channels] == ["pre.B8", "post.B4", "post.B8"]
        assert facts.channels[0].minimum > 80 > facts.channels[2].minimum


@pytest.fixture(scope="module")
def partial_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in which one case lacks its image before, and another that after; groups are dropped, too."""
    folder = tmp_path_factory.mktemp("partial")
    write_scenes(folder / "raw")
    (folder / "raw/before/b.tif").unlink()
    (folder / "raw/after/c.tif").unlink()
    own = ["data.absent=allow", "transform.group_drop.p=0.5", "split.fold=all", "test=true"]
    places = [f"data.root={folder}/raw", f"cache_dir={folder}/cache", f"run_dir={folder}/run"]
    train(compose("train", [*TINY, *own, *places]))
    return folder


def inputs_of(predictor: Any) -> list[torch.Tensor]:
    """What the network of a predictor is given, window by window."""
    seen: list[torch.Tensor] = []
    predictor.network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach().clone()))
    return seen


@pytest.mark.parametrize(
    ("name", "small"),
    [("scene.tif", utm_grid((20, 50))), ("photo.png", Grid((20, 50), np.eye(3), PIXEL))],
    ids=["streamed", "whole"],
)
def test_the_network_sees_0_where_a_group_is_absent(name: str, small: Grid, partial_run: Path, tmp_path: Path) -> None:
    predictor = medseg.load(partial_run / "run/checkpoints/last.ckpt", device="cpu")
    seen = inputs_of(predictor)
    image = np.random.default_rng(0).normal(100, 3, (2, *small.shape)).astype(np.float32)
    formats.write_image(tmp_path / "a.tif", image, small, names=["B4", "B8"])
    predictor.file({"post": tmp_path / "a.tif"}, tmp_path / name)
    assert len(seen) > 1
    for window in seen:
        assert (window[:, 1:] == 0).all()
        assert window[:, 0].any()
    seen.clear()
    predictor.file({"pre": tmp_path / "a.tif"}, tmp_path / name)
    assert all((window[:, [0, 2]] == 0).all() and window[:, 1].any() for window in seen)


def test_an_array_lacks_channels_that_are_nan_everywhere(partial_run: Path, run: Path, tmp_path: Path) -> None:
    predictor = medseg.load(partial_run / "run/checkpoints/last.ckpt", device="cpu")
    source = formats.open(partial_run / "raw/after/b.tif")
    image = np.full((3, *GRID.shape), np.nan, np.float32)
    image[0] = source.read()[0]
    target = predictor.file({"post": source.path}, tmp_path / "b.tif")
    np.testing.assert_array_equal(predictor(image, GRID), formats.open(target).read()[0])
    seen = inputs_of(predictor)
    predictor(np.full_like(image, np.nan), GRID)
    assert all((window == 0).all() for window in seen)
    other = medseg.load(run / "run/checkpoints/last.ckpt", device="cpu")
    seen = inputs_of(other)
    assert (other(image, GRID) == 0).all()
    assert all((window == 0).all() for window in seen)


def test_files_of_another_group_are_other_images(partial_run: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/a.tif").write_bytes((partial_run / "raw/after/a.tif").read_bytes())
    predicted(partial_run, f"{{post: {tmp_path}/new}}", tmp_path / "maps")
    with pytest.raises(InputError, match="1 of 1 label files are there already and can't be kept: 1 made with other"):
        predicted(partial_run, f"{{pre: {tmp_path}/new}}", tmp_path / "maps")


def test_cases_without_a_group_are_predicted_where_the_training_had_some(partial_run: Path, tmp_path: Path) -> None:
    raw = partial_run / "raw"
    whole = predicted(partial_run, f"{raw}", tmp_path / "maps")
    assert [path.name for path in sorted((tmp_path / "maps").glob("*.tif"))] == ["a.tif", "b.tif", "c.tif"]
    (single,) = predicted(partial_run, f"{{post: {raw}/after/b.tif}}", tmp_path / "b")
    np.testing.assert_array_equal(single, whole[1])
    cases = json.loads((partial_run / "run/metrics.json").read_text())["cases"]
    assert {entry["case"] for entry in cases} <= {"a", "b", "c"}
    with pytest.raises(InputError, match=r"got the image groups now, expected those of the training: pre, post$"):
        predicted(partial_run, f"{{now: {raw}/after}}", tmp_path / "now")


def test_the_training_without_absent_groups_says_why_it_refuses(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the network has learned to do without none \(data\.absent=error\)"):
        predicted(run, f"{{post: {run}/raw/after}}", tmp_path / "maps")


def test_the_doctor_takes_a_case_without_a_group(partial_run: Path) -> None:
    words = [*(w for w in TINY if w.startswith("data")), f"data.root={partial_run}/raw", "data.absent=allow"]
    survey, findings = examine(build_dataset(compose("check", words)))
    names = [[c.name for c in facts.channels] for facts in survey.cases]
    assert names == [["pre.B8", "post.B4", "post.B8"], ["post.B4", "post.B8"], ["pre.B8"]]
    assert not [finding for finding in findings if finding.severity == "error"]


def volumes(root: Path) -> list[str]:
    for folder in ("T1w", "T2w", "labels"):
        (root / folder).mkdir(parents=True)
    for number in range(3):
        image, label = draw(number)
        for folder, cells in (("T1w", image), ("T2w", -image), ("labels", label)):
            save(root / folder / f"c{number}.nii.gz", cells)
    return [
        "data=volumes", "data.images={t1: T1w, t2: T2w}", "data.channels=[t2,t1]", f"data.root={root}",
        "data.labels={background: 0, anterior: 1, posterior: 2}",
    ]  # fmt: skip


def test_volumes_of_several_folders_train_predict_and_are_exported(tmp_path: Path) -> None:
    own, small = volumes(tmp_path / "raw"), [w for w in SMALL if w != "data=nnunet"]
    places = [f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run", "test=false", "split.n_folds=3"]
    train(compose("train", [*small, *own, *places]))
    found = predicted(tmp_path, f"{{t2: {tmp_path}/raw/T2w, t1: {tmp_path}/raw/T1w}}", tmp_path / "maps")
    export(compose("export", [f"checkpoint={tmp_path}/run/checkpoints/last.ckpt", f"output={tmp_path}/out"]))
    exported = runner.Predictor(tmp_path / "out")
    for (name, files), cells in zip(runner.find_cases([tmp_path / "raw"], exported.settings), found, strict=True):
        own_cells = formats.open(exported.file(files, tmp_path / f"{name}.nii.gz")).read()[0]
        np.testing.assert_array_equal(own_cells, cells)


def test_volumes_may_lack_a_group(tmp_path: Path) -> None:
    own, small = volumes(tmp_path / "raw"), [w for w in SMALL if w not in ("data=nnunet", "transform=light")]
    (tmp_path / "raw/T2w/c1.nii.gz").unlink()
    places = [f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run", "test=false", "split.fold=all"]
    train(
        compose("train", [*small, *own, *places, "data.absent=allow", "transform=nnunet", "transform.group_drop.p=0.5"])
    )
    found = predicted(tmp_path, f"{{t1: {tmp_path}/raw/T1w}}", tmp_path / "maps")
    assert [cells.shape for cells in found] == [(20, 20, 20)] * 3
    predictor = medseg.load(tmp_path / "run/checkpoints/last.ckpt", device="cpu")
    seen = inputs_of(predictor)
    predictor.file({"t2": tmp_path / "raw/T2w/c0.nii.gz"}, tmp_path / "c0.nii.gz")
    assert all((window[:, 1] == 0).all() and window[:, 0].any() for window in seen)


def test_a_series_is_predicted_from_the_folders_of_its_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "abc":
        for folder, day in (("s1", 1), ("s1", 2), ("s2", 1), ("s2", 2)):
            (tmp_path / "raw" / folder).mkdir(parents=True, exist_ok=True)
            image = rng.normal(100, 3, (1, *GRID.shape)).astype(np.float32)
            formats.write_image(tmp_path / f"raw/{folder}/{name}_2020010{day}.tif", image, GRID, names=["V"])
        (tmp_path / "raw/masks").mkdir(exist_ok=True)
        formats.write(tmp_path / f"raw/masks/{name}.tif", (rng.random(GRID.shape) < 0.5).astype(np.uint8), GRID)
    shared = [w for w in TINY if not w.startswith(("data.images", "data.channels", "data.sensor"))]
    own = ["data.images={s1: s1, s2: s2}", "data.channels=[s2.V,s1.V]", "data.dates={}", f"data.root={tmp_path}/raw"]
    train(compose("train", [*shared, *own, f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"]))
    found = predicted(tmp_path, f"{{s2: {tmp_path}/raw/s2, s1: {tmp_path}/raw/s1}}", tmp_path / "maps")
    predictor = medseg.load(tmp_path / "run/checkpoints/last.ckpt", device="cpu")
    files = [tmp_path / f"raw/{folder}/a_2020010{day}.tif" for day in (1, 2) for folder in ("s1", "s2")]
    target = predictor.file(files, tmp_path / "a.tif")
    np.testing.assert_array_equal(formats.open(target).read()[0], found[0])


def test_remote_folders_of_groups_are_refused(run: Path) -> None:
    from medseg.hydra_app.local_paths import check_local

    cfg = compose("train", [*TINY, "data.images={pre: before, post: 's3://x'}", f"data.root={run}"])
    with pytest.raises(InputError, match=r"data\.images=s3://x: remote and virtual paths are not read"):
        check_local(cfg)
