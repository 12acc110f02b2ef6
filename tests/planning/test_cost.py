import pytest
import torch
from torch import nn

from medseg.errors import InputError
from medseg.models.network import ModelSpec
from medseg.models.unet import UNet
from medseg.planning.cost import Budget, UNetCost, convolution_outputs


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"base_features": 5, "max_features": 12, "encoder_blocks": (1, 3), "decoder_blocks": (2, 1)},
        {"encoder_blocks": (1, 3, 4, 6), "decoder_blocks": (1,), "residual": True, "max_features": 64},
    ],
)
def test_counts_what_the_network_really_writes(ndim, settings):
    strides = ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    strides = tuple(s[:ndim] for s in strides)
    kernels, patch = ((3,) * ndim,) * 4, (16, 24, 8)[:ndim]
    written = []
    with torch.device("meta"):
        network = UNet(ModelSpec(2, 3, patch, (1.0,) * ndim, kernels, strides), **settings).eval()
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
                module.register_forward_hook(lambda module, args, feature: written.append(feature.numel()))
        network(torch.empty(1, 2, *patch))
    assert convolution_outputs(patch, strides, 3, UNetCost(**settings)) == sum(written)


def test_budgets_are_those_of_nnunet_and_scale_with_memory():
    assert Budget.for_memory(3) == Budget(560e6, 2, must_fit=2, coverage=0.05)
    assert Budget.for_memory(2, 16) == Budget(170e6, 12, must_fit=2, coverage=0.05)
    assert Budget.for_memory(3, 24, residual=True) == Budget(2.1e9, 2, must_fit=2, coverage=1.0)
    assert Budget.for_memory(2, 80, residual=True).outputs == pytest.approx(2 * 560e6)
    assert Budget.for_memory(3, 4, residual=True).outputs == pytest.approx(340e6)
    with pytest.raises(InputError, match="got 4 axes"):
        Budget.for_memory(4)


def test_the_encoder_counts_once_for_each_date_that_it_sees_by_itself():
    patch, strides = (16, 24), ((1, 1), (2, 2), (2, 2))
    kernels, written = ((3, 3),) * 3, {"encoder": 0, "rest": 0}
    with torch.device("meta"):
        network = UNet(ModelSpec(2, 3, patch, (1.0, 1.0), kernels, strides)).eval()
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            part = "encoder" if name.startswith("encoder") else "rest"

            def count(module, args, feature, part=part):
                written[part] += feature.numel()

            module.register_forward_hook(count)
    with torch.device("meta"):
        network(torch.empty(1, 2, *patch))
    expected = 5 * written["encoder"] + written["rest"] + 10 * 16 * 24
    assert convolution_outputs(patch, strides, 3, UNetCost(dates=5, inputs=10)) == expected
