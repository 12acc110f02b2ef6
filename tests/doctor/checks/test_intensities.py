from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg import formats
from medseg.data.datasets.nnunet import NnunetDataset
from medseg.doctor import examine
from medseg.doctor.checks.intensities import outliers
from tests.doctor.sets import found, label_of, named, relabel, scenes


def rescale(path: Path, factor: float, offset: float = 0.0) -> None:
    source = formats.open(path)
    formats.write_image(path, source.read() * np.float32(factor) + np.float32(offset), source.grid, names=["B4", "B8"])


def test_scene_in_other_units_is_one_warning_for_all_channels(scene_root: Path) -> None:
    rescale(scene_root / "images/s1.tif", 1e-4)
    (finding,) = found(scenes(scene_root))
    assert named([finding]) == [("intensity", "warning", ("s1",))]
    assert "and 1 more channel(s)" in finding.message


def test_scene_with_an_offset_is_a_warning(scene_root: Path) -> None:
    rescale(scene_root / "images/s1.tif", 1, 5000)
    (finding,) = found(scenes(scene_root))
    assert "has its median at 51" in finding.message


def test_scale_that_normalisation_takes_away_is_a_note(volume_root: Path) -> None:
    relabel(volume_root / "imagesTr/c1_0000.nii.gz", 1e4 * label_of(volume_root / "imagesTr/c1_0000.nii.gz"))
    assert found(NnunetDataset(volume_root)) == []
    assert [(f.check, f.cases) for f in examine(NnunetDataset(volume_root))[1]] == [("intensity", ("c1",))]


def test_sites_of_different_scales_are_judged_each_by_itself(tmp_path: Path) -> None:
    from tests.doctor.sets import write_scenes

    root = write_scenes(tmp_path / "sites", n_cases=10)
    for number in range(5, 10):
        rescale(root / f"images/s{number}.tif", 1000)
    survey, _ = examine(scenes(root))
    sites = tuple(replace(f, case=replace(f.case, group="ab"[int(f.id[1:]) >= 5])) for f in survey.cases)
    assert outliers(replace(survey, cases=sites)) == []
