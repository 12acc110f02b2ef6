"""FixMatch and UDA: which cells count, by hand; targets without gradients; annealed labels by their formula."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.targets import memberships
from medseg.methods.fixmatch import FixMatch
from medseg.methods.pseudo_labels import sharpened
from medseg.methods.uda import Uda, annealed, known_cells
from medseg.sample import Batch, StrongView
from tests.methods.test_supervised import Cropped, batch, net, supervised

KINDS = {"fixmatch": FixMatch, "uda": Uda}
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


def made(name: str, network: torch.nn.Module | None = None, **changed: Any) -> Any:
    method = supervised(net() if network is None else network, KINDS[name], **changed)
    method.logged = {}
    method.log_losses = lambda losses, n: method.logged.update({k: v.detach() for k, v in losses.items()})
    return method


def mirrored(values: Tensor) -> tuple[Tensor, Tensor]:
    """A strong view that is the weak one mirrored, of which the weak one does not show the first row."""
    shown = torch.ones(len(values), *values.shape[2:], dtype=torch.bool)
    shown[:, 0] = False
    return values.flip(-1).masked_fill(~shown[:, None], 0), shown


def streams(seed: int = 0, carry: Callable[[Tensor], tuple[Tensor, Tensor]] = mirrored) -> dict[str, Batch]:
    generator = torch.Generator().manual_seed(seed)
    main = batch(torch.randint(0, 3, (2, 16, 16), generator=generator))
    images = torch.randn(2, 2, 1, 16, 16, generator=generator)
    weak, strong = (
        replace(main, image=4 * i, label=torch.full_like(main.label, IGNORE), labelled=False) for i in images
    )
    return {"main": main, "other": replace(weak, stream="other", strong=StrongView(strong, carry))}  # type: ignore[arg-type]


def masked(method: Any, given: dict[str, Batch], threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Targets, confident cells and shown cells, by the definition."""
    view: Any = given["other"].strong
    prob, shown = view.carry(method.network(given["other"].image).softmax(1).detach())
    return prob, (prob.amax(1) >= threshold) & shown, shown


def test_fixmatch_is_the_cross_entropy_of_confident_cells_over_all_cells_that_both_views_show() -> None:
    method, given = made("fixmatch", weight=3, threshold=0.5), streams()
    total = method.training_step(given, 0)
    prob, counted, shown = masked(method, given, 0.5)
    assert 0 < counted.sum() < shown.sum()
    logits = method.network(given["other"].strong.batch.image)  # type: ignore[union-attr]
    each = functional.cross_entropy(logits, prob.argmax(1), reduction="none")
    torch.testing.assert_close(method.logged["consistency"], each[counted].sum() / shown.sum())
    torch.testing.assert_close(method.logged["confident"], counted.sum() / shown.sum())
    torch.testing.assert_close(total, method.supervised_loss(given["main"])[0] + 3 * method.logged["consistency"])


def test_uda_is_the_divergence_from_sharpened_targets_where_those_before_are_confident() -> None:
    method, given = made("uda", threshold=0.5, temperature=0.3, annealing=None), streams()
    method.training_step(given, 0)
    prob, counted, shown = masked(method, given, 0.5)
    logits = method.network(given["other"].strong.batch.image)  # type: ignore[union-attr]
    target = sharpened(prob, 0.3, regions=False)
    each = functional.kl_div(logits.log_softmax(1), target, reduction="none").sum(1)
    torch.testing.assert_close(method.logged["consistency"], each[counted].sum() / shown.sum())


