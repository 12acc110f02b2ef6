import logging
from dataclasses import replace
from math import prod
from typing import Any

import pytest

from medseg.data.preprocessing.normalise import Normalisation
from medseg.errors import InputError
from medseg.factory.memory import plan_within_memory, step_of
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.planning.cost import Budget, UNetCost
from medseg.planning.plan import Plan, Wishes
from medseg.planning.rules import patch_and_batch
from medseg.sample import Channel, DataSpec

SPEC = DataSpec((Channel("CT", "HU"),), LabelTable.declare({"background": 0, "organ": 1}), 3)
SMALL = ["data=phantom_volumes", "model=segresnet", "model.init_filters=8"]


class Rules:
    """Plans for cases of 48³ cells, of which there are many; remembers the memory that it planned for."""

    def __init__(self) -> None:
        self.memory: list[float] = []

    def __call__(self, wishes: Wishes) -> Plan:
        self.memory.append(wishes.memory_gb)
        budget = Budget.for_memory(3, wishes.memory_gb)
        made = patch_and_batch((1.0,) * 3, (48.0,) * 3, 1e9, out_channels=2, budget=budget)
        stages = made.topology
        patch = made.patch if wishes.patch is None else tuple(wishes.patch)
        return Plan((1.0,) * 3, patch, made.batch, stages.kernels, stages.strides, (Normalisation("ct"),), masked=False)


def planned(words: list[str], wishes: Wishes) -> tuple[Plan, list[float]]:
    rules, cfg = Rules(), compose("train", words)
    return plan_within_memory(cfg, SPEC, wishes, UNetCost(), rules), rules.memory


def need(words: list[str], plan: Plan) -> Any:
    return step_of(compose("train", words), SPEC, plan, UNetCost())


def test_a_plan_is_made_for_less_memory_until_a_step_fits() -> None:
    wide = ["data=phantom_volumes", "model=segresnet", "model.init_filters=32"]
    plan, memory = planned(wide, Wishes(memory_gb=0.3))
    usual = Rules()(Wishes(memory_gb=0.3))
    assert need(wide, usual).gb > 0.3
    assert need(wide, plan).gb <= 0.3
    assert memory == sorted(memory, reverse=True)
    assert len(memory) > 1
    assert plan.batch_size * prod(plan.patch) < usual.batch_size * prod(usual.patch)
    assert plan.reasons["memory"] == f"a step needs about {need(wide, plan).gb:.1f} GB"


def test_a_network_that_needs_less_keeps_the_plan_of_the_unet() -> None:
    plan, memory = planned(SMALL, Wishes(memory_gb=0.3))
    assert memory == [0.3]
    assert replace(plan, reasons={}) == Rules()(Wishes(memory_gb=0.3))


def test_the_need_of_a_unet_is_the_estimate_of_the_rules() -> None:
    words = ["data=phantom_volumes", "model=unet"]
    plan, memory = planned(words, Wishes(memory_gb=0.3))
    assert memory == [0.3]
    assert 0.1 < need(words, plan).gb <= 0.3
    assert plan.reasons["memory"] == f"a step needs about {need(words, plan).gb:.1f} GB"


def test_a_patch_of_the_user_stays_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="medseg"):
        plan, _ = planned(SMALL, Wishes(patch=(160, 160, 160), memory_gb=0.01))
    assert plan.patch == (160, 160, 160)
    assert "patches of 160 x 160 x 160 needs about" in caplog.text
    assert "plan.memory_gb is 0.01" in caplog.text


def test_a_memory_that_nothing_fits_is_refused_with_what_would() -> None:
    wide = ["data=phantom_volumes", "model=segresnet", "model.init_filters=32"]
    with pytest.raises(
        InputError, match=r"plan.memory_gb=0.001: SegResNet needs about [\d.]+ GB for 2 patches of \d+ x"
    ) as told:
        planned(wide, Wishes(memory_gb=0.001))
    assert "set plan.memory_gb=" in str(told.value)


def test_the_need_of_networks_for_time_series_is_not_known() -> None:
    assert step_of(compose("train", SMALL), replace(SPEC, dates=3), Rules()(Wishes()), UNetCost()) is None
