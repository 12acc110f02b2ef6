from pathlib import Path

import numpy as np

from medseg.data.datasets.nnunet import NnunetDataset
from tests.doctor.sets import edit_scene, found, label_of, named, relabel, scenes
from tests.tiny import AFFINE


def test_case_in_centimetres_is_a_warning(volume_root: Path) -> None:
    for path in (volume_root / "imagesTr/c1_0000.nii.gz", volume_root / "labelsTr/c1.nii.gz"):
        relabel(path, label_of(path), AFFINE @ np.diag([0.1, 0.1, 0.1, 1]))
    findings = [f for f in found(NnunetDataset(volume_root)) if f.check == "spacing"]
    assert named(findings) == [("spacing", "warning", ("c1",))]
    assert "0.1 x 0.1 x 0.1, where the median case has 1 x 1 x 1" in findings[0].message


def test_scenes_of_different_cells_name_the_spacing_that_planning_needs(scene_root: Path) -> None:
    import rasterio

    for folder in ("images", "masks"):
        edit_scene(scene_root / folder / "s5.tif", transform=rasterio.Affine(20, 0, 6e5, 0, -20, 4e6))
    (finding,) = found(scenes(scene_root))
    assert named([finding]) == [("spacing", "error", ("s5",))]
    assert finding.fix == "plan.spacing=[20,20]"
    assert found(scenes(scene_root), wishes={"spacing": [20, 20]}) == []
