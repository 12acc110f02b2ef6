"""The runner on networks that others trained and exported: the cloud masks of ukis-csmask."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.prepared import script


@pytest.mark.slow
@pytest.mark.real
def test_published_cloud_masks_are_those_of_onnxruntime(real_data: Path) -> None:
    package = find_spec("ukis_csmask")
    if package is None or package.origin is None:
        pytest.skip("pip install --no-deps ukis-csmask")
    scene = real_data / "sen1floods11_sample/s2/Spain_7370579.tif"
    rows = script("bench_export").csmask_parity(Path(package.origin).parent, scene)
    of_runner, in_single, _ = rows
    assert of_runner[:2] == ("runner.py on the published file", "onnxruntime")
    assert of_runner[2] == 512 * 512
    assert of_runner[3] == 0
    assert of_runner[4] < 1e-3  # the file computes in float16
    assert in_single[3] == 0
    assert in_single[4] < 1e-4
