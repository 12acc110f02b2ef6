"""Published weights that lie in Python packages: all of them load, and the networks say what their authors' do."""

from pathlib import Path

import pytest
import torch

from medseg.models.network import ModelSpec
from medseg.models.timm.encoder import Timm
from tests.prepared import script

published = script("check_published")
pytestmark = pytest.mark.real


def packaged(distribution: str, file: str) -> Path:
    """A file of a package; the test is skipped, visibly, where it is not installed."""
    path = published.packaged(distribution, file)
    if path is None:
        pytest.skip(f"{distribution}, of the extra published, is not installed")
    return path


@pytest.fixture(scope="module")
def lite0() -> Path:
    return packaged(*published.LITE0)


def test_efficientnet_lite0_recognises_photographs(lite0: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image, of the extra published, is not installed")
    net, coverage = published.lite0(lite0)
    assert coverage == "100 %"
    assert published.share_of_shown(net, "coffee") > 0.8  # 0.94 was measured
    assert published.share_of_shown(net, "chelsea") > 0.7  # 0.88


def test_efficientnet_lite0_by_order_is_that_by_names(lite0: Path) -> None:
    by_name, by_order = (published.lite0(lite0, by_order=way)[0].state_dict() for way in (False, True))
    assert all(torch.equal(tensor, by_order[name]) for name, tensor in by_name.items())


def test_efficientnet_lite0_as_an_encoder(lite0: Path) -> None:
    about = ModelSpec(in_channels=5, out_channels=2, patch_shape=(64, 96), spacing=(1.0, 1.0), kernels=(), strides=())
    report = Timm(about, name="tf_efficientnet_lite0", weights=str(lite0)).initialise()
    assert report is not None
    assert report.share == 1.0
    assert "names begin" not in report.prefix
    assert not any("order" in warning for warning in report.warnings)