@pytest.mark.parametrize("name", KINDS)
def test_targets_have_no_gradient(name: str) -> None:
    """Gradients are those of targets that are constants; nothing above the threshold is no gradient at all."""
    given = streams()
    method = made(name, threshold=0.5)
    method._compared(given["other"])[0].backward()
    own = [p.grad.clone() for p in method.parameters()]
    prob, shown = given["other"].strong.carry(method.network(given["other"].image).softmax(1).detach())  # type: ignore[union-attr]
    method.zero_grad()
    fixed = replace(given["other"], strong=replace(given["other"].strong, carry=lambda _: (prob, shown)))  # type: ignore[type-var]
    method._compared(fixed)[0].backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(own, method.parameters(), strict=True))
    assert any(a.any() for a in own)
    method.zero_grad()
    method.threshold = 1.1
    method._compared(given["other"])[0].backward()
    assert not any(p.grad.any() for p in method.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_cells_that_a_view_does_not_show_have_no_part(name: str) -> None:
    def blank(values: Tensor) -> tuple[Tensor, Tensor]:
        moved, shown = mirrored(values)
        return torch.where(shown[:, None], moved, 0.99), shown

    sums = [made(name, threshold=0.5)._compared(streams(carry=carry)["other"]) for carry in (mirrored, blank)]
    assert torch.equal(torch.stack(sums[0]), torch.stack(sums[1]))
    none = streams(carry=lambda v: (torch.zeros_like(v), torch.zeros(2, 16, 16, dtype=torch.bool)))
    method = made(name)
    method.training_step(none, 0).backward()
    assert float(method.logged["consistency"]) == float(method.logged["confident"]) == 0


def test_regions_are_confident_one_by_one() -> None:
    method = made("fixmatch", torch.nn.Conv2d(1, 2, 1), labels=REGIONS, threshold=0.9)
    with torch.no_grad():
        method.network.weight[:] = 0
        method.network.bias[:] = torch.tensor([math.log(19), 0.1])  # probabilities of 0.95 and 0.52
    loss, confident, cells = (value.detach() for value in method._compared(streams()["other"]))
    assert float(confident / cells) == pytest.approx(0.5)
    assert float(loss / cells) == pytest.approx(-math.log(0.95) / 2, rel=1e-5)


@torch.no_grad()
def test_cutmix_mixes_views_and_targets_alike() -> None:
    """Two patches of one key exchange a box: of a network of single cells, the loss of all cells stays."""
    given = streams(carry=lambda v: (v, torch.ones(2, 16, 16, dtype=torch.bool)))
    same = replace(given["other"], strong=replace(given["other"].strong, batch=given["other"]))  # type: ignore[type-var]
    cells = made("fixmatch", torch.nn.Conv2d(1, 3, 1), threshold=0.0, cutmix=1.0)
    expected = -cells.network(same.image).log_softmax(1).amax(1).sum()
    torch.testing.assert_close(cells._compared(same)[0], expected)
    around, plain = (made("fixmatch", threshold=0.0, cutmix=p)._compared(same)[0] for p in (1.0, 0.0))
    assert around != plain


@pytest.mark.parametrize(
    "schedule, share",
    [("log", lambda t: 1 - math.exp(-t * 5)), ("linear", lambda t: t), ("exp", lambda t: math.exp((t - 1) * 5))],
)
def test_the_annealing_follows_the_papers_formulas(schedule: str, share: Callable[[float], float]) -> None:
    for progress in (0.0, 0.3, 1.0):
        expected = share(progress) * (1 - 1 / 4) + 1 / 4
        assert annealed(progress, schedule, 4) == pytest.approx(expected)


def test_labels_that_are_known_are_left_out() -> None:
    prob = torch.tensor([[[0.9, 0.9, 0.2, 0.5], [0.1, 0.1, 0.8, 0.5]]])
    label = torch.tensor([[0, 1, 1, IGNORE]])
    assert known_cells(prob, label, torch.eye(2).bool(), 0.7, regions=False).tolist() == [[True, False, True, False]]
    members = memberships(REGIONS)
    inside = torch.tensor([[[0.9, 0.9, 0.1], [0.1, 0.9, 0.2]]])  # labels: background, whole alone, core
    known = known_cells(inside[..., [0, 1, 2]], torch.tensor([[1, 1, 0]]), members, 0.7, regions=True)
    assert known.tolist() == [[True, False, True]]


def test_the_supervised_loss_of_uda_is_that_of_the_labels_that_are_left() -> None:
    given = streams()["main"]
    method, plain = made("uda"), made("uda", annealing=None)
    method.progress = plain.progress = 0.1
    prob = method.network(given.image).softmax(1)
    right = prob.gather(1, given.label[:, None])[:, 0]
    left = right > 0.1 * (1 - 1 / 3) + 1 / 3
    assert 0 < left.sum() < left.numel()
    expected, _ = plain.supervised_loss(replace(given, label=given.label.masked_fill(left, IGNORE)))
    assert torch.equal(method.supervised_loss(given)[0], expected)
    assert not torch.equal(plain.supervised_loss(given)[0], expected)


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("fixmatch", {"weight": -1.0}, r"^method\.weight=-1\.0: expected a weight of 0 or more$"),
        ("fixmatch", {"threshold": 1.5}, r"^method\.threshold=1\.5: expected a probability from 0 to 1"),
        ("fixmatch", {"cutmix": 2.0}, r"^method\.cutmix=2\.0: expected a probability from 0 to 1"),
        ("uda", {"temperature": 0.0}, r"^method\.temperature=0\.0: expected a number above 0"),
        ("uda", {"annealing": "cubic"}, r"^method\.annealing=cubic: expected log, linear, exp or null$"),
        ("fixmatch", {"network": Cropped()}, r"^method=fixmatch compares whole patches, and the network gives no"),
        ("uda", {"network": Cropped()}, r"^method=uda compares whole patches, and the network gives no"),
    ],
)
def test_bad_settings_are_one_line(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(name, **settings)
