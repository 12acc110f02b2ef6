import pytest
import torch
from torch import Tensor, nn

from medseg.models.network import ModelSpec
from medseg.models.unet import UNet
from medseg.planning.activations import KEPT_PER_OUTPUT, Need, need_of
from medseg.planning.cost import UNetCost, convolution_outputs, estimated_gb
from medseg.planning.rules import topology

CELLS = 6 * 8


class Branches(nn.Module):
    """Two layers that read the same tensor, which is kept once."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.a(image) + self.b(image)
        return out


class Reading(nn.Module):
    """Decides by a value, which a tensor without values does not have."""

    def forward(self, image: Tensor) -> Tensor:
        return image if image.sum().item() > 0 else -image


def test_counts_what_the_backward_pass_reads_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 2, 1))
    need = need_of(network, 3, (6, 8))
    # The image for the first kernel, and the rectified features for themselves and for the second one, in 4 bytes.
    assert need == Need(2, (3 + 5) * CELLS * 4, 3 * 5 * 9 + 5 + 5 * 2 + 2)


def test_a_tensor_that_two_layers_read_counts_once() -> None:
    need = need_of(Branches(), 3, (6, 8))
    assert need is not None
    assert need.kept == 3 * CELLS * 4


def test_parameters_are_no_part_of_what_grows_with_the_batch() -> None:
    need = Need(3, 560e6 * KEPT_PER_OUTPUT, 41_000_000)
    assert need.gb(4) - need.gb(2) == pytest.approx(8.0)
    assert need.gb(2) == pytest.approx(8.0 + 10e6 * 16e-9)  # beyond the 31 million that the budget includes


def test_a_network_that_reads_values_is_not_known() -> None:
    assert need_of(Reading(), 3, (6, 8)) is None


def test_nothing_is_drawn_or_computed() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    network = nn.Sequential(nn.Conv2d(1, 512, 3), nn.Dropout(0.5))
    torch.set_rng_state(before)
    assert need_of(network, 1, (4096, 4096)) is not None  # 34 GB, had it values
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("patch", [(32, 32, 32), (64, 96)])
def test_a_unet_needs_what_the_rules_estimate_for_it(patch: tuple[int, ...]) -> None:
    stages = topology((1.0,) * len(patch), patch)
    spec = ModelSpec(1, 3, patch, (1.0,) * len(patch), stages.kernels, stages.strides)
    outputs = convolution_outputs(patch, stages.strides, 3, UNetCost(base_features=8))
    need = need_of(UNet(spec, base_features=8), 1, patch)
    assert need is not None
    assert need.gb(2) == pytest.approx(estimated_gb(len(patch), outputs, 2), rel=0.1)
