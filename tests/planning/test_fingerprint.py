"""What is odd about training cases is told, one line for each thing."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg import formats
from medseg.data.case import Case
from medseg.data.datasets.nnunet import NnunetDataset
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.factory.dataset import build_dataset
from medseg.factory.plan import build_plan
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.planning.fingerprint import fingerprint, scene_facts
from medseg.sample import Channel, DataSpec
from tests.tiny import AFFINE, SMALL, draw, save, utm_grid, write_nnunet

NO_CODE = "the NIfTI header has no orientation (sform and qform code 0), so left and right are a guess"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Of six cases c0 is constant, c1 and c2 have no orientation, c3 has no foreground and a label in another order."""
    root = write_nnunet(tmp_path / "odd", n_cases=6)
    save(root / "imagesTr/c0_0000.nii.gz", np.full((20, 20, 20), 7, np.float32))
    for case in ("c1", "c2"):
        for path in (root / f"imagesTr/{case}_0000.nii.gz", root / f"labelsTr/{case}.nii.gz"):
            image = nib.Nifti1Image(np.asanyarray(nib.load(path).dataobj), None)
            image.header.set_zooms((1, 1, 1))
            nib.save(image, path)
    empty = nib.Nifti1Image(np.zeros((20, 20, 20), np.uint8), AFFINE)
    nib.save(empty.as_reoriented([[1, 1], [0, -1], [2, 1]]), root / "labelsTr/c3.nii.gz")
    return root


def test_one_line_for_each_oddity_with_its_cases(odd: Path, tmp_path: Path) -> None:
    source = NnunetDataset(odd)
    expected = [
        "1 of 6 training cases: channel MR has one value everywhere: c0",
        f"2 of 6 training cases: {NO_CODE}: c1, c2",
        "1 of 6 training cases have no foreground and teach only the background: c3",
    ]
    found = fingerprint(source, source.cases(), tmp_path / "store")
    assert sorted(found.warning_lines()) == sorted(expected)
    assert fingerprint(source, source.cases(), tmp_path / "store") == found, "as it is kept in the store"


def test_planning_warns(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = compose("train", [*SMALL, f"data.root={odd}", f"cache_dir={tmp_path}/cache"])
    source = build_dataset(cfg)
    build_plan(cfg, source, source.cases())
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 3
    assert f"warning: 2 of 6 training cases: {NO_CODE}: c1, c2" in warnings


def test_ordinary_cases_give_no_line(tmp_path: Path) -> None:
    source = NnunetDataset(write_nnunet(tmp_path / "sound", n_cases=3))
    assert fingerprint(source, source.cases(), tmp_path / "store").warning_lines() == []


def test_a_constant_band_of_a_scene(tmp_path: Path) -> None:
    _, label = draw(1)
    bands = np.stack([np.arange(400, dtype=np.float32).reshape(20, 20), np.full((20, 20), 3, np.float32)])
    formats.write_image(tmp_path / "a.tif", bands, utm_grid((20, 20)), names=["B4", "B8"])
    formats.write(tmp_path / "mask.tif", label[5], utm_grid((20, 20)))
    table = LabelTable.declare({"background": 0, "a": 1, "b": 2})
    case = Case("a", (tmp_path / "a.tif",), tmp_path / "mask.tif", "a")
    opened = CaseReader(case, DataSpec((Channel("B4"), Channel("B8")), table, 2), ReadOptions())
    assert scene_facts(opened, draw=50, seed=0).constant == (1,)


def test_every_case_of_a_few_is_a_line_in_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = NnunetDataset(write_nnunet(tmp_path / "raw", n_cases=2))
    fingerprint(source, source.cases(), tmp_path / "store")
    lines = [line.partition("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["looking at cases: 1 of 2", "looking at cases: 2 of 2"]
