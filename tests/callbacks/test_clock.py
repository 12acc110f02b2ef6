from __future__ import annotations

import pytest

from medseg.callbacks.clock import PARTS, StepClock

LOADER = "[_TrainingEpochLoop].train_dataloader_next"
COPY = "[Strategy]SingleDeviceStrategy.batch_to_device"
AUGMENT = "[LightningModule]Segmentation.on_after_batch_transfer"
BATCH = "run_training_batch"


class Time:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Time:
    return Time()


def test_each_part_counts_for_itself_and_the_parts_add_up(now: Time) -> None:
    clock = StepClock(now)
    for name, seconds in ((LOADER, 1.0), (COPY, 2.0), (AUGMENT, 4.0), (BATCH, 8.0)):
        with clock.profile(name):
            now.seconds += seconds
    now.seconds += 16
    clock.validating(True)
    now.seconds += 32
    clock.validating(False)
    assert clock.shares() == {
        "data": 3 / 63, "augmentation": 4 / 63, "network": 8 / 63, "validation": 32 / 63, "rest": 16 / 63,
    }  # fmt: skip
    assert sum(clock.seconds.values()) == 63


def test_an_action_within_another_is_not_counted_twice(now: Time) -> None:
    clock = StepClock(now)
    with clock.profile(COPY):
        now.seconds += 1
        with clock.profile(AUGMENT):
            now.seconds += 10
        now.seconds += 2
    assert (clock.seconds["data"], clock.seconds["augmentation"]) == (3, 10)


def test_an_action_that_is_no_part_belongs_to_the_one_around_it(now: Time) -> None:
    clock = StepClock(now)
    with clock.profile(BATCH), clock.profile("[Strategy]SingleDeviceStrategy.training_step"):
        now.seconds += 5
    with clock.profile("[Callback]EMA.on_train_batch_end"):
        now.seconds += 3
    clock.shares()
    assert (clock.seconds["network"], clock.seconds["rest"]) == (5, 3)


def test_loading_and_copying_of_a_validation_belong_to_the_validation(now: Time) -> None:
    clock = StepClock(now)
    clock.validating(True)
    with clock.profile(COPY):
        now.seconds += 5
    clock.validating(False)
    assert (clock.seconds["validation"], clock.seconds["data"]) == (5, 0)


def test_a_reset_within_an_action_forgets_what_was_and_counts_the_remainder(now: Time) -> None:
    clock = StepClock(now)
    with clock.profile(BATCH):
        now.seconds += 7
        clock.reset()
        now.seconds += 2
    assert clock.seconds == dict.fromkeys(PARTS, 0.0) | {"network": 2.0}


def test_shares_are_zero_before_any_time_has_passed(now: Time) -> None:
    assert set(StepClock(now).shares().values()) == {0.0}


def test_an_end_without_a_beginning_is_of_no_consequence(now: Time) -> None:
    clock = StepClock(now)
    clock.stop(BATCH)
    now.seconds += 1
    assert clock.shares()["rest"] == 1
