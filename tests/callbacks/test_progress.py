import io
from contextlib import redirect_stdout
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from medseg.callbacks.progress import BudgetBar, Speed

METHOD: Any = Mock(spec=LightningModule, steps_per_epoch=10)


def trainer(step: int, **changed: Any) -> Any:
    metrics = {"train/loss": torch.tensor(0.25), "val/dice": torch.tensor(0.875), "train/lr": torch.tensor(1.0)}
    settings: dict[str, Any] = {
        "max_steps": 100, "max_epochs": -1, "accumulate_grad_batches": 1, "callbacks": [], "callback_metrics": metrics,
        "is_global_zero": True, "sanity_checking": False,
    }  # fmt: skip
    return Mock(spec=Trainer, global_step=step, **(settings | changed))


class Clock:
    """The time, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_line_tells_step_time_left_and_scores(clock: Clock) -> None:
    bar = BudgetBar(now=clock)
    bar.on_train_start(trainer(0), METHOD)
    clock.seconds += 60
    assert bar.line(trainer(25), METHOD) == "step 25  0:01:00 spent, 0:03:00 left  loss 0.2500  dice 0.8750"
    assert bar.line(trainer(25, callback_metrics={}), METHOD) == "step 25  0:01:00 spent, 0:03:00 left  "


def test_time_left_of_a_resumed_training_counts_from_its_resume(clock: Clock) -> None:
    bar = BudgetBar(now=clock)
    bar.on_train_start(trainer(80), METHOD)
    assert "0:00:00 spent, - left" in bar.line(trainer(80), METHOD)
    clock.seconds += 60
    assert "0:01:00 spent, 0:01:00 left" in bar.line(trainer(90), METHOD)


def test_without_a_terminal_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    bar = BudgetBar()
    bar.on_train_start(trainer(0), METHOD)
    bar.on_train_batch_end(trainer(1), METHOD, None, None, 0)
    assert capsys.readouterr().out == ""
    bar.on_train_epoch_end(trainer(50), METHOD)
    (line,) = printed(capsys)
    assert line.startswith(" 50% step 50 of 100  ")
    bar.on_train_epoch_end(trainer(50, is_global_zero=False), METHOD)
    bar.disable()
    bar.on_train_epoch_end(trainer(50), METHOD)
    assert capsys.readouterr().out == ""
    bar.enable()
    bar.on_train_epoch_end(trainer(60), METHOD)
    assert capsys.readouterr().out.startswith(" 60% step 60")


def test_a_log_gets_a_line_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    bar = BudgetBar(now=clock)
    bar.on_train_start(trainer(0), METHOD)
    for step in range(1, 13):
        clock.seconds += 25
        bar.on_train_batch_end(trainer(step), METHOD, None, None, step - 1)
    assert printed(capsys) == [
        "  3% step 3 of 100  0.04 steps/s  0:01:15 spent, 0:40:25 left  loss 0.2500  dice 0.8750",
        "  6% step 6 of 100  0.04 steps/s  0:02:30 spent, 0:39:10 left  loss 0.2500  dice 0.8750",
        "  9% step 9 of 100  0.04 steps/s  0:03:45 spent, 0:37:55 left  loss 0.2500  dice 0.8750",
        " 12% step 12 of 100  0.04 steps/s  0:05:00 spent, 0:36:40 left  loss 0.2500  dice 0.8750",
    ]


def test_a_log_gets_a_line_a_minute_within_a_long_validation(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    bar = BudgetBar(now=clock)
    at = trainer(10, num_val_batches=[4])
    bar.on_train_start(trainer(0), METHOD)
    clock.seconds += 20
    bar.on_validation_start(at, METHOD)
    for case in range(4):
        clock.seconds += 30
        bar.on_validation_batch_end(at, METHOD, None, None, case)
    bar.on_validation_end(at, METHOD)
    assert printed(capsys) == [
        " 10% step 10 of 100  0.5 steps/s  0:01:20 spent, 0:12:00 left  loss 0.2500  dice 0.8750  validating: 2 of 4",
        " 10% step 10 of 100  0.5 steps/s  0:02:20 spent, 0:21:00 left  loss 0.2500  dice 0.8750  validating: 4 of 4",
    ]
    clock.seconds += 10
    bar.on_train_epoch_end(trainer(20), METHOD)
    assert printed(capsys)[0].startswith(" 20% step 20 of 100  1 steps/s  "), "the validation does not count"


def test_a_budget_in_epochs_or_in_time(clock: Clock) -> None:
    bar = BudgetBar(now=clock)
    bar.on_train_start(trainer(0), METHOD)
    assert bar.line(trainer(5, max_steps=-1, max_epochs=3), METHOD, full=True).startswith("step 5 of 30  ")
    assert bar.line(trainer(5, max_epochs=3), METHOD, full=True).startswith("step 5 of 30  ")
    assert bar.line(trainer(5, max_steps=-1, max_epochs=None), METHOD, full=True).startswith("step 5  ")


def test_no_time_gives_no_speed() -> None:
    assert Speed(5, 10.0).since_last(6, 10.0) == 0.0


def test_on_a_terminal_one_bar_from_start_to_end() -> None:
    bar = BudgetBar()
    with redirect_stdout(Terminal()) as screen:
        bar.on_train_start(trainer(0), METHOD)
        bar.on_train_batch_end(trainer(25), METHOD, None, None, 24)
        (task,) = bar._bar.tasks
        assert (task.total, task.completed) == (1.0, 0.25)
        assert task.description.startswith("step 25  ")
        bar.on_train_epoch_end(trainer(25), METHOD)
        bar.print("a word")
        bar.on_train_end(trainer(100), METHOD)
    assert bar._bar is None
    assert "a word" in screen.getvalue()
    assert "25% step 25" in screen.getvalue()
    assert "\n 25% " not in screen.getvalue(), "a line an epoch is for where there is no bar"


def test_an_exception_gives_the_terminal_back() -> None:
    bar = BudgetBar()
    with redirect_stdout(Terminal()):
        bar.on_train_start(trainer(0), METHOD)
        live = bar._bar.live
        assert live.is_started
        bar.on_exception(trainer(1), METHOD, RuntimeError())
    assert not live.is_started


def test_other_ranks_and_a_disabled_bar_show_nothing() -> None:
    silent = BudgetBar()
    silent.disable()
    with redirect_stdout(Terminal()) as screen:
        for bar, rank_zero in ((silent, True), (BudgetBar(), False)):
            bar.on_train_start(trainer(0, is_global_zero=rank_zero), METHOD)
            bar.on_train_batch_end(trainer(25), METHOD, None, None, 24)
            bar.on_train_end(trainer(100), METHOD)
    assert screen.getvalue() == ""
