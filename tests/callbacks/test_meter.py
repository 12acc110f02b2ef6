from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import SimpleProfiler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medseg.callbacks.clock import Part
from medseg.callbacks.meter import Meter, line, recommendation
from medseg.errors import InputError
from medseg.loggers.csv_file import MetricsFile

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*log_every_n_steps", "ignore:.*LeafSpec"
)


class Time:
    """The time, moved by those who spend it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Cases(Dataset[Tensor]):
    def __init__(self, now: Time, seconds: float) -> None:
        self.now, self.seconds = now, seconds

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        self.now.seconds += self.seconds
        return torch.ones(1)


class Method(LightningModule):
    """Spends 2 s on augmentation and 5 s on the network in a step, 3 s on a batch of validation."""

    def __init__(self, now: Time) -> None:
        super().__init__()
        self.now, self.layer = now, torch.nn.Linear(1, 1)

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        self.now.seconds += 2
        return batch

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.now.seconds += 5
        loss: Tensor = self.layer(batch).sum()
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.now.seconds += 3

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(tmp_path: Path, now: Time, meter: Meter, **settings: Any) -> Trainer:
    """A training of 8 steps in two epochs of 4, each followed by a validation of one batch; reading takes 1 s."""
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_epochs=2, limit_train_batches=4, limit_val_batches=1,
        callbacks=[meter], enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, **({"logger": False} | settings),
    )  # fmt: skip
    trainer.fit(Method(now), DataLoader(Cases(now, 1)), DataLoader(Cases(now, 0)))
    return trainer


def test_the_parts_of_a_training_are_those_that_were_spent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now, logger = Time(), Mock(spec=Logger)
    file = Mock(spec=MetricsFile)
    fitted(tmp_path, now, Meter(steps=3, now=now), logger=[logger, file])
    # 7 of 8 steps count, without the first: 1 s, 2 s and 5 s each, and two validations of 2 s and 3 s.
    total = 7 * 8 + 2 * 5
    shares = logger.log_metrics.call_args.args[0]
    assert logger.log_metrics.call_args.args[1] == 8
    assert shares == pytest.approx({
        "time/data": 7 / total, "time/augmentation": 14 / total, "time/network": 35 / total,
        "time/validation": 10 / total, "time/rest": 0.0,
    })  # fmt: skip
    assert not any("time/data" in call.args[0] for call in file.log_metrics.call_args_list)
    first, last = (text for text in capsys.readouterr().out.splitlines() if text.startswith("time: "))
    assert first.startswith("time: network 62 %, augmentation 25 %, data 12 %, ")
    assert last.startswith("time: network 53 %, augmentation 21 %, validation 15 %, data 11 %, rest 0 %; ")


def test_a_profiler_that_was_asked_for_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now, profiler = Time(), SimpleProfiler()
    trainer = fitted(tmp_path, now, Meter(now=now), profiler=profiler)
    assert trainer.profiler is profiler  # type: ignore[attr-defined]
    assert "time: " not in capsys.readouterr().out


def test_a_training_of_one_step_has_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = Mock(spec=Trainer, global_step=1, loggers=[Mock(spec=Logger)])
    meter = Meter(now=Time())
    meter.on_train_end(trainer, Mock(spec=LightningModule))
    assert capsys.readouterr().out == ""
    assert not trainer.loggers[0].log_metrics.called


def test_fewer_than_one_step_is_refused() -> None:
    with pytest.raises(InputError, match=r"callback.meter.steps=0: expected a number of steps, 1 or more"):
        Meter(steps=0)


def shares(data: float = 0, augmentation: float = 0, network: float = 0, validation: float = 0, rest: float = 0) -> Any:
    return {
        "data": data, "augmentation": augmentation, "network": network, "validation": validation, "rest": rest,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spent", "workers", "n_cores", "words"),
    [
        (shares(data=0.3, network=0.7), 0, 8, "loader.workers=2 would read while the network computes"),
        (shares(data=0.3, network=0.7), 4, 8, "more than loader.workers=4, or a faster disk"),
        (shares(data=0.3, network=0.7), 0, 1, "more than loader.workers=0, or a faster disk"),
        (shares(data=0.1, network=0.3, validation=0.6), 2, 8, "more than loader.workers=2"),  # of the steps, not of all
        (shares(data=0.05, network=0.35, validation=0.6), 2, 8, "trainer.check_val_every_n_epoch=2"),
        (shares(network=0.8, rest=0.2), 2, 8, "callback.previews=null"),
        (shares(augmentation=0.35, network=0.65), 2, 8, "transform=light"),
        (shares(data=0.14, augmentation=0.2, network=0.6, rest=0.06), 2, 8, "the network is what takes the time"),
        (shares(), 0, 8, "the network is what takes the time"),
    ],
)
def test_recommendation_names_the_largest_saving(
    spent: dict[Part, float], workers: int, n_cores: int, words: str
) -> None:
    assert words in recommendation(spent, workers, n_cores)


def test_line_is_ordered_by_share() -> None:
    assert line(shares(data=0.2, network=0.5, rest=0.3)).split(", ")[:3] == ["network 50 %", "rest 30 %", "data 20 %"]
