"""Exported predictors next to medseg: label files, probabilities and run time, each in an environment of its own.

python scripts/bench_export.py --python PYTHON --cases DIR [--most 10] --checkpoint NAME=CHECKPOINT ...
python scripts/bench_export.py --csmask FOLDER --scene SCENE
python scripts/bench_export.py --phantom STEPS

PYTHON is that of an environment with numpy, onnxruntime, and nibabel or rasterio alone. Each CHECKPOINT (several,
joined by commas, are an ensemble) is exported; the cases of DIR are then predicted by medseg in single precision and by
the exported ``runner.py`` in that environment, each with one thread, and the files are compared cell by cell.
Probabilities are those of the files, in steps of 1/254; ``parity`` is the largest difference that the export measured
itself on a drawn image. Times are of whole commands, with their imports, over all cases.

FOLDER is that of the package ukis-csmask (four cloud masks of Sentinel-2, 6 or 4 bands), SCENE a GeoTIFF of the 13
bands of Sentinel-2 in their order, in reflectance times 10,000. Its network in six bands for L1C is run on windows of
256 cells of the scene: by ``runner.py`` on the published ONNX file, and with the weights loaded into
segmentation-models-pytorch within a predictor of medseg. The reference is onnxruntime. The file computes in float16; so
there is a second reference, the same graph in float32, which is how medseg computes.

With --phantom, a network is trained for STEPS steps on volumes that the package draws, and exported.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import medseg
from medseg import formats
from medseg.export import runner
from medseg.export.export import export
from medseg.hydra_app.compose import compose

BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")
FILE_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
CLASSES = ("clear", "cloud", "shadow")
SIDE = 256
_PREDICT = """
import sys
from dataclasses import replace
from pathlib import Path
from medseg.export import runner
from medseg.prediction import restore
names, output, *files = sys.argv[1:]
predictor = restore.predictor(names.split(","), device="cpu", probabilities=True)
for member in predictor.arrays.members:
    member.tiling = replace(member.tiling, precision="fp32")
for source in files:
    parts = source.split(",")
    name = Path(parts[0]).name
    label = name.replace("_0000.nii", ".nii") if predictor.spec.ndim == 3 else name
    predictor.file(parts, Path(output) / label)
