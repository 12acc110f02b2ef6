from copy import deepcopy

import torch
from torch import nn

from medseg.models.class_channel import ClassIndicators


class Seen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen = image
        logits: torch.Tensor = self.layer(image)
        return logits


def test_the_network_sees_an_indicator_of_each_class() -> None:
    net = Seen()
    before = list(net.state_dict())
    net.register_forward_pre_hook(ClassIndicators(channels=2, count=3))
    image = torch.tensor([[[[0.5, 0.6, 0.7, 0.8]], [[0.0, 1.0, 2.0, 3.0]]]])
    for one in (net, deepcopy(net)):
        one(image)
        assert torch.equal(one.seen[:, 0], image[:, 0])
        assert one.seen[0, 1:, 0].T.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert list(net.state_dict()) == before


def test_an_image_with_indicators_is_left_as_it_is() -> None:
    net = Seen()
    net.register_forward_pre_hook(ClassIndicators(channels=2, count=3))
    image = torch.rand(1, 4, 3, 3)
    net(image)
    assert net.seen is image
