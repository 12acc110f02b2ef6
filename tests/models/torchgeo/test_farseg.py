import math

import pytest
import torch
from torchgeo.models import FarSeg as TorchgeoFarSeg

from medseg.errors import InputError
from medseg.models.network import ModelSpec
from medseg.models.torchgeo.farseg import FarSeg


def spec(in_channels):
    return ModelSpec(
        in_channels=in_channels, out_channels=3, patch_shape=(64, 64), spacing=(1.0, 1.0), kernels=(), strides=()
    )


def test_logits_of_three_bands_are_those_of_torchgeo():
    ours = FarSeg(spec(3), backbone="resnet18").eval()
    theirs = TorchgeoFarSeg("resnet18", classes=3, backbone_pretrained=False).eval()
    missing, unexpected = theirs.load_state_dict(ours.net.state_dict(), strict=False)
    assert (missing, unexpected) == (["backbone.fc.weight", "backbone.fc.bias"], [])
    image = torch.randn(1, 3, 32, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(image), theirs(image))


def test_stem_of_many_bands_starts_as_that_of_three():
    torch.manual_seed(0)
    weight = FarSeg(spec(13), backbone="resnet18").net.backbone.conv1.weight.detach()
    assert weight.shape == (64, 13, 7, 7)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 7 * 7)), rel=0.02)  # He, of the outputs


def test_unknown_backbone_is_refused():
    with pytest.raises(InputError, match="backbone=vgg16: expected resnet18, resnet34, resnet50 or resnet101"):
        FarSeg(spec(3), backbone="vgg16")


def test_a_single_coarse_cell_is_refused():
    with pytest.raises(InputError, match=r"two or more of them; pad to \(32, 64\)"):
        FarSeg(spec(3), backbone="resnet18")(torch.zeros(1, 3, 32, 32))
