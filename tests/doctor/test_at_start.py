from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.data.datasets.nnunet import NnunetDataset
from medseg.doctor.at_start import warn_of_headers
from medseg.factory.dataset import build_dataset
from medseg.factory.plan import build_plan
from medseg.hydra_app.compose import compose
from tests.tiny import SMALL, write_nnunet


def twentyfold(path: Path) -> None:
    """Write a file again with cells that are twenty times as large."""
    image = nib.load(path)
    affine = image.affine @ np.diag([20.0, 20.0, 20.0, 1.0])
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), path)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    root = write_nnunet(tmp_path / "odd", n_cases=6)
    for path in (root / "imagesTr/c4_0000.nii.gz", root / "labelsTr/c4.nii.gz"):
        twentyfold(path)
    return root


def test_a_spacing_that_is_off_by_orders_of_magnitude(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_headers(NnunetDataset(odd))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert "c4" in line


def test_a_sound_dataset_gives_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_headers(NnunetDataset(write_nnunet(tmp_path / "sound", n_cases=6)))
    assert capsys.readouterr().err == ""


def test_a_plan_warns_before_it_reads_the_cases(
    odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose("train", [*SMALL, f"data.root={odd}", f"cache_dir={tmp_path}/cache"])
    source = build_dataset(cfg)
    monkeypatch.setattr("medseg.planning.fingerprint._facts", lambda *_: pytest.fail("a case was read"))
    with pytest.raises(pytest.fail.Exception, match="a case was read"):
        build_plan(cfg, source, source.cases())
    assert "c4" in capsys.readouterr().err
