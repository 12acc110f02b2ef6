"""Time series from file to file: train, resume, predict, evaluate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

import medseg
from medseg import formats
from medseg.data.sampling.patch_dataset import CaseDataset
from medseg.errors import InputError
from medseg.evaluation.evaluate import evaluate
from medseg.factory.dataset import build_dataset
from medseg.factory.plan import build_plan
from medseg.factory.run import assemble
from medseg.hydra_app.compose import compose
from medseg.inference.dates import AtDates, at_dates
from medseg.inference.tiling import Tiling
from medseg.prediction.predict import predict
from medseg.sample import DataSpec
from medseg.training.train import train

TINY = (
    "data=phantom_series", "data.n_scenes=3", "data.n_test=1", "data.shape=[48,56]", "split.n_folds=3", "logger=csv",
    "trainer.steps_per_epoch=20", "plan.patch=[32,32]", "plan.batch_size=4",
    "optimizer.lr=0.01", "trainer.max_steps=20", "trainer.accelerator=cpu", "trainer.precision=32-true", "callback={}",
    "transform=none", "metric=scene", "judged=last",
)  # fmt: skip
UNET = ("model=unet", "model.base_features=8")
SMP = ("model=smp_unet", "model.encoder=tu-test_resnet", "model.decoder_channels=[16,16,16,16,16]")
ATTENTION = (*UNET, "temporal=attention", "temporal.pool.heads=4")


def configured(folder: Path, *overrides: str, name: str = "run") -> Any:
    places = [f"cache_dir={folder}/cache", f"run_dir={folder}/{name}"]
    return compose("train", [*TINY, *places, *overrides])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    train(configured(folder, *ATTENTION))
    return folder


@pytest.fixture(scope="module")
def images(run: Path) -> Path:
    drawn: Any = build_dataset(configured(run, *ATTENTION))
    return drawn.folder / "test_images"


def predicted(run: Path, source: Path, output: Path, *overrides: str) -> list[Path]:
    given = [f"checkpoint={run}/run/checkpoints/last.ckpt", f"input={source}", f"output={output}", "device=cpu"]
    return predict(compose("predict", [*given, *overrides]))


def copied(images: Path, folder: Path, rename: Callable[[str], str] = str) -> Path:
    for path in images.iterdir():
        target = folder / rename(path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def cells(path: Path) -> np.ndarray:
    with rasterio.open(path) as found:
        return found.read(1)


def test_a_network_that_sees_the_course_beats_chance(run: Path) -> None:
    train(
        configured(run, *SMP, "data.n_scenes=8", "trainer.max_steps=80", "trainer.steps_per_epoch=80", name="learned")
    )
    told = json.loads((run / "learned/metrics.json").read_text(encoding="utf-8"))
    assert told["summary"]["miou"]["mean"] > 0.4  # chance: 0.2; one class everywhere: 0.11
    assert (run / "learned/report.html").stat().st_size > 10_000


def test_a_checkpoint_knows_its_slots(run: Path) -> None:
    stored = torch.load(run / "run/checkpoints/last.ckpt", weights_only=True)["medseg"]
    assert DataSpec.from_dict(stored["spec"]).dates == 6
    assert stored["config"]["temporal"]["pool"]["heads"] == 4


def test_an_encoder_of_time_series_predicts_from_its_checkpoint(run: Path, images: Path, tmp_path: Path) -> None:
    small = ("size=v2_300_tl", "embed_dim=16", "depth=2", "num_heads=2")
    chosen = ("model=encoder_decoder", "model/encoder=prithvi", "model/decoder=linear", "temporal=native")
    sizes = (f"model.encoder.{setting}" for setting in small)
    few = ("trainer.max_steps=1", "trainer.steps_per_epoch=1", "test=false", f"run_dir={tmp_path}/run")
    train(configured(run, *chosen, *sizes, *few))
    (path,) = predicted(tmp_path, images, tmp_path / "maps")
    assert cells(path).shape == (48, 56)


@pytest.mark.parametrize("series", ["stack", "concat", "attention"])
def test_one_batch_is_learned_by_heart(series: str, tmp_path: Path, run: Path) -> None:
    few = ("trainer.steps_per_epoch=2", "plan.batch_size=2", f"temporal={series}")
    cfg = configured(run, *UNET, *few, name=f"heart-{series}")
    built = assemble(cfg, tmp_path)
    built.datamodule.prepare_data()
    built.datamodule.setup()
    batch = built.datamodule.transform(next(iter(built.datamodule.train_dataloader())))
    net, loss = built.method.network, built.method.loss
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    torch.manual_seed(0)
    for _ in range(60):
        optimizer.zero_grad()
        value, _ = loss(net(batch.image, **batch.context), batch.label, batch.valid)
        value.backward()
        optimizer.step()
    logits = net(batch.image, **batch.context)
    pred = (logits[0] if isinstance(logits, list) else logits).argmax(1)
    assert (pred == batch.label)[batch.valid].float().mean() > 0.9


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, run: Path) -> None:
    few = (*ATTENTION, "trainer.steps_per_epoch=2", "test=false", "transform=scene", "transform.date_drop.p=0.5",
           "scheduler=constant")  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(configured(run, *few, "trainer.max_steps=4", f"run_dir={whole}"))
    train(configured(run, *few, "trainer.max_steps=2", f"run_dir={cut}"))
    train(configured(run, *few, "trainer.max_steps=4", f"run_dir={cut}", "ckpt_path=last"))
    first, second = (torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for f in (whole, cut))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_maps_of_files_are_those_of_the_training_and_of_arrays(run: Path, images: Path, tmp_path: Path) -> None:
    (path,) = predicted(run, images, tmp_path / "maps")
    assert path.name == "field_003.tif"
    made = cells(path)
    sources = [formats.open(p) for p in sorted(images.iterdir())]
    with rasterio.open(path) as found:
        assert (found.shape, found.nodata) == (sources[0].grid.shape, 255)
        assert json.loads(found.tags()["CLASS_NAMES"]) == {"0": "grass", "1": "one_crop", "2": "two_crops"}
    labels = images.parent / "test_masks"
    evaluate(compose("evaluate", [f"predictions={tmp_path}/maps", f"labels={labels}", f"output={tmp_path}/scores",
                                  "names={grass: 0, one_crop: 1, two_crops: 2}", "background=null"]))  # fmt: skip
    scored = json.loads((tmp_path / "scores/metrics.json").read_text(encoding="utf-8"))
    told = json.loads((run / "run/metrics.json").read_text(encoding="utf-8"))
    assert scored["confusion"] == told["confusion"]
    predictor = medseg.load(run / "run/checkpoints/last.ckpt", device="cpu")
    read = [source.read_valid() for source in sources]
    array = np.stack([np.where(known, image, np.nan).astype(np.float32) for image, known in read])
    days = [int(np.datetime64(f"{n[:4]}-{n[4:6]}-{n[6:]}", "D").astype(int))
            for n in (source.path.stem.rpartition("_")[2] for source in sources)]  # fmt: skip
    given = predictor(array, sources[0].grid, days)
    valid = np.stack([known for _, known in read]).any(axis=0)
    assert (given == made)[valid].mean() > 0.999  # in windows, logits differ in their last bits
    assert not np.array_equal(predictor(array, sources[0].grid, [d + 120 for d in days]), given)
    again = predictor.file([source.path for source in reversed(sources)], tmp_path / "again.tif")
    np.testing.assert_array_equal(cells(again), made)


def test_a_folder_for_each_case_gives_the_same_map(run: Path, images: Path, tmp_path: Path) -> None:
    (expected,) = predicted(run, images, tmp_path / "maps")
    nested = copied(images, tmp_path / "nested", lambda name: f"north/S2_{name.rpartition('_')[2]}")
    (path,) = predicted(run, nested, tmp_path / "maps")
    assert path.name == "north.tif"
    np.testing.assert_array_equal(cells(path), cells(expected))
    other = copied(images, tmp_path / "other", lambda name: f"{name.rpartition('_')[2][:8]}T1200_south.tif")
    pattern = r"data.dates={pattern: '(?P<date>\d{8})T\d+_(?P<case>\w+)'}"
    (path,) = predicted(run, other, tmp_path / "maps", pattern)
    assert path.name == "south.tif"
    np.testing.assert_array_equal(cells(path), cells(expected))


def test_fewer_and_more_dates_than_slots_are_mapped(run: Path, images: Path, tmp_path: Path) -> None:
    fewer = copied(images, tmp_path / "fewer")
    for path in sorted(fewer.iterdir())[2:]:
        path.unlink()
    assert cells(predicted(run, fewer, tmp_path / "a")[0]).shape == (48, 56)
    more = copied(images, tmp_path / "more")
    for path in sorted(more.iterdir())[:4]:
        (more / f"{path.stem[:-2]}{int(path.stem[-2:]) % 28 + 1:02d}.tif").write_bytes(path.read_bytes())
    assert len(list(more.iterdir())) > 6
    assert cells(predicted(run, more, tmp_path / "b")[0]).shape == (48, 56)


def test_all_dates_in_one_file(run: Path, images: Path, tmp_path: Path) -> None:
    sources = [formats.open(path) for path in sorted(images.iterdir())]
    (tmp_path / "files").mkdir()
    cube = np.concatenate([source.read() for source in sources])
    formats.write_image(tmp_path / "files/cube.tif", cube, sources[0].grid, nodata=0)
    (path,) = predicted(run, tmp_path / "files", tmp_path / "maps", f"data.dates={{in_file: {len(sources)}}}")
    assert path.name == "cube.tif"
    with pytest.raises(InputError, match=r"expected a multiple of its 7 dates"):
        predicted(run, tmp_path / "files", tmp_path / "other", "data.dates={in_file: 7}")


def test_a_killed_map_goes_on_to_the_same_map(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = predicted(run, images, tmp_path / "once")
    from medseg.formats.sink import RasterSink

    append = RasterSink.append

    def fail(self: Any, rows: Any) -> None:
        if self.rows_done >= 8:
            raise KeyboardInterrupt
        append(self, rows)

    monkeypatch.setattr(RasterSink, "append", fail)
    with pytest.raises(KeyboardInterrupt):
        predicted(run, images, tmp_path / "twice")
    monkeypatch.setattr(RasterSink, "append", append)
    (path,) = predicted(run, images, tmp_path / "twice")
    np.testing.assert_array_equal(cells(path), cells(whole))


def test_what_stands_in_missing_slots_is_of_no_account_to_a_map(run: Path) -> None:
    predictor = medseg.load(run / "run/checkpoints/last.ckpt", device="cpu")
    built = assemble(configured(run, *ATTENTION, name="unused"), run / "unused")
    built.datamodule.prepare_data()
    built.datamodule.setup()
    stored = [case for part in built.datamodule.stored.values() for case in part]
    samples = [s for s in CaseDataset(stored) if s.present is not None and not s.present.all()]
    assert samples
    for sample in samples:
        assert sample.present is not None
        planes = torch.from_numpy(sample.planes.copy())
        network, tiling = at_dates(predictor.network, sample), Tiling(window=(32, 32), flip_axes=(0, 1))
        assert isinstance(network, AtDates)
        expected = tiling.logits(planes, network)
        planes[~torch.from_numpy(sample.present.reshape(-1))] = 7.0
        assert torch.equal(tiling.logits(planes, network), expected)


def test_mistakes_are_told_in_a_line(run: Path, images: Path, tmp_path: Path) -> None:
    undated = copied(images, tmp_path / "undated", lambda name: f"x{name[-5:]}")
    with pytest.raises(InputError, match="without a date in their names"):
        predicted(run, undated, tmp_path / "maps")
    with pytest.raises(InputError, match="joins tiles of single images, the network takes time series"):
        predicted(run, images, tmp_path / "maps", "mosaic=all")
    with pytest.raises(InputError, match="pretraining takes single images, and the data are time series"):
        train(configured(run, "method=mae", name="pretrained"))
    with pytest.raises(InputError, match=r"the days of two series differ"):
        train(configured(run, "transform=scene", "transform.cutmix.p=0.5", name="mixed"))
    assert not (tmp_path / "maps").exists()


def test_a_plan_makes_room_for_every_date(run: Path) -> None:
    cells = {}
    for series in ("stack", "mean"):
        cfg = configured(run, *UNET, "plan.patch=null", f"temporal={series}", "plan.memory_gb=0.002")
        source = build_dataset(cfg)
        cells[series] = np.prod(build_plan(cfg, source, source.cases()).patch)
    assert cells["mean"] < cells["stack"]
