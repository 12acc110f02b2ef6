"""Resumable: at whatever moment a training is ended, it resumes to what an uninterrupted one gives, bit for bit."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, call

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from medseg import checkpoint
from medseg.callbacks.resumable import Resumable
from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.runtime import signals
from medseg.training.train import train

TINY = [
    "data=phantom_volumes", "data.n_cases=6", "data.n_test=0", "data.shape=[24,28,20]", "split.n_folds=3",
    "trainer.steps_per_epoch=3", "plan.patch=[16,16,16]", "plan.batch_size=1", "model.base_features=4", "test=false",
    "trainer.max_steps=9", "logger=csv", "trainer.accelerator=cpu", "trainer.precision=32-true", "metric=overlap",
    "inference.overlap=0.25", "callback.previews=null",
]  # fmt: skip


class Signal(Callback):
    """Receives SIGTERM at a step, in the hook of a name."""

    def __init__(self, hook: str, step: int) -> None:
        self.step = step
        setattr(self, hook, self._receive)

    def _receive(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step and not signals.pending():
            signal.raise_signal(signal.SIGTERM)
            assert not trainer.received_sigterm, "Lightning has its own way of ending"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def trained(cache: Path, name: str, *more: str, watched_by: Sequence[Callback] = ()) -> Path:
    return train(compose("train", [*TINY, f"cache_dir={cache}", f"run_dir={cache}/{name}", *more]), watched_by)


@pytest.fixture(scope="module")
def whole(cache: Path) -> Path:
    return trained(cache, "whole")


def state(run_dir: Path, name: str = "last") -> dict[str, Any]:
    loaded = checkpoint.load(run_dir / f"checkpoints/{name}.ckpt")
    optimizer = loaded["optimizer_states"][0]["state"]
    moments = {f"{i} {k}": v for i, slots in optimizer.items() for k, v in slots.items()}
    return (
        {"step": torch.tensor(loaded["global_step"])} | loaded["state_dict"] | loaded["current_model_state"] | moments
    )


def assert_equal(one: Path, two: Path) -> None:
    for name in ("last", "best"):
        first, second = state(one, name), state(two, name)
        assert set(first) == set(second)
        for key, value in first.items():
            assert torch.equal(value, second[key]), (name, key)


@pytest.mark.parametrize(
    "hook, step, ended, saved",
    [
        ("on_train_batch_start", 4, 5, 5),
        ("on_validation_batch_start", 3, 3, 3),
        pytest.param("on_train_batch_start", 0, 1, 1, marks=pytest.mark.slow),
        pytest.param("on_train_batch_start", 5, 6, 6, marks=pytest.mark.slow),
        pytest.param("on_validation_epoch_end", 6, 6, 6, marks=pytest.mark.slow),
        pytest.param("on_validation_batch_start", 9, 9, 9, marks=pytest.mark.slow),
        pytest.param("on_train_epoch_end", 3, 3, 3, marks=pytest.mark.slow),
    ],
)
def test_a_training_that_a_signal_ends_resumes_exactly(
    whole: Path, cache: Path, capfd: pytest.CaptureFixture[str], hook: str, step: int, ended: int, saved: int
) -> None:
    name = f"{hook}-{step}"
    with pytest.raises(signals.EndedBySignal) as raised:
        trained(cache, name, watched_by=[Signal(hook, step)])
    assert raised.value.code == 143
    assert checkpoint.read(cache / name / "checkpoints/last.ckpt").step == saved
    assert f"ended by SIGTERM at step {ended}; continue" in capfd.readouterr().err
    trained(cache, name, "ckpt_path=last")
    assert_equal(whole, cache / name)


@pytest.mark.slow
def test_epochs_as_budget_and_validations_within_them_resume_exactly(cache: Path) -> None:
    """Gradients of two batches make a step; validation follows every second batch."""
    settings = ["trainer.max_steps=-1", "trainer.max_epochs=3", "trainer.steps_per_epoch=4"]
    settings += ["trainer.accumulate_grad_batches=2", "+trainer.val_check_interval=2"]
    alone = trained(cache, "epochs", *settings)
    for hook, step in (("on_train_batch_start", 1), ("on_train_batch_start", 2), ("on_validation_batch_start", 4)):
        name = f"epochs-{hook}-{step}"
        with pytest.raises(signals.EndedBySignal):
            trained(cache, name, *settings, watched_by=[Signal(hook, step)])
        trained(cache, name, *settings, "ckpt_path=last")
        assert_equal(alone, cache / name)


class Crash(Callback):
    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 5:
            raise RuntimeError("killed")


@pytest.mark.slow
def test_after_some_minutes_a_checkpoint_is_saved_within_an_epoch(whole: Path, cache: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        trained(cache, "minutes", "checkpoint_minutes=1e-9", watched_by=[Crash()])
    assert checkpoint.read(cache / "minutes/checkpoints/last.ckpt").step == 5
    trained(cache, "minutes", "ckpt_path=last")
    assert_equal(whole, cache / "minutes")


@pytest.mark.slow
def test_loader_processes_resume_within_an_epoch(whole: Path, cache: Path) -> None:
    with pytest.raises(signals.EndedBySignal):
        trained(cache, "workers", "loader.workers=1", watched_by=[Signal("on_train_batch_start", 4)])
    trained(cache, "workers", "loader.workers=1", "ckpt_path=last")
    assert_equal(whole, cache / "workers")


@pytest.mark.parametrize(
    ("minutes", "batch", "saved"), [(1e-9, 0, True), (1e-9, 1, False), (1000.0, 0, False), (None, 0, False)]
)
def test_after_some_minutes_a_checkpoint_is_due(minutes: float | None, batch: int, saved: bool, tmp_path: Path) -> None:
    """Within an epoch: after its last batch a validation follows, and saves one by itself."""
    trainer = MagicMock(
        spec=Trainer, should_stop=False, global_step=1, max_steps=9, accumulate_grad_batches=1, val_check_batch=2,
        check_val_every_n_epoch=1, world_size=1, fit_loop=MagicMock(), strategy=MagicMock(),
    )  # fmt: skip
    trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = False
    trainer.strategy.root_device = torch.device("cpu")
    keeper = Resumable(tmp_path / "last.ckpt", minutes)
    keeper.on_train_batch_end(trainer, MagicMock(spec=LightningModule), None, None, batch)
    assert trainer.save_checkpoint.call_args_list == ([call(tmp_path / "last.ckpt")] if saved else [])
    assert keeper.saved_step == (1 if saved else None)


def test_minutes_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoint_minutes=0: expected minutes above 0"):
        Resumable(tmp_path / "last.ckpt", 0)
