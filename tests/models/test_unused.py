import torch
from torch import nn

from medseg.models.unused import drop_idle, trace


class Forked(nn.Module):
    """Uses one of its two branches, and half of another module."""

    def __init__(self):
        super().__init__()
        self.used = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.idle = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
        self.heads = nn.ModuleDict({"head": nn.Conv2d(3, 4, 1), "tail": nn.Linear(3, 1)})

    def forward(self, image):
        return self.heads["head"](self.used(image))


def test_trace_tells_the_shape_and_what_is_used():
    shape, used = trace(Forked(), (2, 2, 8, 10))
    assert shape == (2, 4, 4, 5)
    assert used == {"used.weight", "used.bias", "heads.head.weight", "heads.head.bias"}


def test_trace_neither_draws_nor_changes_anything():
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    with torch.no_grad():
        trace(net, (1, 2, 1, 1))
    assert [module.training for module in net.modules()] == [True] * 4
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.device.type == "cpu" and p.grad is None for p in net.parameters())


def test_idle_modules_are_dropped_and_the_rest_stays():
    net, image = Forked(), torch.randn(1, 2, 8, 8)
    expected = net(image)
    drop_idle(net, trace(net, image.shape)[1])
    assert {name for name, _ in net.named_parameters()} == trace(net, image.shape)[1]
    assert [name for name, _ in net.named_buffers()] == []  # those of the idle branch's norm
    assert torch.equal(net(image), expected)
