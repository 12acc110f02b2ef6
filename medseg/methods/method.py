"""Method: what every way of training shares: optimiser, schedule, seeds, the end of the budget."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.distributed
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from medseg.checkpoint import FIRST_STAGE, RunMetadata
from medseg.losses.ranks import mean_over_ranks
from medseg.methods.budget import progress, timers
from medseg.sample import Batch


@runtime_checkable
class Tuning(Protocol):
    """Which parameters of a network move, and how fast; ``medseg.finetuning`` has them."""

    def groups(self, network: nn.Module) -> list[dict[str, object]]:
        """Parameter groups of the optimiser; ``factor`` in a group multiplies its learning rate (1 if absent)."""
        ...

    def factor(self, group: Mapping[str, object], progress: float) -> float:
        """Factor of a group's learning rate at this share of the budget, besides the schedule's."""
        ...

    def settle(self, network: nn.Module) -> None:
        """Put frozen parts of a network in training mode back into evaluation mode."""
        ...


@runtime_checkable
class PredictsCases(Protocol):
    """A method whose network segments whole cases, as ``medseg.methods.supervised.Supervised`` does."""

    network: nn.Module
    metadata: RunMetadata

    def infer(self, image: Tensor, network: nn.Module, **context: Tensor) -> Tensor:
        """Training indices ``[*s]`` of a whole image ``[c, *s]``."""
        ...


class Method(LightningModule, ABC):
    """Trains a network; how is the subclass's.

    The learning rate follows ``schedule`` over the budget of the trainer (steps, epochs or time).
    Randomness inside the network (dropout) is seeded anew for every batch, so that a resumed training
    equals an uninterrupted one; the batches of a step with accumulated gradients have seeds of their own.

    Attributes:
        monitor: Logged key by which the best checkpoint is chosen unless the configuration names another, and
            whether ``min`` or ``max`` is best.
        job_type: Kind of run, by which loggers group: ``train`` or ``pretrain``.
        unlabelled: Whether streams without labels are ``refused``, ``used`` where there are some, or ``needed``.
        views: Whether a stream without labels needs two views of its patches (``streams.NAME.strong``).
        has_second: Whether it trains a second network of the same kind (``second=``), with other random weights.
        first_stage: Where the network is the second one of a cascade, what the checkpoint holds of the first.
        progress: Share of the budget that was spent at the beginning of the step, in [0, 1].

    Args:
        network: What is trained.
        optimizer: Makes the optimiser from parameter groups.
        schedule: Maps progress in [0, 1] to a factor of the learning rate.
        seed: Of the whole training.
        steps_per_epoch: Optimiser steps of one epoch.
        metadata: What the checkpoint holds besides weights, under the key ``medseg``.
        tuning: Which parameters move; None for all alike.
    """

    monitor: ClassVar[tuple[str, str]]
    job_type: ClassVar[str] = "train"
    unlabelled: ClassVar[Literal["refused", "used", "needed"]] = "refused"
    views: ClassVar[bool] = False
    has_second: ClassVar[bool] = False
    first_stage: Mapping[str, object] | None = None

    def __init__(
        self,
        network: nn.Module,
        *,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],
        seed: int,
        steps_per_epoch: int,
        metadata: RunMetadata,
        tuning: Tuning | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch
        self.metadata = metadata
        self.tuning = tuning
        self.progress = 0.0
        self._make_optimizer = optimizer
        self._losses: list[Tensor] = []

    @classmethod
    def monitors(cls, scores: Sequence[str]) -> tuple[str, ...]:
        """Keys by which the best checkpoint may be chosen: what a validation of this method logs.

        Args:
            scores: Names of the scores of whole cases, such as ``dice``.
        """
        return (cls.monitor[0],)

    def networks(self) -> tuple[nn.Module, ...]:
        """The networks that are tuned: the one that predicts, first, and further ones of the same kind."""
        return (self.network,)

    def configure_optimizers(self) -> Optimizer:
        """The optimiser of every parameter of the method that learns."""
        groups = (
            decay_groups(self.parameters())
            if self.tuning is None
            else [*(group for one in self.networks() for group in self.tuning.groups(one)), *self._heads()]
        )
        optimizer = self._make_optimizer(groups)
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"] * group.get("factor", 1.0)
        return optimizer

    def _heads(self) -> list[dict[str, object]]:
        """Groups of the parameters that learn outside of the networks, such as heads of loss terms."""
        of_network = {id(p) for one in self.networks() for p in one.parameters()}
        return decay_groups([p for p in self.parameters() if id(p) not in of_network])

    def on_train_batch_start(self, batch: Batch | Mapping[str, Batch], batch_idx: int) -> None:
        """Set the learning rate of this step, and seed what is random inside the network."""
        done = progress(self.trainer, self.steps_per_epoch)
        if self.trainer.world_size > 1 and timers(self.trainer):  # each process has a clock of its own
            done = self.trainer.strategy.broadcast(done)
        self.progress = done
        factor = self.schedule(done)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                further = 1.0 if self.tuning is None else self.tuning.factor(group, done)
                group["lr"] = group["base_lr"] * factor * further
        if self.tuning is not None:
            for one in self.networks():
                self.tuning.settle(one)
        place = [self.seed, 3, self.global_step, self.global_rank]
        part = batch_idx % self.trainer.accumulate_grad_batches
        key = np.random.SeedSequence([*place, part] if part else place)  # the first part draws as a step of one part
        torch.manual_seed(int(key.generate_state(1)[0]))
        if part == 0:
            self._losses = []

    def log_losses(self, losses: Mapping[str, Tensor], n: int) -> None:
        """Log the losses of a step as ``train/<name>``, and the learning rate.

        Of gradients that are accumulated over several batches, the mean over these; of several ranks, the mean over
        them.

        Args:
            losses: Of one batch, by name; ``loss`` is the one that is minimised.
            n: Patches of the batch.
        """
        self._losses.append(mean_over_ranks(torch.stack([value.detach().float() for value in losses.values()])))
        means = torch.stack(self._losses).mean(dim=0)
        for name, mean in zip(losses, means, strict=True):
            self.log(f"train/{name}", mean, prog_bar=name == "loss", batch_size=n)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=n)

    def on_train_batch_end(self, outputs: object, batch: Batch | Mapping[str, Batch], batch_idx: int) -> None:
        """End with a validation when the steps are spent: by itself Lightning validates whole epochs only."""
        if self.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        """Let every process judge as many cases as it has.

        Wrapped for distributed training, the network would wait for the other processes at each call, to take over
        the first one's statistics of batch normalisation; now it does so once, before the first case.
        """
        wrapped = self.trainer.strategy.model
        if isinstance(wrapped, DistributedDataParallel):
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)
            wrapped.require_forward_param_sync = False

    def on_validation_epoch_end(self) -> None:
        """Training goes on as it was."""
        wrapped = self.trainer.strategy.model
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.require_forward_param_sync = True

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Add what prediction needs."""
        checkpoint["medseg"] = self.metadata.to_dict()
        if self.first_stage is not None:
            checkpoint[FIRST_STAGE] = self.first_stage


def gathered(by_case: dict[str, Any]) -> dict[str, Any]:
    """What all processes found about their cases; of a case that several judged, what the first of them did."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return by_case
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, by_case)
    return {case: found for part in reversed(parts) for case, found in part.items()}


def decay_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, object]]:
    """Groups of the parameters that learn; weight decay spares biases and normalisation, which have one axis."""
    learning = [p for p in parameters if p.requires_grad]
    decayed, spared = [p for p in learning if p.ndim > 1], [p for p in learning if p.ndim <= 1]
    groups: list[dict[str, object]] = [{"params": decayed}] if decayed or not spared else []
    if spared:
        groups.append({"params": spared, "weight_decay": 0.0})
    return groups if learning else []
