from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from medseg.callbacks.finite import FiniteCheck, diverged, is_finite
from medseg.errors import InputError

BAD, GOOD = float("nan"), 1.0


def trainer(**changed: Any) -> Any:
    strategy = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor, reduce_boolean_decision=lambda said, all: said)
    settings: dict[str, Any] = {
        "accumulate_grad_batches": 1, "global_step": 0, "is_last_batch": False, "strategy": strategy, "optimizers": [],
        "precision": "32-true", "gradient_clip_val": None, "checkpoint_callbacks": [], "log_every_n_steps": 1,
    }  # fmt: skip
    return Mock(spec=Trainer, **(settings | changed))


def ended_at(losses: list[float], *, accumulate: int = 1) -> int | None:
    """Step at which the training ends; None if it does not."""
    check, running = FiniteCheck(), trainer(accumulate_grad_batches=accumulate)
    method: Any = Mock(spec=LightningModule, device=torch.device("cpu"))
    check.on_train_start(running, method)
    for index, loss in enumerate(losses):
        running.global_step = (index + 1) // accumulate
        try:
            check.on_train_batch_end(running, method, {"loss": torch.tensor(loss)}, None, index)
        except InputError:
            return running.global_step
    return None


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ([GOOD, BAD, BAD, BAD, GOOD], 4),
        ([BAD, BAD, GOOD, float("inf"), BAD, GOOD], None),
        ([float("inf"), BAD, -float("inf")], 3),
        ([GOOD] * 5, None),
    ],
)
def test_three_steps_in_a_row_end_the_training(losses: list[float], step: int | None) -> None:
    assert ended_at(losses) == step


def test_batches_of_one_step_count_once() -> None:
    assert ended_at([BAD, BAD, BAD, GOOD, GOOD, GOOD], accumulate=2) is None
    assert ended_at([BAD, GOOD, GOOD, BAD, BAD, BAD], accumulate=2) == 3


def test_infinite_masks_are_no_weights() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    net.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    assert is_finite(net)
    running: Any = net[1].running_var
    running[0] = torch.inf
    assert not is_finite(net)
    assert is_finite(nn.ReLU())


def test_message_has_advice_and_the_step_of_the_best_checkpoint(tmp_path: Path) -> None:
    group = {"lr": 0.1, "base_lr": 3e4}
    changed: dict[str, Any] = {"optimizers": [SimpleNamespace(param_groups=[group])], "precision": "16-mixed"}
    best = ModelCheckpoint(dirpath=tmp_path, filename="best")
    told = str(diverged(trainer(**changed, checkpoint_callbacks=[best]), "the loss is not finite since step 7"))
    assert told == (
        "the loss is not finite since step 7: the training diverged; lower optimizer.lr (30000), take "
        "trainer.precision=bf16-mixed or 32-true (16-mixed), set trainer.gradient_clip_val=1; there is no best.ckpt yet"
    )
    torch.save({"global_step": 4}, tmp_path / "best.ckpt")
    assert str(diverged(trainer(checkpoint_callbacks=[best]), "x")).endswith(f"{tmp_path}/best.ckpt holds step 4")


def test_network_that_is_not_finite_is_neither_validated_nor_saved() -> None:
    net: Any = LightningModule()
    net.inner = nn.Linear(1, 1)
    net.inner.weight.data[:] = BAD
    running = trainer(global_step=5, sanity_checking=False)
    with pytest.raises(InputError, match="weights that are not finite after step 5"):
        FiniteCheck().on_validation_start(running, net)
    with pytest.raises(InputError, match="weights that are not finite after step 5"):
        FiniteCheck().on_save_checkpoint(running, net, {})
