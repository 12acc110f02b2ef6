"""FiniteCheck: ends a training whose loss or network is no longer finite, before a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from medseg.errors import InputError

_STEPS = 3


class FiniteCheck(Callback):
    """Ends the training by ``InputError`` when it has diverged.

    Either the loss was not finite in three optimiser steps in a row (a single one is normal in 16-mixed precision,
    whose gradient scaler skips that step), or a weight of the network is not finite when a validation begins or a
    checkpoint is about to be written. So neither best.ckpt nor last.ckpt ever holds such a network.

    The loss is looked at after each step on a CPU. On a GPU it is counted on the device, which nothing waits for; the
    count is read every ``log_every_n_steps`` steps and at the end of an epoch, so the training ends up to so many
    steps later. All ranks end at the same step.
    """

    def __init__(self) -> None:
        self._bad: Tensor | None = None
        self._run: Tensor | None = None
        self._since: Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._bad = torch.zeros((), dtype=torch.bool, device=pl_module.device)
        self._run = torch.zeros((), dtype=torch.int64, device=pl_module.device)
        self._since = torch.zeros_like(self._run)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Count the loss of a batch; with the last one of a step, the step."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor) or self._bad is None or self._run is None or self._since is None:
            return
        self._bad = self._bad | ~torch.isfinite(loss.detach()).all()
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        over = self._run >= _STEPS
        run = torch.where(self._bad, self._run + 1, 0)
        self._since = torch.where(~over & (run == 1), trainer.global_step, self._since)
        self._run = torch.where(over, self._run, run)
        self._bad = torch.zeros_like(self._bad)
        every = 1 if loss.device.type == "cpu" else max(trainer.log_every_n_steps, 1)  # type: ignore[attr-defined]
        if trainer.global_step % every == 0 or trainer.is_last_batch:
            self._end_if_over(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not validate a network that is not finite."""
        if not trainer.sanity_checking:
            check_network(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: Mapping[str, object]
    ) -> None:
        """Do not save one either."""
        check_network(trainer, pl_module)

    def _end_if_over(self, trainer: Trainer) -> None:
        counted = torch.stack([self._run, self._since * (self._run >= _STEPS)])  # type: ignore[list-item, operator]
        run, since = trainer.strategy.reduce(counted, reduce_op="max").tolist()
        if run >= _STEPS:
            raise diverged(trainer, f"the loss is not finite since step {since}")


def check_network(trainer: Trainer, pl_module: LightningModule) -> None:
    """Raise if weights or normalisation statistics of the network are not finite; on all ranks together.

    Raises:
        InputError: It has diverged.
    """
    if trainer.strategy.reduce_boolean_decision(not is_finite(pl_module), all=False):
        raise diverged(trainer, f"the network has weights that are not finite after step {trainer.global_step}")


def is_finite(module: nn.Module) -> bool:
    """Whether all weights and running statistics are finite; other buffers, such as masks, may hold infinities."""
    state = [*module.parameters(), *(t for name, t in module.named_buffers() if "running_" in name)]
    tensors = [t.detach() for t in state if t.is_floating_point() and t.numel()]
    return not tensors or bool(torch.stack([torch.isfinite(t).all() for t in tensors]).all())


def diverged(trainer: Trainer, reason: str) -> InputError:
    """The error that ends the training: the reason, what may help, and the step of best.ckpt."""
    group = trainer.optimizers[0].param_groups[0] if trainer.optimizers else {}
    rate = group.get("base_lr", group.get("lr"))
    advice = ["lower optimizer.lr" + ("" if rate is None else f" ({rate:g})")]
    if str(trainer.precision).startswith("16"):
        advice.append(f"take trainer.precision=bf16-mixed or 32-true ({trainer.precision})")
    clip = trainer.gradient_clip_val
    advice.append("set trainer.gradient_clip_val=1" if clip is None else f"lower trainer.gradient_clip_val ({clip:g})")
    return InputError(f"{reason}: the training diverged; {', '.join(advice)}; {_best(trainer)}")


def _best(trainer: Trainer) -> str:
    """The best checkpoint so far, for the end of a message."""
    for callback in trainer.checkpoint_callbacks:
        path = Path(getattr(callback, "dirpath", None) or "") / "best.ckpt"
        if isinstance(callback, ModelCheckpoint) and callback.filename == "best" and path.is_file():
            step = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
            return f"{path} holds step {step}"
    return "there is no best.ckpt yet"