"""


@dataclass
class Row:
    """A line of the table."""

    predictor: str
    cases: int
    cells: int
    files_equal: int
    cells_differ: int
    steps: int
    parity: float
    seconds_medseg: float
    seconds_runner: float

    def __str__(self) -> str:
        return (
            f"| {self.predictor} | {self.cases} | {self.files_equal} | {self.cells_differ} of {self.cells:,} | "
            f"{self.steps} | {self.parity:.1e} | {self.seconds_medseg:.1f} | {self.seconds_runner:.1f} |"
        )


HEAD = (
    "| predictor | cases | label files equal | cells of another class | largest difference, steps of 1/254 | parity | "
    "medseg, s | runner, s |\n|---|---|---|---|---|---|---|---|"
)


def timed(command: Sequence[str], **environment: str) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run(
        command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def compared(own: Path, ours: Path) -> tuple[int, int, int]:
    """Label files that are equal, cells that differ and the number of cells, of two folders."""
    equal = differ = cells = 0
    for path in sorted(p for p in own.iterdir() if p.is_file()):
        one, other = (formats.open(p).read() for p in (path, ours / path.name))
        differ += int((one != other).sum())
        equal += int((one == other).all())
        cells += one.size
    return equal, differ, cells


def largest_step(own: Path, ours: Path) -> int:
    """Largest difference of stored probabilities."""
    steps = []
    for path in sorted(own.iterdir()):
        one, other = (formats.open(p).read() for p in (path, ours / path.name))
        scale = 1 if one.dtype == np.uint8 else 254
        steps.append(np.abs(one.astype(float) - other).max() * scale)
    return round(max(steps))


def measure(name: str, checkpoints: str, python: str, cases: Path, most: int, folder: Path) -> Row:
    """Export, predict with both, compare."""
    exported, own, ours = (folder / f"{name}_{part}" for part in ("exported", "own", "ours"))
    export(compose("export", [f"checkpoint=[{checkpoints}]", f"output={exported}"]))
    settings = json.loads((exported / "predictor.json").read_text())
    files = [paths for _, paths in runner.find_cases([cases], settings)[:most]]
    folder.joinpath(f"{name}_cases").mkdir()
    for path in (path for paths in files for path in paths):
        (folder / f"{name}_cases" / path.name).symlink_to(path.resolve())
    words = [",".join(map(str, paths)) for paths in files]
    ours_seconds = timed([sys.executable, "-c", _PREDICT, checkpoints, str(ours), *words])
    run = [python, str(exported / "runner.py"), str(folder / f"{name}_cases"), str(own), "--probabilities"]
    own_seconds = timed([*run, "--threads", "1"], PYTHONPATH="")
    equal, differ, cells = compared(own, ours)
    parity = max(c["largest_difference"] for c in json.loads((exported / "parity.json").read_text())["cases"])
    steps = largest_step(own / "probabilities", ours / "probabilities")
    return Row(name, len(files), cells, equal, differ, steps, parity, ours_seconds, own_seconds)


def trained(folder: Path, steps: int) -> tuple[Path, list[str]]:
    """Images of drawn volumes, and the checkpoint of a short training on others."""
    words = ["experiment=phantom", "model=unet_tiny", "trainer.precision=32-true", "logger=csv", "test=false"]
    places = [f"run_dir={folder}/run", f"cache_dir={folder}/cache"]
    run = medseg.train(*words, *places, f"trainer.max_steps={steps}", f"trainer.steps_per_epoch={steps}")
    return next(folder.joinpath("cache").rglob("imagesTs")), [f"phantom={run}/checkpoints/best.ckpt"]


# ukis-csmask


def csmask_settings(folder: Path, name: str = "model_6b_l1c") -> dict[str, Any]:
    """A ``predictor.json`` for the ONNX file as it is published."""
    published = json.loads((folder / f"{name}.json").read_text())["data"]
    means, deviations = (np.array(values) * 1e4 for values in published["dataset_statistics"]["img"])
    rules = [{"scheme": "standard", "mean": m, "std": s} for m, s in zip(means.tolist(), deviations.tolist())]
    tiling = {
        "window": [SIDE, SIDE],
        "overlap": 0.5,
        "batch_size": 1,
        "flip_axes": [],
        "lateral_axis": None,
        "swap": None,
    }
    return {
        "format": runner.FORMAT,
        "ndim": 2,
        "channels": [{"name": band, "formula": ""} for band in BANDS],
        "labels": {
            "classes": [{"name": c, "saved": i, "colour": [80 * i, 80 * i, 80 * i]} for i, c in enumerate(CLASSES)],
            "regions": [], "saved_dtype": "uint8", "nodata": 255,
        },
        "reading": {"nonfinite": "mask", "bands": list(FILE_BANDS), "nodata": None, "grid_tolerance": 0.01},
        "members": [
            {
                "network": f"{name}.onnx",
                "preprocessing": {"spacing": None, "masked": False, "normalisation": rules},
                "tiling": tiling,
                "blending": {"sigma": 0.125, "least": 1e-3},
                "resampling": {"image": 3, "valid": 1, "logits": 1, "anisotropic": 3.0},
            }
        ],
        "postprocessing": [],
    }  # fmt: skip


def csmask_predictor(folder: Path, settings: dict[str, Any]) -> Any:
    """A predictor of medseg whose network is smp's U-Net with the published weights."""
    import onnx
    import torch
    from onnx import numpy_helper

    from medseg.data.preprocessing.normalise import Normalisation
    from medseg.data.preprocessing.preprocess import Preprocess
    from medseg.inference.predictor import Predictor
    from medseg.inference.tiling import Tiling
    from medseg.labels import LabelTable
    from medseg.models.network import ModelSpec
    from medseg.models.smp.network import Smp
    from medseg.sample import Channel, DataSpec

    (member,) = settings["members"]
    channels = tuple(Channel(band) for band in BANDS)
    rules = member["preprocessing"]["normalisation"]
    spec = ModelSpec(len(BANDS), len(CLASSES), (SIDE, SIDE), (10.0, 10.0), (), (), channels)
    network = Smp(spec, architecture="Unet", encoder="efficientnet-b4")
    graph = onnx.load(str(folder / member["network"])).graph
    stored = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    own = network.state_dict()
    prefix = next(key for key in own if key.endswith("encoder._conv_stem.weight")).removesuffix(
        "encoder._conv_stem.weight"
    )
    state = {f"{prefix}{name.removeprefix('model.')}": tensor for name, tensor in stored.items()}
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    network.load_state_dict(own | fitting)
    print(f"{len(fitting)} of {len(own)} tensors of smp's U-Net are published")
    prepare = Preprocess(None, tuple(Normalisation(r["scheme"], r["mean"], r["std"]) for r in rules))
    labels = LabelTable.declare({name: value for value, name in enumerate(CLASSES)}, background=None)
    return Predictor(network, prepare=prepare, tiling=Tiling((SIDE, SIDE)), spec=DataSpec(channels, labels, 2))


