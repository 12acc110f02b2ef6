"""What was exported predicts in medseg as the checkpoints that it was made of."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import medseg
from medseg import checkpoint, formats
from medseg.errors import InputError
from medseg.export import contents, networks, runner
from medseg.export.export import export
from medseg.export.public import published, without_paths
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from medseg.prediction import restore
from medseg.prediction.checkpoints import find_checkpoints, read_checkpoints
from tests import tiny_checkpoint

IMAGE = np.random.default_rng(0).normal(2, 1, (2, 21, 18)).astype(np.float32)
GRID = Grid.regular((21, 18), (1.0, 1.0), PIXEL)
STEPS = [{"step": "remove_small", "classes": ["a"], "size": 9, "unit": "px"}]


def private(held: dict[str, Any]) -> dict[str, Any]:
    """A training of somebody, on a machine of theirs."""
    stored = held["medseg"]
    stored["config"] |= {"run_dir": "/home/somebody/runs/a", "cache_dir": "~/cache"}
    stored["config"]["data"]["root"] = "/clinic/patients"
    stored["provenance"] |= {"command": ["medseg-train", "data.root=/clinic/patients"], "git": {"commit": "f00d"}}
    stored["provenance"]["data"] = {"train": ["smith_john"], "val": [], "files": {"smith_john": "1f"}}
    return held


def other(held: dict[str, Any]) -> dict[str, Any]:
    seeded = torch.Generator().manual_seed(1)
    state = {name: t + 0.1 * torch.rand(t.shape, generator=seeded) for name, t in held["state_dict"].items()}
    return held | {"state_dict": state}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, held = tmp_path_factory.mktemp("members"), private(tiny_checkpoint.contents())
    return [tiny_checkpoint.write(folder / f"{n}.ckpt", one) for n, one in enumerate([held, other(held)])]


@pytest.fixture(scope="module")
def selection(members: list[Path]) -> Path:
    """Of two networks, with mirrors and post-processing."""
    named = [{"checkpoint": str(path), "digest": checkpoint.read(path).digest} for path in members]
    stored = {"format": 1, "members": named, "flips": True, "postprocessing": STEPS}
    path = members[0].with_name("selection.yaml")
    path.write_text(yaml.safe_dump(stored | {"evidence": {"configurations": {"a": [str(members[0])]}}}))
    return path


def exported(source: Path, target: Path, *more: str) -> Path:
    return export(compose("export", [f"checkpoint={source}", f"output={target}", "format=pt2", *more]))


@pytest.fixture(scope="module")
def archive(selection: Path) -> Path:
    return exported(selection, selection.with_name("both.zip"))


@pytest.fixture(scope="module")
def folder(archive: Path) -> Path:
    shutil.unpack_archive(archive, archive.parent)
    return archive.with_suffix("")


def arrays(named: Any, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    predictor = restore.predictor(named, device="cpu", **settings)
    sample = medseg.Sample(IMAGE, None, np.ones((21, 18), dtype=bool), GRID, "x", "x")
    return predictor.arrays.index_and_prob(sample)


def same(named: Any, original: Any, **settings: Any) -> None:
    for own, theirs in zip(arrays(named), arrays(original, **settings), strict=True):
        np.testing.assert_array_equal(own, theirs)


def test_an_archive_and_its_folder_predict_as_the_selection(archive: Path, folder: Path, selection: Path) -> None:
    same(str(archive), selection)
    same(folder, selection)
    same(folder / "selection.yaml", selection)
    assert (arrays(archive)[0] != arrays(list(read_checkpoints(selection).choice.paths))[0]).any(), "flips and steps"


def test_the_command_predicts_from_an_archive(archive: Path, selection: Path, tmp_path: Path) -> None:
    formats.write_image(tmp_path / "in.tif", IMAGE, GRID, names=["R", "G"])
    for name, source in (("own", archive), ("ours", selection)):
        given = [f"checkpoint={source}", f"input={tmp_path}/in.tif", f"output={tmp_path}/{name}", "device=cpu"]
        medseg.predict(*given)
    own, ours = (formats.open(tmp_path / name / "in.tif").read() for name in ("own", "ours"))
    np.testing.assert_array_equal(own, ours)


def test_settings_of_the_export_stay(members: list[Path], tmp_path: Path) -> None:
    target = exported(members[0], tmp_path / "out", "flips=true", "overlap=0.75")
    same(target, members[0], flips=True, overlap=0.75)
    described = json.loads((target / "predictor.json").read_text())["members"][0]
    assert described["digest"] == checkpoint.read(target / "model.ckpt").digest == find_checkpoints(target).digests[0]


def test_an_export_can_be_exported_again_and_be_a_member(members: list[Path], tmp_path: Path) -> None:
    first = exported(members[0], tmp_path / "first")
    second = exported(first, tmp_path / "second.zip")
    same([str(second), str(members[1])], members)


def test_nothing_exported_names_cases_or_paths_of_the_machine(folder: Path, members: list[Path]) -> None:
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes()
        if path.suffix == ".pt2":
            shutil.unpack_archive(path, folder.parent / "unpacked", "zip")
            content = b"".join(part.read_bytes() for part in folder.parent.glob("unpacked/**/*") if part.is_file())
        for word in (b"smith_john", b"/clinic", b"somebody", b"~/cache", b"f00d", *map(_bytes, _places(members))):
            assert word not in content, (path.name, word)
    assert checkpoint.read(folder / "model.ckpt").metadata.config["data"]["root"] == "patients"


def _places(members: list[Path]) -> list[Path]:
    return [members[0].parent, Path(medseg.__file__).parent, Path(torch.__file__).parent, Path.home()]


def _bytes(path: Path) -> bytes:
    return f"{path}/".encode()


def test_onnx_files_have_no_paths(tmp_path: Path) -> None:
    program = networks.traced(torch.nn.Conv2d(1, 1, 1), 1, (4, 4), "")
    networks.write_onnx(program, tmp_path / "network.onnx", "")
    assert b".py" not in (tmp_path / "network.onnx").read_bytes()


def test_paths_are_cut_and_other_words_stay() -> None:
    kept = ["hf-hub:owner/name@v1", "https://example.org/a/b", "(N - R) / (N + R)", "images/{case}.tif", "runs/a", 3]
    assert without_paths(kept) == kept
    assert without_paths({"a": ["/x/y z", "~/b", "C:\\d\\e", "input=[/f/g,h,/i/j/]", "{a: /k/l, b: '/m/n'}"]}) == {
        "a": ["y z", "b", "e", "input=[g,h,j]", "{a: l, b: 'n'}"]
    }


def test_what_is_published_of_a_checkpoint_predicts_the_same(members: list[Path]) -> None:
    one = checkpoint.read(members[0])
    same(published(one), members[0])
    assert published(published(one)).digest == published(one).digest


def test_the_temperature_goes_with_an_export_of_one_network(members: list[Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(members[0], tmp_path / "calibrated.ckpt"))
    checkpoint.store_calibration(path, {"temperature": 2.0})
    target = exported(path, tmp_path / "out")
    assert json.loads((target / "predictor.json").read_text())["temperature"] == 2.0
    assert runner.Predictor(target).members[0].temperature == 2.0
    assert restore.predictor(target).temperature == 2.0
    assert restore.predictor([target, members[1]]).temperature == 1.0


def test_a_first_stage_is_published_too(members: list[Path], tmp_path: Path) -> None:
    held = private(tiny_checkpoint.contents())
    path = tiny_checkpoint.write(tmp_path / "both.ckpt", held | {checkpoint.FIRST_STAGE: held | {"global_step": 3}})
    one = published(checkpoint.read(path))
    assert one.first_stage is not None
    assert one.first_stage.step == 3
    assert "smith_john" not in str(one.stored) + str(one.first_stage.stored)


# Bad input


def broken(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "broken"))


def test_an_export_without_checkpoints_is_one_line(folder: Path, tmp_path: Path) -> None:
    own = broken(folder, tmp_path)
    (own / "selection.yaml").unlink()
    with pytest.raises(
        InputError, match=r"broken: an export without selection.yaml and checkpoints, .* export it agai"
    ):
        restore.predictor(own)
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", own)
    with pytest.raises(InputError, match=rf"checkpoint={packed}: an export without selection.yaml"):
        restore.predictor(packed)


def test_an_export_with_another_checkpoint_is_one_line(folder: Path, members: list[Path], tmp_path: Path) -> None:
    own = broken(folder, tmp_path)
    shutil.copy(members[0], own / "model.ckpt")
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", own)
    with pytest.raises(InputError, match=rf"^checkpoint={packed}/model.ckpt: is not the checkpoint that was selected"):
        restore.predictor(packed)
    (own / "model.ckpt").write_bytes(b"")
    with pytest.raises(InputError, match=r"broken/model.ckpt: can't be read as tensors"):
        restore.predictor(own)


@pytest.mark.parametrize("name", ["../model.ckpt", "/model.ckpt"])
def test_an_export_that_names_checkpoints_elsewhere_is_one_line(name: str, folder: Path, tmp_path: Path) -> None:
    own = broken(folder, tmp_path)
    stored = yaml.safe_load((own / "selection.yaml").read_text())
    stored["members"][0]["checkpoint"] = name
    (own / "selection.yaml").write_text(yaml.safe_dump(stored))
    with pytest.raises(InputError, match="do not name the same checkpoints in it"):
        restore.predictor(own)


def test_a_description_of_something_else_is_one_line(folder: Path, tmp_path: Path) -> None:
    own = broken(folder, tmp_path)
    (own / "predictor.json").write_text("[]")
    with pytest.raises(InputError, match=r"its predictor.json is not that of medseg-export \(TypeError\)"):
        restore.predictor(own)


def test_an_export_with_post_processing_is_no_member(folder: Path, members: list[Path]) -> None:
    with pytest.raises(InputError, match="an export with post-processing stands by itself"):
        restore.predictor([folder, members[0]])
    assert contents.SELECTION == "selection.yaml"
