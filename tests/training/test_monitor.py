"""What chooses checkpoints: ``monitor``, early stopping, and the check that a training is finite."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from medseg import checkpoint
from medseg.errors import InputError
from medseg.factory.trainer import early_stop, monitored
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.methods.mae import Mae
from medseg.methods.supervised import Supervised
from medseg.training.train import train

TABLE = LabelTable.declare({"background": 0, "liver": 1})
TINY = [
    "data=phantom_volumes", "data.n_cases=4", "data.n_test=0", "data.shape=[24,28,20]", "split.n_folds=2",
    "trainer.steps_per_epoch=2", "plan.patch=[16,16,16]", "plan.batch_size=1", "model.base_features=4",
    "metric=overlap",
    "trainer.max_steps=8", "logger=csv", "trainer.accelerator=cpu", "trainer.precision=32-true", "callback={}",
    "trainer.deterministic=true", "inference.overlap=0.25", "test=false",
]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ("val/dice", "max")),
        (["metric=overlap"], ("val/dice", "max")),
        (["metric=scene"], ("val/miou", "max")),
        (["metric=scene", "monitor=val/dice"], ("val/dice", "max")),
        (["metric=scene", "monitor=val/iou/liver"], ("val/iou/liver", "max")),
        (["monitor=val/loss"], ("val/loss", "min")),
        (["monitor=val/dice/liver"], ("val/dice/liver", "max")),
        (["monitor=val/case_auc", "data=nnunet", "data.root=x", "data.case_label=kind"], ("val/case_auc", "max")),
    ],
)
def test_monitor_is_that_of_the_metrics_unless_one_is_named(overrides: list[str], expected: tuple[str, str]) -> None:
    cfg = compose("train", overrides)
    assert monitored(cfg, Supervised) == monitored(cfg, Supervised, TABLE) == expected


def test_pretraining_keeps_its_own() -> None:
    assert monitored(compose("train", ["method=mae", "metric=scene"]), Mae) == ("val/loss", "min")
    with pytest.raises(InputError, match=r"monitor=val/dice: no validation logs it; expected one of val/loss, or null"):
        monitored(compose("train", ["method=mae", "monitor=val/dice"]), Mae)


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["monitor=dice"], "val/loss, val/dice, or null"),
        (["monitor=val/miou"], "val/loss, val/dice, or null"),
        (["monitor=val/iou/liver"], "val/loss, val/dice, or null"),
        (["monitor=val/loss", "method.val_patches=0"], "val/dice, or null"),
        (["monitor=val/nsd", "metric=scene"], "val/loss, val/dice, val/miou, or null"),
        (["monitor=val/case_auc"], "val/loss, val/dice, or null"),
        (
            ["monitor=val/case_f1", "data=nnunet", "data.root=x", "data.case_label=kind"],
            "val/loss, val/dice, val/case_accuracy, val/case_balanced_accuracy, val/case_auc, or null",
        ),
    ],
)
def test_monitor_that_nothing_logs_is_refused_before_data_is_read(overrides: list[str], keys: str) -> None:
    with pytest.raises(InputError, match=f"no validation logs it; expected one of {keys}"):
        monitored(compose("train", overrides), Supervised)


def test_monitor_of_a_class_that_is_not_in_the_data_is_refused() -> None:
    cfg = compose("train", ["monitor=val/dice/spleen"])
    assert monitored(cfg, Supervised) == ("val/dice/spleen", "max"), "the label table is not known yet"
    with pytest.raises(InputError, match=r"expected one of val/loss, val/dice, val/dice/liver, or null"):
        monitored(cfg, Supervised, TABLE)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["early_stopping.patience=0"], r"early_stopping.patience=0: expected a number of validations from 1 on"),
        (["early_stopping.patience=1.5"], r"early_stopping.patience=1.5: expected a number of validations"),
        (["early_stopping.patience=3", "early_stopping.min_delta=-1"], r"min_delta=-1.*from 0 on"),
        (["early_stopping.patience=3", "split.fold=all"], r"split.fold=all, which validates on the training cases"),
    ],
)
def test_early_stopping_that_makes_no_sense_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        early_stop(compose("train", overrides), ("val/dice", "max"))


def test_without_patience_nothing_stops() -> None:
    assert early_stop(compose("train", []), ("val/dice", "max")) == []


class _Poison(Callback):
    """Makes the loss of some steps not finite, or all weights."""

    def __init__(self, steps: list[int], weights_at: int = -1) -> None:
        self.steps, self.weights_at = steps, weights_at

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.loss.register_forward_hook(
            lambda _, given, found: (found[0] + float("inf"), found[1]) if trainer.global_step in self.steps else found
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == self.weights_at:
            for weight in pl_module.network.parameters():
                weight.data[:] = float("nan")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(cache: Path, name: str, *overrides: str) -> Path:
    return train(compose("train", [*TINY, f"cache_dir={cache}", f"run_dir={cache}/runs/{name}", *overrides]))


def step_of(path: Path) -> int:
    return checkpoint.read(path).step


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.read(folder / "checkpoints/last.ckpt").network_state)


def poison(steps: list[int], weights_at: int = -1) -> list[str]:
    own = [f"+callback.poison.{key}" for key in ("_target_=tests.training.test_monitor._Poison", f"steps={steps}")]
    return [*own, f"+callback.poison.weights_at={weights_at}"]


def test_three_losses_in_a_row_that_are_not_finite_end_the_training(cache: Path) -> None:
    expected = (
        r"the loss is not finite since step 5: the training diverged; lower optimizer.lr \(.*\), "
        r"lower trainer.gradient_clip_val \(12\); .*/loss/checkpoints/best.ckpt holds step"
    )
    with pytest.raises(InputError, match=expected):
        run(cache, "loss", *poison([0, 1, 4, 5, 6]))  # two in a row are let pass


def test_a_network_that_is_not_finite_is_never_saved(cache: Path) -> None:
    with pytest.raises(InputError, match=r"weights that are not finite after step 4: .*best.ckpt holds step 2"):
        run(cache, "weights", *poison([], weights_at=4))
    folder = cache / "runs/weights"
    assert {step_of(folder / "checkpoints" / f"{kind}.ckpt") for kind in ("best", "last")} == {2}
    with pytest.raises(InputError, match=r"weights that are not finite after step 1: .*there is no best.ckpt yet"):
        run(cache, "first", *poison([], weights_at=1), "trainer.steps_per_epoch=1")
    assert not list((cache / "runs/first/checkpoints").glob("*.ckpt"))


def test_monitor_chooses_the_best_checkpoint(cache: Path) -> None:
    folder = run(cache, "monitor", "monitor=val/loss", "optimizer.lr=3")
    with (folder / "metrics.csv").open() as stream:
        losses = {int(row["step"]) + 1: float(row["val/loss"]) for row in csv.DictReader(stream) if row["val/loss"]}
    assert step_of(folder / "checkpoints/best.ckpt") == min(losses, key=lambda step: losses[step])


def test_early_stopping_ends_where_it_ends_when_it_is_resumed(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is better by 1 or more than the first Dice, so the third validation is the last one."""
    early = ["early_stopping.patience=2", "early_stopping.min_delta=1"]
    whole = run(cache, "early", *early)
    assert "Stopped early at step 6: val/dice has not been better than" in capsys.readouterr().out
    assert step_of(whole / "checkpoints/last.ckpt") == 6
    halved = run(cache, "halved", *early, "trainer.max_steps=4", "scheduler=constant")
    resumed = run(cache, "halved", *early, "scheduler=constant", "ckpt_path=last")
    assert step_of(halved / "checkpoints/last.ckpt") == step_of(resumed / "checkpoints/last.ckpt") == 6
    before = weights(whole)
    run(cache, "early", *early, "ckpt_path=last")
    assert step_of(whole / "checkpoints/last.ckpt") == 6, "it had ended, and takes no further step"
    assert all(torch.equal(value, before[name]) for name, value in weights(whole).items())
