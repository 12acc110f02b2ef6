"""What medseg-export writes, and that it predicts what medseg predicts, without medseg."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

import medseg
from medseg import checkpoint, formats
from medseg.errors import InputError
from medseg.export import networks, runner
from medseg.export.export import export
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from tests import tiny_checkpoint
from tests.tiny import utm_grid

SHAPE = (21, 18)
BLOCKED = ("torch", "scipy", "medseg", "lightning", "jaxtyping", "hydra", "nibabel")
WITHOUT = f"""
import runpy, sys
for name in {BLOCKED}:
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def words(path: Path, output: Path, *more: str) -> list[str]:
    return [f"checkpoint={path}", f"output={output}", *more]


def run(*given: str | Path) -> subprocess.CompletedProcess[str]:
    """The runner in a process that has numpy, onnxruntime and rasterio only."""
    return subprocess.run([sys.executable, "-c", WITHOUT, *map(str, given)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_folder = tmp_path_factory.mktemp("run")
    (run_folder / "checkpoints").mkdir()
    scores = {"dice": {"mean": 0.5, "ci95": [0.4, 0.6], "cases": 3}, "iou": {"mean": None, "ci95": None, "cases": 0}}
    (run_folder / "metrics.json").write_text(json.dumps({"summary": scores}))
    return tiny_checkpoint.write(run_folder / "checkpoints/best.ckpt", tiny_checkpoint.contents() | {"global_step": 40})


@pytest.fixture(scope="module")
def folder(path: Path) -> Path:
    """Exported once, by the way of the command."""
    return export(compose("export", words(path, path.parent / "exported", "licence=CC0")))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene with cells without data, and a photograph; bands of the scene are not in the order of the channels."""
    images = tmp_path_factory.mktemp("images")
    cells = np.random.default_rng(0).normal(2, 1, (2, *SHAPE)).astype(np.float32)
    cells[:, 3:6, 4:9] = -1
    formats.write_image(images / "scene.tif", cells, utm_grid(SHAPE), names=["G", "R"], nodata=-1)
    return images


def test_the_folder_holds_everything_and_says_what_it_is(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == [
        "model.ckpt", "model_card.md", "network.onnx", "network.pt2", "parity.json", "predictor.json", "runner.py",
        "selection.yaml",
    ]  # fmt: skip
    settings = json.loads((folder / "predictor.json").read_text())
    assert settings["provenance"]["data"] == {"train": 1}  # names of cases may be those of patients
    card = (folder / "model_card.md").read_text()
    assert "| dice | 0.5 | 0.4 to 0.6 | 3 |" in card
    assert "licence of the data and of these weights: CC0" in card
    (case,) = json.loads((folder / "parity.json").read_text())["cases"]
    assert case["largest_difference"] < 1e-4
    assert case["cells_that_differ"] == 0


def test_the_runner_writes_the_label_file_of_medseg(folder: Path, path: Path, scenes: Path, tmp_path: Path) -> None:
    done = run(folder / "runner.py", scenes, tmp_path / "own", "--probabilities", "--threads", "1")
    assert (done.returncode, done.stderr) == (0, "")
    predictor = medseg.prediction.restore.predictor(path, device="cpu", probabilities=True)
    predictor.file(scenes / "scene.tif", tmp_path / "ours/scene.tif")
    for name in ("scene.tif", "probabilities/scene.tif"):
        with rasterio.open(tmp_path / "own" / name) as own, rasterio.open(tmp_path / "ours" / name) as ours:
            assert np.abs(own.read().astype(int) - ours.read()).max() <= (name != "scene.tif")
            for fact in ("crs", "transform", "nodata", "dtypes", "descriptions", "scales"):
                assert getattr(own, fact) == getattr(ours, fact), fact
            assert own.tags().get("CLASS_NAMES") == ours.tags().get("CLASS_NAMES")
            if name == "scene.tif":
                assert len(np.unique(own.read())) > 2
                assert {v: own.colormap(1)[v] for v in range(3)} == {v: ours.colormap(1)[v] for v in range(3)}


def test_one_bad_image_does_not_stop_the_others(folder: Path, scenes: Path, tmp_path: Path) -> None:
    shutil.copy(scenes / "scene.tif", tmp_path / "b.tif")
    (tmp_path / "a.tif").write_bytes(b"no image")
    formats.write_image(tmp_path / "c.tif", np.ones((3, *SHAPE), np.float32), utm_grid(SHAPE), names=[*"XYZ"])
    done = run(folder / "runner.py", tmp_path, tmp_path / "labels")
    assert done.returncode == 2
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["error", "error"]
    assert "a.tif: cannot be read" in done.stderr
    assert "c.tif: got 3 bands ['X', 'Y', 'Z'], expected ['R', 'G']" in done.stderr
    assert [file.name for file in (tmp_path / "labels").iterdir()] == ["b.tif"]


def test_pictures_of_one_band_each_are_predicted(folder: Path, path: Path, tmp_path: Path) -> None:
    grid = Grid.regular(SHAPE, (1, 1), PIXEL)
    grey = np.random.default_rng(1).integers(0, 9, (2, *SHAPE)).astype(np.uint8)
    files = [tmp_path / "a_R.png", tmp_path / "a_G.png"]
    for file, channel in zip(files, grey, strict=True):
        formats.write_image(file, channel[None], grid)
    own = runner.Predictor(folder).file(files, tmp_path / "own.png")
    ours = medseg.load(path, device="cpu").file(files, tmp_path / "ours.png")
    np.testing.assert_array_equal(formats.open(own).read(), formats.open(ours).read())
    palettes = [Image.open(file).getpalette()[:9] for file in (own, ours)]
    assert palettes[0] == palettes[1]


def test_post_processing_of_scenes_is_that_of_medseg(folder: Path, path: Path, scenes: Path, tmp_path: Path) -> None:
    own = runner.Predictor(folder)
    own.settings = {**own.settings, "postprocessing": [{"step": "sieve", "size": 1200, "unit": "m2"}]}
    target = own.file([scenes / "scene.tif"], tmp_path / "own.tif")
    before = runner.Predictor(folder).file([scenes / "scene.tif"], tmp_path / "before.tif")
    sieved, raw = (formats.open(file).read()[0] for file in (target, before))
    assert (sieved == 255).sum() == (raw == 255).sum() > 0
    parts = runner.components(np.where(sieved == 255, 0, sieved + 1), corners=False)
    assert np.bincount(parts.ravel())[1:].min() >= 12
    assert np.bincount(runner.components(np.where(raw == 255, 0, raw + 1), corners=False).ravel())[1:].min() < 12


def test_an_ensemble_in_an_archive_by_a_selection(path: Path, scenes: Path, tmp_path: Path) -> None:
    """Networks for torch.export alone, which take a second instead of many."""
    contents = tiny_checkpoint.contents()
    for tensor in contents["state_dict"].values():
        tensor += 0.1 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1))
    other = tiny_checkpoint.write(tmp_path / "other.ckpt", contents)
    members = [{"checkpoint": str(file), "digest": checkpoint.read(file).digest} for file in (path, other)]
    steps = [{"step": "remove_small", "classes": ["a"], "size": 4, "unit": "px"}]
    selection = {"format": 1, "members": members, "flips": None, "postprocessing": steps, "evidence": {}}
    (tmp_path / "selection.yaml").write_text(yaml.safe_dump(selection))
    given = words(tmp_path / "selection.yaml", tmp_path / "both.zip", "format=pt2", f"cases={scenes}")
    archive = export(compose("export", given))
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
    held = sorted(file.name for file in (tmp_path / "both").iterdir())
    assert held == [
        "model.ckpt", "model_2.ckpt", "model_card.md", "network.pt2", "network_2.pt2", "parity.json",
        "predictor.json", "runner.py", "selection.yaml",
    ]  # fmt: skip
    assert medseg.load(tmp_path / "both/model_2.ckpt", device="cpu").digest == members[1]["digest"]
    (case,) = json.loads((tmp_path / "both/parity.json").read_text())["cases"]
    assert (case["case"], case["cells_that_differ"]) == ("case 1", 0), "names of files may be those of patients"
    own = runner.Predictor(tmp_path / "both")
    target = own.file([scenes / "scene.tif"], tmp_path / "own.tif")
    with runner.Scene([scenes / "scene.tif"], own.settings) as scene:
        image, valid = scene.read(0, SHAPE[0])
        index, _ = own.index_and_prob(runner.Case(image, valid, scene.grid))
    np.testing.assert_array_equal(formats.open(target).read()[0], np.where(valid, index, 255))


# Bad input


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network may be traced."""
    monkeypatch.setattr(networks, "traced", lambda *given: pytest.fail("traced before the input was checked"))


def test_a_place_that_is_taken_is_one_line(path: Path, never: None) -> None:
    with pytest.raises(InputError, match="is there already; remove it"):
        export(compose("export", words(path, path.parent)))


def test_members_that_do_not_fit_are_one_line(path: Path, tmp_path: Path, never: None) -> None:
    contents = tiny_checkpoint.contents()
    contents["medseg"]["spec"]["labels"]["classes"][2]["name"] = "c"
    other = tiny_checkpoint.write(tmp_path / "other.ckpt", contents)
    with pytest.raises(InputError, match=r"member 2 of 2 has classes \('background', 'a', 'c'\), expected .*'b'\)"):
        export(compose("export", [f"checkpoint=[{path},{other}]", f"output={tmp_path}/out"]))
    contents = tiny_checkpoint.contents()
    contents["medseg"]["spec"]["channels"][0]["name"] = "B"
    other = tiny_checkpoint.write(tmp_path / "other.ckpt", contents)
    with pytest.raises(InputError, match=r"member 2 of 2 has channels \['B', 'G'\], expected \['R', 'G'\]"):
        export(compose("export", [f"checkpoint=[{path},{other}]", f"output={tmp_path}/out"]))
    assert not (tmp_path / "out").exists()


def test_a_selection_of_other_networks_is_one_line(path: Path, tmp_path: Path, never: None) -> None:
    stored = {"format": 1, "members": [{"checkpoint": str(path), "digest": "0" * 64}]}
    (tmp_path / "selection.yaml").write_text(yaml.safe_dump(stored))
    with pytest.raises(InputError, match="is not the checkpoint that was selected"):
        export(compose("export", words(tmp_path / "selection.yaml", tmp_path / "out")))


def test_a_difference_above_the_tolerance_leaves_nothing(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at most tolerance=1e-12; nothing was written"):
        export(compose("export", words(path, tmp_path / "out", "format=pt2", "tolerance=1e-12")))
    assert not list(tmp_path.iterdir())


class Bessel(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.special.bessel_j0(image)


def test_an_operator_that_onnx_lacks_is_named(tmp_path: Path) -> None:
    program = networks.traced(Bessel(), 1, (4, 4), "checkpoint=a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt: ONNX can't express the operator .*bessel_j0.* format=pt2"):
        networks.write_onnx(program, tmp_path / "network.onnx", "checkpoint=a.ckpt")


class Branch(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image if image.mean() > 0 else -image


def test_a_network_that_cannot_be_traced_is_one_line() -> None:
    with pytest.raises(InputError, match=r"torch\.export can't trace its network Branch") as error:
        networks.traced(Branch(), 1, (4, 4), "checkpoint=a.ckpt")
    assert "\n" not in str(error.value)


def test_without_the_extra_one_line_says_what_to_install(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(InputError, match=r"needs onnxscript, not installed here; pip install 'medseg\[export\]'"):
        export(compose("export", words(path, tmp_path / "out")))
