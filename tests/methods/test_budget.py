from typing import Any
from unittest.mock import Mock

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer

from medseg.methods.budget import progress


class FakeTimer(Timer):
    def __init__(self, spent: float, limit: float | None) -> None:
        super().__init__(duration=None if limit is None else {"seconds": limit})
        self.spent = spent

    def time_elapsed(self, stage: Any = None) -> float:
        return self.spent


def trainer(step: int = 0, *callbacks: Callback, **limits: Any) -> Any:
    settings: dict[str, Any] = {"max_steps": -1, "max_epochs": -1, "accumulate_grad_batches": 1}
    return Mock(spec=Trainer, global_step=step, callbacks=list(callbacks), **(settings | limits))


@pytest.mark.parametrize(
    ("running", "share"),
    [
        (trainer(30), 0.0),  # no limit: nothing is known
        (trainer(30, max_steps=120), 0.25),
        (trainer(30, max_epochs=4), 0.75),  # 10 steps each
        (trainer(30, max_epochs=None), 0.0),
        (trainer(30, max_epochs=4, accumulate_grad_batches=2), 0.75),  # steps are the optimiser's
        (trainer(30, max_steps=120, max_epochs=4), 0.75),  # whichever runs out first
        (trainer(0, FakeTimer(45, 60)), 0.75),
        (trainer(0, FakeTimer(90, 60)), 1.0),  # a step that ran over
        (trainer(30, FakeTimer(6, 60), max_steps=120), 0.25),
        (trainer(30, FakeTimer(6, None), max_steps=120), 0.25),  # a timer without a limit only measures
        (trainer(121, max_steps=120), 1.0),
    ],
)
def test_progress_is_the_largest_share_of_a_limit(running: Trainer, share: float) -> None:
    assert progress(running, steps_per_epoch=10) == pytest.approx(share)