def widened(path: Path) -> bytes:
    """An ONNX file that computes in float16, with its tensors as float32 and in that precision."""
    import onnx
    from onnx import TensorProto, numpy_helper

    model = onnx.load(str(path))
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == half:
                attribute.i = single
            if attribute.HasField("t"):
                tensors.append(attribute.t)
    for tensor in tensors:
        if tensor.data_type == half:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


def csmask_parity(folder: Path, scene: Path) -> list[tuple[str, str, int, int, float]]:
    """Predictor, reference, cells, cells of another class and largest difference of probabilities."""
    settings = csmask_settings(folder)
    (member,) = settings["members"]
    path, rules = folder / member["network"], member["preprocessing"]["normalisation"]
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "predictor.json").write_text(json.dumps(settings))
        (Path(name) / member["network"]).symlink_to(path.resolve())
        exported = runner.Predictor(name, threads=1)
    predictor = csmask_predictor(folder, settings)
    published, single = _session(path.read_bytes()), _session(widened(path))
    pairs = {
        ("runner.py on the published file", "onnxruntime"): (exported.index_and_prob, published),
        ("medseg with its weights", "onnxruntime in float32"): (_by_medseg(predictor), single),
        ("medseg with its weights", "onnxruntime"): (_by_medseg(predictor), published),
    }
    totals: dict[tuple[str, str], list[Any]] = {pair: [0, 0, 0.0] for pair in pairs}
    mean, std = (np.array([r[key] for r in rules]).reshape(-1, 1, 1) for key in ("mean", "std"))
    for window, valid in _windows(scene, settings):
        ready = np.where(valid, (window - mean) / std, 0).astype(np.float32)
        for pair, (run, reference) in pairs.items():
            logits = reference(ready[None])[0]
            prob = np.exp(logits - logits.max(axis=0))
            prob /= prob.sum(axis=0)
            index, own = run(runner.Case(window, valid, runner.Grid((SIDE, SIDE), np.eye(3), "px")))
            total = totals[pair]
            total[0] += int(valid.sum())
            total[1] += int((index != logits.argmax(axis=0))[valid].sum())
            total[2] = max(total[2], float(np.abs(own - prob)[:, valid].max(initial=0)))
    return [(*pair, *total) for pair, total in totals.items()]


def _session(model: bytes) -> runner.Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: np.asarray(session.run(None, {name: image})[0])


def _windows(scene: Path, settings: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Raw channels and valid cells of the windows that lie in a scene side by side."""
    with runner.Scene([scene], settings) as opened:
        image, valid = opened.read(0, opened.grid.shape[0])
    rows, columns = (range(0, n - SIDE + 1, SIDE) for n in valid.shape)
    for top, left in product(rows, columns):
        place = (slice(top, top + SIDE), slice(left, left + SIDE))
        yield image[(slice(None), *place)], valid[place]


def _by_medseg(predictor: Any) -> Any:
    from medseg.geometry.grid import PIXEL, Grid
    from medseg.sample import Sample

    def run(case: runner.Case) -> Any:
        grid = Grid(case.valid.shape, np.eye(3), PIXEL)
        return predictor.index_and_prob(Sample(case.image, None, case.valid, grid, "window", "window"))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs what was exported")
    parser.add_argument("--cases", type=Path, help="folder of images")
    parser.add_argument("--most", type=int, default=10, help="cases of the folder")
    parser.add_argument("--checkpoint", nargs="+", default=[], metavar="NAME=FILE[,FILE]")
    parser.add_argument("--csmask", type=Path, help="folder ukis_csmask of the package")
    parser.add_argument("--scene", type=Path, help="scene of Sentinel-2 for --csmask")
    parser.add_argument("--phantom", type=int, help="steps of a training on drawn volumes")
    options = parser.parse_args()
    if options.csmask:
        print("| predictor | reference | cells of another class | largest difference of probabilities |")
        print("|---|---|---|---|")
        for way, reference, cells, differ, largest in csmask_parity(options.csmask, options.scene):
            print(f"| {way} | {reference} | {differ} of {cells:,} | {largest:.1e} |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.phantom:
            options.cases, options.checkpoint = trained(folder, options.phantom)
        pairs = [entry.partition("=")[::2] for entry in options.checkpoint]
        rows = [measure(n, c, options.python, options.cases, options.most, folder) for n, c in pairs]
    if rows:
        print(HEAD, *rows, sep="\n")


if __name__ == "__main__":
    main()
