"""EfficientNets with the names of the first port to PyTorch, which encoders of segmentation-models-pytorch have."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from medseg.errors import InputError
from medseg.models.timm.efficientnet import renamed
from medseg.models.timm.encoder import Timm
from tests.models.timm.test_encoder import assert_close, shaken, spec

SIZES = [f"b{size}" for size in range(8)]


def port(size: str) -> nn.Module:
    """An encoder with the names of the first port."""
    encoder: nn.Module = smp.encoders.get_encoder(f"efficientnet-{size}", weights=None)
    return encoder


@pytest.mark.parametrize("size", SIZES)
def test_every_size_gets_the_names_and_shapes_of_timm(size: str) -> None:
    with torch.device("meta"):
        theirs, ours = port(size).state_dict(), timm.create_model(f"tf_efficientnet_{size}").state_dict()
    shapes = {name: t.shape for name, t in ours.items() if not name.startswith("classifier")}
    assert {name: t.shape for name, t in renamed(theirs).items()} == shapes


@pytest.mark.parametrize("name", [f"tf_efficientnet_{size}" for size in ("b8", "l2", *(f"lite{n}" for n in range(5)))])
def test_each_stage_ends_with_channels_of_its_own(name: str) -> None:
    with torch.device("meta"):
        net = timm.create_model(name)
    ends = [[p.shape[0] for p in block.parameters() if p.ndim == 4][-1] for stage in net.blocks for block in stage]
    stages = [[p.shape[0] for p in stage[-1].parameters() if p.ndim == 4][-1] for stage in net.blocks]
    assert [n for i, n in enumerate(ends) if i == 0 or n != ends[i - 1]] == stages


@pytest.mark.parametrize("prefix", ["", "module.", "model.encoder."])
def test_features_are_those_of_the_port(prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = shaken(port("b0")).eval()
    torch.save(
        {prefix + name: t for name, t in net.state_dict().items()} | {"other.weight": torch.ones(2)},
        tmp_path / "b0.pth",
    )
    encoder = Timm(spec(), name="tf_efficientnet_b0", weights=str(tmp_path / "b0.pth")).eval()
    report = encoder.initialise()
    assert report is not None
    assert report.share == 1.0
    assert not any("order" in warning for warning in report.warnings)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, given = ({t.shape[1]: t for t in encode(image)} for encode in (net, encoder))
    shared = [24, 40, 320]  # the port takes its other features within a stage
    assert_close([given[n] for n in shared], [expected[n] for n in shared])


def test_a_file_of_a_deeper_size_is_refused(tmp_path: Path) -> None:
    torch.save(port("b1").state_dict(), tmp_path / "b1.pth")  # the widths of B0, with more blocks in each stage
    with pytest.raises(InputError, match="the file has further layers of the same kind, so it is of a larger network"):
        Timm(spec(), name="tf_efficientnet_b0", weights=str(tmp_path / "b1.pth")).initialise()


def test_other_names_stay() -> None:
    state = {"_blocks.0._project_conv.weight": torch.ones(2, 2, 1, 1), "stem.weight": torch.ones(1)}
    assert list(renamed(state)) == list(state)


def test_tensors_of_other_names_are_taken_in_order_with_a_warning(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = shaken(timm.create_model("tf_efficientnet_lite0")).eval()
    torch.save({f"tensor{i}": t for i, t in enumerate(net.state_dict().values())}, tmp_path / "lite0.pth")
    encoder = Timm(spec(5), name="tf_efficientnet_lite0", weights=str(tmp_path / "lite0.pth"), adapt="mean")
    report = encoder.initialise()
    assert report is not None
    assert report.share == 1.0
    assert "no name fits: taken in order" in report.table()
    assert any(warning.startswith("no name of the file fits") for warning in report.warnings)
    own, file = encoder.trunk.state_dict(), net.state_dict()
    assert all(torch.equal(t, file[name]) for name, t in own.items() if name != "conv_stem.weight")
