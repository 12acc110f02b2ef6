"""Losses of a batch that is split over two ranks, against those of the whole batch in one process."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from _pytest.mark import ParameterSet
from hydra.utils import instantiate
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from medseg.labels import IGNORE, LabelTable
from medseg.losses.dice import DiceLoss
from medseg.losses.lovasz import LovaszLoss
from medseg.losses.ranks import mean_over_ranks
from medseg.losses.weighted_sum import WeightedSum
from tests.losses.test_invariants import settings
from tests.small import small

ROOT = Path(__file__).parents[2]
CLASSES = LabelTable.declare({"background": 0, "disc": 1, "bar": 2})
REGIONS = LabelTable.declare({"background": 0, "all": [1, 2], "bar": 2}, regions_class_order=[1, 2])
WEIGHTS: dict[str, dict[str, float]] = {"classes": {"disc": 3.0}, "regions": {"bar": 3.0}}
PARTIAL, ANNOTATED = ("dice", "dice_of_images", "cross_entropy", "tversky", "cldice"), "annotated"
NAME = "loss_and_gradient_of_two_ranks_are_those_of_the_whole_batch"


def terms() -> dict[str, Callable[..., nn.Module]]:
    """Every term of conf/loss whose packages are there, and Dice of single images."""
    packages = {name: small("loss/term", name)["package"] for name in settings()}
    there = [name for name, package in packages.items() if package is None or find_spec(package)]
    built = {name: instantiate(settings()[name]) for name in there}
    return built | {"dice_of_images": partial(DiceLoss, batch=False)}


def net(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, outputs, 1))


def given() -> tuple[Tensor, Tensor, Tensor]:
    """Image, label and valid of four patches; the last two, of the second rank, have few counted cells."""
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(0, 3, (4, 8, 8), generator=generator)
    label[2, 1:] = IGNORE
    valid = torch.ones(4, 8, 8, dtype=torch.bool)
    valid[3, :, 1:] = False
    return label[:, None].float() + torch.randn(4, 1, 8, 8, generator=generator), label, valid


@cache
def losses() -> dict[str, tuple[nn.Module, int]]:
    """By name the loss and its number of outputs; every term, alone and, where it takes them, with class weights."""
    built: dict[str, tuple[nn.Module, int]] = {}
    for kind, table in (("classes", CLASSES), ("regions", REGIONS)):
        for name, term in terms().items():
            built[f"{kind} {name}"] = (WeightedSum(table, {name: term}), table.n_outputs)
            if "class_weights" in getattr(term, "keywords", {}):
                weighted = partial(term, class_weights=WEIGHTS[kind])
                built[f"{kind} weighted {name}"] = (WeightedSum(table, {name: weighted}), table.n_outputs)
            if name in PARTIAL:
                built[f"{kind} {ANNOTATED} {name}"] = (WeightedSum(table, {name: term}), table.n_outputs)
    return built


def cases() -> list[ParameterSet]:
    """Names of the losses; those that say that they differ may."""
    parameters = []
    for name in losses():
        reason = small("loss/term", name.rpartition(" ")[2])["exempt"].get(NAME) if "images" not in name else None
        marks = [pytest.mark.xfail(reason=reason, strict=False, raises=AssertionError)] if reason else []
        parameters.append(pytest.param(name, marks=marks))
    return parameters


def annotated(outputs: int) -> Tensor:
    """Which outputs each patch annotates: of the first rank no patch both, of the second one all."""
    rows = torch.tensor([[True, False], [False, True], [True, False], [True, True]])
    return torch.cat([torch.ones(4, outputs - 2, dtype=torch.bool), rows], dim=1)


def step(loss: nn.Module, network: nn.Module, part: slice, *, name: str, outputs: int) -> list[Tensor]:
    """Loss of some of the patches, and the gradients of the weights."""
    image, label, valid = given()
    further = {"progress": 0.5, "image": image[part]}
    if f" {ANNOTATED} " in name:
        further |= {"annotated": annotated(outputs)[part]}
    total, _ = loss(network(image[part]), label[part], valid[part], further)
    total.backward()
    return [total.detach(), *(p.grad for p in network.parameters() if p.grad is not None)]


def of_rank(rank: int, folder: Path) -> None:
    """What one of two processes finds, saved as ``<rank>.pt``."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    part = slice(2 * rank, 2 * rank + 2)
    found = {
        name: step(loss, DistributedDataParallel(net(k)), part, name=name, outputs=k)
        for name, (loss, k) in losses().items()
    }
    found["mean"] = [mean_over_ranks(torch.tensor([rank, 3.0]))]
    if rank == 0:  # the other one must not be waited for
        found["evaluated"] = [
            DiceLoss(CLASSES).eval()(torch.zeros(1, 3, 4), torch.ones(1, 4).long(), torch.ones(1, 4) > 0)
        ]
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), folder], env=variables, stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", cases())
def test_loss_and_gradient_of_two_ranks_are_those_of_the_whole_batch(
    name: str, ranks: list[dict[str, list[Tensor]]]
) -> None:
    loss, outputs = losses()[name]
    expected = step(loss, net(outputs), slice(None), name=name, outputs=outputs)
    for found in ranks:
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)


def test_lovasz_is_averaged_over_ranks(ranks: list[dict[str, list[Tensor]]]) -> None:
    """The sorting of errors is within a rank, so that this loss differs from that of one process."""
    loss = WeightedSum(CLASSES, {"lovasz": LovaszLoss})
    parts = (slice(0, 2), slice(2, 4))
    halves = [step(loss, net(3), part, name="classes lovasz", outputs=3) for part in parts]
    for rank, found in enumerate(ranks):
        torch.testing.assert_close(found["classes lovasz"][0], halves[rank][0])
        means = [(a + b) / 2 for a, b in zip(halves[0][1:], halves[1][1:], strict=True)]
        torch.testing.assert_close(found["classes lovasz"][1:], means, rtol=1e-5, atol=1e-6)


def test_means_are_those_of_all_ranks(ranks: list[dict[str, list[Tensor]]]) -> None:
    assert [found["mean"][0].tolist() for found in ranks] == [[0.5, 3.0], [0.5, 3.0]]
    assert mean_over_ranks(torch.tensor([2.0])).tolist() == [2.0], "of a single process"


if __name__ == "__main__":
    of_rank(int(sys.argv[1]), Path(sys.argv[2]))
