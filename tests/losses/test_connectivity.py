import math
from itertools import product

import pytest
import torch

from medseg.errors import InputError
from medseg.losses.connectivity import ConnectivityLoss, connectivity, one_minus
from tests.losses.drawn import ONE, REGIONS, TABLE, batch, certain, everywhere, mask


def test_worked_by_hand():
    # Cells with p = 1/2, 1/4, 1/8 and labels 1, 1, 0: a joint pair -log(1/8), and one across -log(1 - 1/32).
    prob = torch.tensor([0.5, 0.25, 0.125])[None, None]
    target, counted = torch.tensor([True, True, False])[None, None], torch.ones(1, 3).bool()
    joint, across = math.log(8), -math.log(31 / 32)
    for edges in (0.0, 0.5, 1.0):
        value = connectivity(prob, 1 - prob, target, counted, edges=edges)
        assert value.item() == pytest.approx(edges * across + (1 - edges) * joint)
    assert connectivity(prob, 1 - prob, target, torch.tensor([[True, True, False]]), edges=0.5) == joint / 2


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("table", [TABLE, REGIONS], ids=["classes", "regions"])
def test_equals_a_loop_over_all_pairs(table, corners):
    logits, label, valid = batch(table, (2, 3, 4, 3))
    prob = logits.detach().sigmoid() if table.regions else logits.detach().softmax(dim=1)
    counted = valid & (label >= 0)
    sums = {True: [0.0, 0], False: [0.0, 0]}
    cells = list(product(*map(range, label.shape[1:])))
    for image, (one, other) in product(range(2), product(cells, cells)):
        apart = [abs(a - b) for a, b in zip(one, other, strict=True)]
        near = max(apart) == 1 if corners else sum(apart) == 1
        if not (one < other and near and counted[(image, *one)] and counted[(image, *other)]):
            continue
        for output, members in enumerate([(1, 2), (2,)] if table.regions else [(1,), (2,)]):
            channel = output if table.regions else output + 1
            g, h = (label[(image, *cell)].item() in members for cell in (one, other))
            p = (prob[(image, channel, *one)] * prob[(image, channel, *other)]).item()
            sums[g != h][0] -= math.log(p if g and h else 1 - p)
            sums[g != h][1] += 1
    expected = 0.3 * sums[True][0] / sums[True][1] + 0.7 * sums[False][0] / sums[False][1]
    assert ConnectivityLoss(table, corners=corners, edges=0.3)(logits, label, valid).item() == pytest.approx(expected)


def test_certainty_is_finite_and_wrong_certainty_has_a_gradient():
    label = mask("....", ".##.", "....")
    right = ConnectivityLoss(ONE)(certain(label), label, everywhere(label))
    assert right.item() == pytest.approx(0.0, abs=1e-6)
    wrong = certain(1 - label, margin=30.0).requires_grad_()
    value = ConnectivityLoss(ONE)(wrong, label, everywhere(label))
    (gradient,) = torch.autograd.grad(value, wrong)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient[0, 1, 1, 1] < 0 < gradient[0, 1, 0, 0]


def test_one_minus_does_not_cancel():
    prob = torch.tensor([1.0, 1e-12, 2e-12], dtype=torch.float32)[None, :, None]
    torch.testing.assert_close(one_minus(prob)[0, :, 0], torch.tensor([3e-12, 1.0, 1.0]))


def test_bridge_between_two_parts_costs_more_than_a_wider_part():
    label = mask("..........", ".###..###.", "..........")
    bridge, wide = label.clone(), label.clone()
    bridge[0, 1, 4:6] = wide[0, 1, 4] = wide[0, 1, 9] = 1
    of_bridge, of_wide = (
        ConnectivityLoss(ONE, corners=False)(certain(p, margin=20.0), label, everywhere(label)).item()
        for p in (bridge, wide)
    )
    assert of_bridge > of_wide


def test_wrong_share_is_refused():
    with pytest.raises(InputError, match="loss connectivity: edges"):
        ConnectivityLoss(ONE, edges=1.5)
