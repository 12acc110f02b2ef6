"""Several processes of a training with streams and a teacher: one process with a larger batch."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from medseg.hydra_app.compose import compose
from medseg.training.train import train
from tests.runtime.test_distributed import SHORT, TOGETHER, VOLUMES, launch, seen

OWN = [
    *VOLUMES, *[word for word in SHORT if "callback" not in word], "method=mean_teacher", "split.n_labelled=2",
    "callback.ema=null", "+callback.spy._target_=tests.runtime.test_distributed_streams.SpyOfStreams", "method.rise=0",
]  # fmt: skip


class SpyOfStreams(Callback):
    """Leaves the keys of each stream and the trained networks in a folder of the environment."""

    def __init__(self) -> None:
        self.keys: list[dict[str, list[list[int]]]] = []
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.keys.append({name: one.key.tolist() for name, one in batch.items()})

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["train/consistency"]))

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        state = {name: value for name, value in pl_module.state_dict().items() if "network." in name}
        state = {"keys": self.keys, "weights": state, "losses": self.losses}
        torch.save(state, Path(os.environ["SPY"]) / f"{trainer.global_rank}.pt")


@pytest.mark.slow
def test_two_processes_of_two_streams_are_one_with_twice_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = launch([], [*OWN, *TOGETHER, "plan.batch_size=2"], tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (seen(tmp_path, rank) for rank in (0, 1))
    alone = tmp_path / "alone"
    alone.mkdir()
    monkeypatch.setenv("SPY", str(alone))
    train(compose("train", [*OWN, "plan.batch_size=4", f"cache_dir={tmp_path}/cache", f"run_dir={alone}/run"]))
    whole = seen(alone, 0)
    for step, streams in enumerate(whole["keys"]):
        for name, keys in streams.items():
            own = [{tuple(key) for key in part["keys"][step][name]} for part in (first, second)]
            assert not own[0] & own[1]
            assert own[0] | own[1] == {tuple(key) for key in keys}
    assert first["losses"] == second["losses"] == pytest.approx(whole["losses"], rel=1e-4)
    assert all(loss > 0 for loss in whole["losses"])
    assert any(name.startswith("teacher.") for name in whole["weights"])
    for name, weight in whole["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        torch.testing.assert_close(weight, first["weights"][name], rtol=1e-5, atol=1e-5)
