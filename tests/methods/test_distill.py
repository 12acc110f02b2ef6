"""Distillation: the divergence by hand, and a training with a teacher of another network, spacing and order."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg import checkpoint
from medseg.errors import InputError
from medseg.factory.run import assemble
from medseg.hydra_app.compose import compose
from medseg.methods.pseudo_labels import divergence, summed
from medseg.training.train import train
from tests.factory.test_streams import first
from tests.methods.test_mean_teacher import stored
from tests.tiny import SMALL, write_nnunet

OWN = ["split.n_folds=3", "test=false", "method=distill", "streams=unlabelled", "split.n_labelled=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets of the same channels in two orders, and a teacher that was trained on one of them."""
    root = tmp_path_factory.mktemp("distill")
    write_nnunet(root / "data", n_cases=6, channels=("T1", "T2"))
    write_nnunet(root / "other", n_cases=3, channels=("T2", "T1"))
    places = [f"data.root={root}/other", f"cache_dir={root}/cache", f"run_dir={root}/teacher"]
    own = ["model=unet_tiny", "split.n_folds=3", "test=false", "plan.spacing=[1.5,2,1]", "trainer.max_steps=1"]
    train(compose("train", [*SMALL, *places, *own]))
    return root


def words(folder: Path, name: str, *more: str) -> list[str]:
    places = [f"data.root={folder}/data", f"cache_dir={folder}/cache", f"run_dir={folder}/{name}"]
    return [*SMALL, *OWN, f"method.teacher={folder}/teacher", *places, *more]


def test_divergence_of_classes_by_hand() -> None:
    logits = torch.tensor([[[0.0], [math.log(3)]]])
    target = torch.tensor([[[0.5], [0.5]]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert float(divergence(logits, target, regions=False)) == pytest.approx(expected)
    assert float(divergence(logits, logits.softmax(1), regions=False)) == pytest.approx(0, abs=1e-7)
    moving = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: divergence(x, target.double(), regions=False), moving)


def test_divergence_of_regions_by_hand() -> None:
    logits = torch.tensor([[[math.log(3)], [0.0]]])
    target = torch.tensor([[[0.5], [1.0]]])
    expected = (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25) + math.log(2)) / 2
    assert float(divergence(logits, target, regions=True).mean()) == pytest.approx(expected)


def test_cells_without_data_do_not_count_be_they_nan() -> None:
    values = torch.tensor([[1.0, float("nan"), 3.0]])
    assert float(summed(values[None], torch.tensor([[[True, False, True]]]))) == 4


def test_a_training_learns_from_labels_and_from_the_teacher_on_all_patches(folder: Path) -> None:
    run = assemble(compose("train", words(folder, "one", "method.weight=0.5", "method.temperature=3")), folder / "one")
    method: Any = run.method
    batch = first(run)
    logged: dict[str, torch.Tensor] = {}
    method.log_losses = lambda losses, n: logged.update(losses)
    total = method.training_step(batch, 0)
    loss, _ = method.supervised_loss(batch["main"])
    sums = []
    for one in batch.values():
        target = method.teacher.probabilities(one, 3.0)
        assert target.shape == (len(one.image), 3, 16, 16, 16)
        log_prob = (method.network(one.image)[0] / 3).log_softmax(1)
        sums.append((target * (target.log() - log_prob)).sum(1)[one.valid].sum())
    divergence = 9 * sum(sums) / sum(one.valid.sum() for one in batch.values())
    torch.testing.assert_close(logged["distill"], divergence)
    torch.testing.assert_close(total, loss + 0.5 * divergence)
    total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())


def test_a_resumed_training_equals_an_uninterrupted_one_and_stores_the_teacher_unchanged(folder: Path) -> None:
    whole = train(compose("train", words(folder, "whole")))
    train(compose("train", words(folder, "parts", "trainer.max_steps=1")))
    parts = train(compose("train", words(folder, "parts", "ckpt_path=last")))
    state, other = stored(whole)["state_dict"], stored(parts)["state_dict"]
    learned = checkpoint.read(folder / "teacher/checkpoints/best.ckpt").network_state
    for name, value in learned.items():
        assert torch.equal(state[f"teacher.network.{name}"], value), name
    assert state.keys() == other.keys()
    assert stored(whole)["global_step"] == stored(parts)["global_step"] == 2
    assert not any("teacher" in key for key in checkpoint.read(whole / "checkpoints/last.ckpt").network_state)


@pytest.mark.parametrize(
    "more, message",
    [
        (["method.teacher=null"], r"^method\.teacher=null: expected a checkpoint of a run"),
        (["method.teacher=nowhere.ckpt"], r"^method\.teacher=nowhere\.ckpt: no such file"),
        (["method.weight=-1"], r"^method\.weight=-1: expected"),
        (["method.temperature=0"], r"^method\.temperature=0: expected"),
    ],
)
def test_what_it_lacks_is_one_line(folder: Path, more: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        assemble(compose("train", words(folder, "bad", *more)), folder / "bad")
