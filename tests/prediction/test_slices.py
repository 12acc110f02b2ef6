"""Slices in NIfTI, of two axes or a third of one cell, are planned and predicted in two dimensions."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.plan import write as write_plan
from medseg.hydra_app.compose import compose
from medseg.planning.plan import read_plan
from medseg.prediction.predict import predict
from medseg.training.train import train
from tests.tiny import SMALL

AFFINE = np.diag([-0.7, 0.8, 1, 1])
AFFINE[:3, 3] = (3, 4, 5)


def shape_of(number: int) -> tuple[int, ...]:
    return (40 + number, 36, 1) if number % 2 else (40 + number, 36)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight slices in nnU-Net's layout, of which the last two are new images."""
    rng = np.random.default_rng(0)
    for number in range(8):
        label = np.zeros(shape_of(number), np.uint8)
        label[10 : 30 + number, 8:20] = 1
        image = (3 * label + rng.normal(size=label.shape)).astype(np.float32)
        part = "Tr" if number < 6 else "Ts"
        for folder, cells, end in (("images", image, "_0000"), ("labels", label, "")):
            (tmp_path / f"raw/{folder}{part}").mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(cells, AFFINE), tmp_path / f"raw/{folder}{part}/c{number}{end}.nii.gz")
    declared = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}, "numTraining": 6}
    (tmp_path / "raw/dataset.json").write_text(json.dumps(declared | {"file_ending": ".nii.gz"}))
    return tmp_path / "raw"


def test_from_plan_to_label_files(root: Path, tmp_path: Path) -> None:
    words = [w for w in SMALL if not w.startswith(("plan.", "transform="))]  # the usual transforms, of volumes
    words += [f"data.root={root}", f"cache_dir={tmp_path}/cache", "split.n_folds=3"]
    own = [w for w in words if w.startswith(("data=", "data.", "cache_dir=", "split."))]
    plan = read_plan(write_plan(compose("plan", [*own, f"output={tmp_path}/plan.yaml"])))
    assert sorted(plan.patch)[0] == 1
    flat = plan.patch.index(1)
    assert all(stage[flat] == 1 and sorted(stage) == [1, 3, 3] for stage in plan.kernels)
    assert all(stage[flat] == 1 for stage in plan.strides)
    run = train(compose("train", [*words, f"plan.file={tmp_path}/plan.yaml", f"run_dir={tmp_path}/run", "test=false"]))
    best = run / "checkpoints/best.ckpt"
    named = [f"checkpoint={best}", f"input={root}/imagesTs", f"output={tmp_path}/out", "device=cpu"]
    for number, path in enumerate(predict(compose("predict", named)), start=6):
        image, label = nib.load(root / f"imagesTs/c{number}_0000.nii.gz"), nib.load(path)
        assert label.shape == image.shape == shape_of(number)
        np.testing.assert_array_equal(label.affine, image.affine)
        assert set(np.unique(label.dataobj)) <= {0, 1}
