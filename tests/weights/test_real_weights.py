"""Published weights that lie in Python packages: all of them load, and the networks say what their authors' do."""

import warnings
from pathlib import Path

import pytest
import torch

from medseg.models.network import ModelSpec
from medseg.models.timm.encoder import Timm
from medseg.weights.order import WARNING
from medseg.weights.pretrained import read
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
    net, report = published.lite0(lite0)
    assert report.share == 1.0
    assert published.share_of_shown(net, "coffee") > 0.8  # 0.94 was measured
    assert published.share_of_shown(net, "chelsea") > 0.7  # 0.88


def test_efficientnet_lite0_by_order_is_that_by_names(lite0: Path) -> None:
    by_name, by_order = (published.lite0(lite0, by_order=way) for way in (False, True))
    assert [WARNING in report.warnings for _, report in (by_name, by_order)] == [False, True]
    tensors = by_order[0].state_dict()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in by_name[0].state_dict().items())


def test_efficientnet_lite0_as_an_encoder(lite0: Path) -> None:
    about = ModelSpec(in_channels=5, out_channels=2, patch_shape=(64, 96), spacing=(1.0, 1.0), kernels=(), strides=())
    report = Timm(about, name="tf_efficientnet_lite0", weights=str(lite0)).initialise()
    assert report is not None
    assert report.share == 1.0
    assert "names begin" not in report.prefix
    assert not any("order" in warning for warning in report.warnings)


@pytest.fixture(scope="module")
def clouds() -> Path:
    return packaged(*published.CSMASK[-1])


def test_csmask_says_of_its_images_what_its_json_has(clouds: Path) -> None:
    file = read(clouds)
    assert len(file.state) == 655
    assert [c.name for c in file.channels] == ["blue", "green", "red", "nir", "swir16", "swir22"]
    assert (file.mean[0], file.std[0]) == (0.26681777834892273, 0.33637598156929016)


@pytest.mark.parametrize("published_file", published.CSMASK, ids=lambda pair: Path(pair[1]).stem)
def test_csmask_gives_the_classes_of_onnxruntime(published_file: tuple[str, str]) -> None:
    path = packaged(*published_file)
    file = read(path)
    net, report = published.csmask(path, [c.name for c in file.channels])
    assert report.share == 1.0
    image = published.reflectances(file, None)[:1]
    assert image.std() > 0.5
    assert published.equal_cells(net, published.in_float32(path), image) == 1.0
    assert published.equal_cells(net, str(path), image) > 0.99  # onnxruntime computes in half precision


def test_csmask_goes_to_all_bands_of_sentinel2_by_name(clouds: Path) -> None:
    net, report = published.csmask(clouds, published.SENTINEL2)
    assert report.share == 1.0
    origins = dict(report.channels)
    assert [name for name, words in origins.items() if words.startswith("copied")] == [
        "B2",
        "B3",
        "B4",
        "B8",
        "B11",
        "B12",
    ]
    assert origins["B11"] == "copied from swir16, times 0.462"
    file = read(clouds).state["model.encoder._conv_stem.weight"].float()
    places = list(published.PLACES.values())
    torch.testing.assert_close(
        net.state_dict()["net.encoder._conv_stem.weight"][:, places], file * 6 / 13, rtol=1e-3, atol=1e-6
    )


def test_csmask_as_an_encoder_of_timm(clouds: Path) -> None:
    about = ModelSpec(in_channels=2, out_channels=2, patch_shape=(64, 96), spacing=(1.0, 1.0), kernels=(), strides=())
    report = Timm(about, name="tf_efficientnet_b4", weights=str(clouds)).initialise()
    assert report is not None
    assert report.share == 1.0
    assert report.named("random") == []


@pytest.mark.parametrize("published_file", published.DEEPBET, ids=lambda pair: Path(pair[1]).stem)
def test_deepbet_gives_the_very_tensors_that_its_program_has(published_file: tuple[str, str]) -> None:
    path = packaged(*published_file)
    state = read(path).state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.jit.load(path).state_dict()
    assert list(state) == list(theirs)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in state.items())
    assert sum(tensor.numel() for tensor in state.values()) == 2_126_258


def test_deepbet_finds_the_brain_in_a_network_of_ones_own() -> None:
    net, report = published.brain(packaged(*published.DEEPBET[0]))
    assert report.share == 1.0
    assert report.named("random", "unexpected") == []
    sample = published.head()
    if sample is None:
        pytest.skip("nilearn, of the extra published, is not installed")
    assert published.brain_dice(net, *sample) > 0.93  # 0.948 was measured


def test_deepbet_goes_to_two_channels() -> None:
    path = packaged(*published.DEEPBET[0])
    net, report = published.brain(path, channels=2)
    assert report.share == 1.0
    kernel = net.state_dict()["init.0.weight"]
    torch.testing.assert_close(kernel.sum(1), read(path).state["init.0.weight"].sum(1))
