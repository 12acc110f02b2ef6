"""The second network of a method that trains two of one kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from omegaconf import DictConfig

from medseg.factory.initial_weights import begin
from medseg.factory.network import network_and_plan
from medseg.finetuning.strategy import Tuning
from medseg.methods.method import Method
from medseg.planning.plan import Plan
from medseg.sample import DataSpec

_SECOND = 1
"""Spawn key of the second network's seed."""


def second_network(
    method: type[Method], cfg: DictConfig, planned: Plan, spec: DataSpec, tuning: Tuning | None
) -> dict[str, Any]:
    """What a method with a second network takes; nothing of the others.

    The random weights are those of another seed, a function of ``seed``; weights of a file that the first network
    begins with are the second one's too, and it is tuned in the same way.

    Args:
        method: The method.
        cfg: Of the training.
        planned: Patch and strides, which fit the network.
        spec: Of the data.
        tuning: Which parts learn.
    """
    if not method.has_second:
        return {}
    seed = int(np.random.SeedSequence(cfg.seed, spawn_key=(_SECOND,)).generate_state(1)[0])
    second, _ = network_and_plan(cfg.model, planned, spec, cfg.get("temporal"), seed=seed)
    if not cfg.ckpt_path:
        begin(cfg, second, spec, planned.normalisation)
    if tuning is not None:
        tuning.attach(second)
    return {"second": second}
