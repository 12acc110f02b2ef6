"""Predictions by several workers: the same files as by one process, each case once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg import formats
from medseg.errors import InputError
from medseg.factory import engine as engines
from medseg.hydra_app.compose import compose
from medseg.prediction.predict import predict
from medseg.prediction.record import RECORD
from medseg.runtime.progress import Watch
from tests import tiny_checkpoint
from tests.engine.reversed import Reversed
from tests.tiny import utm_grid

NAMES = [f"scene{n}" for n in range(5)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``best.ckpt`` and ``images``."""
    folder = tmp_path_factory.mktemp("workers")
    tiny_checkpoint.write(folder / "best.ckpt", tiny_checkpoint.contents())
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    for name in NAMES:
        cells = generator.integers(0, 255, (2, 24, 20)).astype(np.float32)
        formats.write_image(folder / f"images/{name}.tif", cells, utm_grid((24, 20)), names=["R", "G"])
    return folder


def run(place: Path, output: Path, *words: str) -> list[Path]:
    given = [f"checkpoint={place}/best.ckpt", f"input={place}/images", f"output={output}", "device=cpu"]
    return predict(compose("predict", [*given, *words]))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix in (".tif", ".gpkg")}


@pytest.fixture(scope="module")
def expected(place: Path) -> dict[str, bytes]:
    run(place, place / "expected")
    assert [path.name for path in sorted((place / "expected").glob("*.tif"))] == [f"{name}.tif" for name in NAMES]
    return files(place / "expected")


def cases_of(output: Path) -> dict[str, Any]:
    stored = json.loads((output / RECORD).read_text(encoding="utf-8"))["cases"]
    return {name: {key: entry[key] for key in ("images", "outputs", "unfinished")} for name, entry in stored.items()}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_workers_write_what_this_process_writes(
    elsewhere: bool, place: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order, and on other machines."""
    monkeypatch.setattr(engines, "build_engine", lambda cfg: Reversed(elsewhere=elsewhere))
    monkeypatch.chdir(place)
    out = f"out-{elsewhere}"
    predict(compose("predict", ["checkpoint=best.ckpt", "input=images", f"output={out}", "device=cpu"]))
    assert files(place / out) == expected
    assert cases_of(place / out) == cases_of(place / "expected"), "with every digest"
    run(place, place / out)  # would refuse files of another origin
    run(place, place / out, "polygons=true")
    written = files(place / out)
    assert sorted(name for name in written if name.endswith("gpkg")) == [f"{name}.gpkg" for name in NAMES]
    assert {name: written[name] for name in expected} == expected
    assert all(not entry["unfinished"] for entry in cases_of(place / out).values())


def test_a_case_that_a_worker_cannot_read_does_not_stop_the_others(
    place: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "build_engine", lambda cfg: Reversed())
    broken = tmp_path / "images"
    broken.mkdir()
    for path in (place / "images").iterdir():
        (broken / path.name).write_bytes(path.read_bytes()[: 100 if path.stem == "scene3" else None])
    with pytest.raises(InputError, match=r"scene3\.tif: .* \(the other 4 of 5 cases are in .*out\)"):
        run(place, tmp_path / "out", f"input={broken}")
    assert files(tmp_path / "out") == {name: cells for name, cells in expected.items() if name != "scene3.tif"}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_checkpoint_that_is_another_one_in_a_worker_is_not_used(
    elsewhere: bool, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace() -> None:
        held = tiny_checkpoint.contents()
        tiny_checkpoint.write(tmp_path / "best.ckpt", held, lambda h: next(iter(h["state_dict"].values())).add_(1))

    (tmp_path / "best.ckpt").write_bytes((place / "best.ckpt").read_bytes())
    monkeypatch.setattr(engines, "build_engine", lambda cfg: Reversed(elsewhere=elsewhere, before=replace))
    message = "the workers read another file under this path" if elsewhere else "reads another checkpoint, or predicts"
    with pytest.raises(InputError, match=message):
        run(place, tmp_path / "out", f"checkpoint={tmp_path}/best.ckpt")
    assert not (tmp_path / "out/scene0.tif").exists()


def test_a_single_case_is_predicted_here_and_says_how_far_it_is(
    place: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[tuple[int, int]] = []
    monkeypatch.setattr("medseg.runtime.progress.Watch.part", lambda self, done, whole: parts.append((done, whole)))
    given = f"input={place}/images/scene2.tif"
    run(place, tmp_path / "scene2.tif", given, "engine.processes=4")
    assert (tmp_path / "scene2.tif").read_bytes() == expected["scene2.tif"]
    assert parts[-1] == (24, 24)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("engine.processes=2",), ("engine=dask", "engine.workers=2")])
def test_each_engine_writes_the_same_files(
    words: tuple[str, ...], place: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    run(place, tmp_path / "out", *words)
    assert files(tmp_path / "out") == expected


@pytest.mark.slow
@pytest.mark.parametrize("words", [("engine.processes=2",), ("engine=dask", "engine.workers=2")])
def test_a_worker_that_is_killed_halfway_costs_nothing_but_time(
    words: tuple[str, ...], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every case once, none missing, the same files as by this process."""
    psutil = pytest.importorskip("psutil")
    (tmp_path / "images").mkdir()
    for number in range(12):
        (tmp_path / f"images/s{number:02d}.tif").symlink_to(place / f"images/{NAMES[number % len(NAMES)]}.tif")
    done: list[float] = []
    advance = Watch.advance

    def advance_and_kill(watch: Watch) -> None:
        advance(watch)
        done.append(0)
        if len(done) == 6:
            children = psutil.Process().children(recursive=True)
            next(child for child in children if "spawn_main" in " ".join(child.cmdline())).kill()

    run(place, tmp_path / "here", f"input={tmp_path}/images")
    monkeypatch.setattr(Watch, "advance", advance_and_kill)
    run(place, tmp_path / "out", f"input={tmp_path}/images", *words)
    assert len(done) == 12
    assert files(tmp_path / "out") == files(tmp_path / "here")
    assert len(files(tmp_path / "out")) == 12
    assert cases_of(tmp_path / "out") == cases_of(tmp_path / "here")


def test_an_engine_that_does_not_answer_leaves_nothing(place: Path, tmp_path: Path) -> None:
    address = ["engine=dask", "engine.address=tcp://127.0.0.1:9", "engine.timeout=0.2"]
    with pytest.raises(InputError, match=r"engine\.address=tcp://127\.0\.0\.1:9: no Dask scheduler answers"):
        run(place, tmp_path / "out", *address)
    assert not (tmp_path / "out").exists()
