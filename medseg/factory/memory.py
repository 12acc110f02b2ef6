"""The memory of a training step: a plan whose patch and batch fit it, whatever the network."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from omegaconf import DictConfig

from medseg.errors import InputError
from medseg.factory.network import follows_plan, network_and_plan
from medseg.planning.activations import need_of
from medseg.planning.cost import UNetCost, convolution_outputs, estimated_gb
from medseg.planning.plan import Plan, Wishes, memory_warning
from medseg.sample import DataSpec

_LOG = logging.getLogger(__name__)
_SMALLER = 0.95
"""Factor of a budget in addition to what is needed, so that tries do not come ever closer to it."""


@dataclass(frozen=True)
class Step:
    """A training step.

    Attributes:
        patch: Cells of a patch, as the network takes it.
        gb: Gigabytes that it needs on a GPU in half precision.
    """

    patch: tuple[int, ...]
    gb: float


def plan_within_memory(
    cfg: DictConfig, spec: DataSpec, wishes: Wishes, cost: UNetCost, make: Callable[[Wishes], Plan]
) -> Plan:
    """A plan of which a training step of ``cfg.model`` fits ``plan.memory_gb``; its need is the reason ``memory``.

    The rules plan for a U-Net. A network that needs more than this is planned for accordingly less memory, until a
    step with the patch that it takes fits. One that needs less keeps the plan of the U-Net, and patch or batch of the
    user stay, with a warning where they do not fit.

    Args:
        cfg: ``conf/train.yaml``, composed.
        spec: Channels, labels and axes.
        wishes: The user's own decisions.
        cost: The U-Net that the rules plan for.
        make: Makes a plan by the rules.

    Raises:
        InputError: Not even the smallest patch fits.
    """
    planned = make(wishes)
    step = step_of(cfg, spec, planned, cost)
    if wishes.patch is not None or wishes.batch_size is not None:
        if step and (warning := memory_warning(planned, wishes, step.gb)):
            _LOG.warning("%s", warning)
        return _with_need(planned, step)
    budget = wishes.memory_gb
    while step and step.gb > wishes.memory_gb and not follows_plan(cfg.model):
        budget *= _SMALLER * wishes.memory_gb / step.gb
        try:
            smaller = make(replace(wishes, memory_gb=budget))
        except InputError as error:
            raise _too_small(cfg, step, planned.batch_size, wishes) from error
        if (smaller.patch, smaller.batch_size) != (planned.patch, planned.batch_size):
            step = step_of(cfg, spec, smaller, cost)
        planned = smaller
    return _with_need(planned, step)


def step_of(cfg: DictConfig, spec: DataSpec, planned: Plan, cost: UNetCost) -> Step | None:
    """A training step of ``cfg.model`` by a plan; None where its need is not known, as for time series.

    Of networks that the plan shapes the need is nnU-Net's estimate; others are built, and asked what their backward
    pass reads.
    """
    if follows_plan(cfg.model):
        outputs = convolution_outputs(planned.patch, planned.strides, spec.labels.n_outputs, cost)
        return Step(planned.patch, estimated_gb(spec.ndim, outputs, planned.batch_size, residual=cost.residual))
    if spec.dates:
        return None
    with torch.random.fork_rng(devices=[]):
        net, fitted = network_and_plan(cfg.model.copy(), planned, spec, seed=0)
    need = need_of(net, len(spec.channels), fitted.patch)
    return None if need is None else Step(fitted.patch, need.gb(planned.batch_size))


def _with_need(planned: Plan, step: Step | None) -> Plan:
    if step is None:
        return planned
    return replace(planned, reasons=planned.reasons | {"memory": f"a step needs about {max(step.gb, 0.1):.1f} GB"})


def _too_small(cfg: DictConfig, step: Step, batch_size: int, wishes: Wishes) -> InputError:
    shape, name = " x ".join(map(str, step.patch)), cfg.model._target_.rsplit(".", 1)[-1]
    return InputError(
        f"plan.memory_gb={wishes.memory_gb:g}: {name} needs about {step.gb:.2g} GB for {batch_size} patches of {shape}"
        f", and smaller ones can't be planned; set plan.memory_gb={step.gb / _SMALLER:.2g} if the device "
        "has as much, or choose a smaller network"
    )
