"""PerPixel: logits of a cell from the channels of that cell."""

from typing import Any

import pytest
import torch

from medseg.errors import InputError
from medseg.models.network import ModelSpec
from medseg.models.per_pixel import PerPixel


def build(ndim: int = 2, **settings: Any) -> PerPixel:
    shape, ones = (8, 6, 4)[:ndim], (1.0,) * ndim
    torch.manual_seed(0)
    return PerPixel(ModelSpec(5, 3, shape, ones, (), ()), **settings).eval()


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_cell_depends_on_itself_alone(ndim: int, depth: int) -> None:
    network, image = build(ndim, depth=depth, width=7), torch.randn(1, 5, *(5, 7, 3)[:ndim])
    changed = image.clone()
    changed.flatten(2)[:, :, 4] += 1
    different = (network(image) != network(changed)).any(1).flatten()
    assert different.nonzero().flatten().tolist() == [4]


@pytest.mark.parametrize("depth", [0, 2])
def test_kernel_size_is_that_of_the_first_layer(depth: int) -> None:
    network, image = build(depth=depth, kernel_size=3), torch.randn(1, 5, 7, 7)
    changed = image.clone()
    changed[..., 3, 3] += 1
    different = (network(image) != network(changed)).any(1)[0]
    assert different.nonzero().amin(0).tolist() == [2, 2]
    assert different.sum() == 9


def test_without_hidden_layers_it_is_linear() -> None:
    network, image = build(depth=0), torch.randn(2, 5, 4, 3)
    expected = torch.einsum("kc,bchw->bkhw", network.head.weight[:, :, 0, 0], image) + network.head.bias[:, None, None]
    torch.testing.assert_close(network(image), expected)
    assert dict(network.named_parameters())[network.stem_kernel] is network.head.weight
    hidden = build(depth=1)
    assert dict(hidden.named_parameters())[hidden.stem_kernel].shape == (128, 5, 1, 1)


@pytest.mark.parametrize(
    "settings", [{"depth": -1}, {"width": 0}, {"kernel_size": 2}, {"dropout": 1.0}, {"norm": "layer"}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="PerPixel: "):
        build(**settings)
