"""Cases that only their dataset can read."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.data.reading.open_case import CaseReader
from medseg.doctor import examine
from medseg.doctor.samples import SampleSource
from medseg.sample import DataSpec
from tests.doctor.sets import found, named, scenes


class Listed(Dataset):
    """The scenes of a folder, named by files that no format knows, as the samples of torchgeo are."""

    name = "listed"

    def __init__(self, root: Path) -> None:
        self._files = scenes(root)
        self.reading = self._files.reading

    @property
    def spec(self) -> DataSpec:
        return self._files.spec

    def cases(self) -> list[Case]:
        return [replace(c, images=(c.images[0].with_suffix(".json"),)) for c in self._files.cases()]

    def open(self, case: Case) -> CaseReader:
        return self._files.open(replace(case, images=(case.images[0].with_suffix(".tif"),)))


def test_samples_are_examined_as_files_are(scene_root: Path) -> None:
    source = Listed(scene_root)
    survey, findings = examine(source)
    assert findings == []
    assert survey.cases[0].label is not None
    assert set(survey.cases[0].label.values) == {0, 1}
    (scene_root / "masks/s1.tif").write_bytes((scene_root / "masks/s0.tif").read_bytes())
    (scene_root / "images/s1.tif").write_bytes((scene_root / "images/s0.tif").read_bytes())
    assert ("duplicate", "warning", ("s0", "s1")) in named(found(source))


def test_label_has_raw_values(scene_root: Path) -> None:
    source = scenes(scene_root)
    opened = source.open(source.cases()[0])
    label, image = SampleSource(opened, "label"), SampleSource(opened, "image")
    sample = opened.read()
    np.testing.assert_array_equal(label.read()[0], sample.label)
    np.testing.assert_array_equal(image.read(channels=[1])[0], sample.image[1])
    assert image.names == ("B4", "B8")
