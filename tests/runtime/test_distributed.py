"""Several processes of one training: the samples and weights of one process with a larger batch, in one run folder."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.runtime import distributed
from medseg.training.train import run_folder, train

ROOT = Path(__file__).parents[2]
SHORT = [
    "data.n_test=0", "split.n_folds=2", "trainer.steps_per_epoch=2", "logger=csv", "metric=overlap",
    "trainer.max_steps=3",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "callback={}", "optimizer=sgd", "inference.overlap=0.25",
    "+callback.spy._target_=tests.runtime.test_distributed.Spy", "test=false",
]  # fmt: skip
VOLUMES = [
    "data=phantom_volumes", "data.n_cases=6", "data.shape=[24,28,20]", "plan.patch=[16,16,16]", "model.base_features=4"
]  # fmt: skip
SCENES = [
    "data=phantom_scenes", "data.n_scenes=6", "data.shape=[40,40]", "plan.patch=[32,32]", "model=smp_unet",
    "model.encoder=tu-test_resnet", "model.decoder_channels=[8,8,8,8,8]", "transform=light",
]  # fmt: skip
TOGETHER = ["trainer=ddp", "trainer.devices=2"]


class Spy(Callback):
    """Leaves what each process trained on, and what became of its weights, in a folder of the environment."""

    def __init__(self) -> None:
        self.keys: list[list[list[int]]] = []
        self.cells: list[int] = []
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.keys.append(batch.key.tolist())
        self.cells.append(int(batch.valid.sum()))

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        seen = {"keys": self.keys, "weights": pl_module.network.state_dict(), "scores": dict(trainer.callback_metrics)}
        seen |= {"cells": self.cells, "losses": self.losses}
        torch.save(seen, Path(os.environ["SPY"]) / f"{trainer.global_rank}.pt")


class Killed(Callback):
    """The second process dies, or receives a signal, at its second step."""

    def __init__(self, signum: int) -> None:
        self.signum = signum

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == 1 and trainer.global_step == 1:
            os.kill(os.getpid(), self.signum)


def seen(folder: Path, rank: int) -> Any:
    return torch.load(folder / f"{rank}.pt", weights_only=True)


def launch(by: list[str], overrides: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    script = cwd / "medseg-train"
    script.write_text("import sys\nfrom medseg.cli.train import main\nsys.exit(main())\n")
    variables = {"PYTHONPATH": str(ROOT), "SPY": str(cwd), "OMP_NUM_THREADS": "1", "MEDSEG_CACHE": str(cwd / "cache")}
    return subprocess.run(
        [sys.executable, *by, script, *overrides], cwd=cwd, env=os.environ | variables, capture_output=True, text=True,
        timeout=420,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "signum, code, line",
    [
        (signal.SIGKILL, 1, "error: rank 0: another process of this training ended; "),
        (signal.SIGTERM, 143, "warning: ended by SIGTERM at step 2; continue with: medseg-train "),
    ],
)
def test_what_ends_one_process_ends_all_with_one_line(tmp_path: Path, signum: int, code: int, line: str) -> None:
    dies = ["+callback.dies._target_=tests.runtime.test_distributed.Killed", f"+callback.dies.signum={signum}"]
    done = launch([], [*VOLUMES, *SHORT, *TOGETHER, *dies, "plan.batch_size=2", "trainer.max_steps=9"], tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dice_ce", "ce", "focal"])
def test_two_processes_are_one_with_twice_the_batch(loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = [
        *VOLUMES,
        *SHORT,
        f"loss={loss}",
        "trainer.max_steps=10",
        "trainer.steps_per_epoch=5",
        "trainer.log_every_n_steps=1",
    ]
    done = launch([], [*own, *TOGETHER, "plan.batch_size=2"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("channels  MR") == 1, "each process tells what the first one has told"
    assert done.stderr == ""
    first, second = (seen(tmp_path, rank) for rank in (0, 1))
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    assert first["scores"]["val/dice"] == second["scores"]["val/dice"]
    (run_dir,) = (tmp_path / "runs/phantom_volumes").iterdir()
    assert {p.name for p in run_dir.iterdir()} == {
        "config.yaml", "plan.yaml", "provenance.json", "checkpoints", "metrics.csv", "hparams.yaml"
    }  # fmt: skip

    alone = tmp_path / "alone"
    alone.mkdir()
    monkeypatch.setenv("SPY", str(alone))
    train(compose("train", [*own, "plan.batch_size=4", f"cache_dir={tmp_path}/cache", f"run_dir={alone}/run"]))
    whole = seen(alone, 0)
    for step, keys in enumerate(whole["keys"]):
        of_first, of_second = ({tuple(key) for key in part["keys"][step]} for part in (first, second))
        assert not of_first & of_second
        assert of_first | of_second == {tuple(key) for key in keys}
    assert any(a != b for a, b in zip(first["cells"], second["cells"], strict=True)), (
        "valid cells of the processes differ"
    )
    assert first["losses"] == second["losses"] == pytest.approx(whole["losses"], rel=1e-5, abs=1e-5)
    # one process whose batches are turned round differs by 3e-5 from itself after these steps of the focal loss
    rounding = 1e-4 if loss == "focal" else 1e-5
    for name, weight in whole["weights"].items():
        torch.testing.assert_close(weight, first["weights"][name], rtol=rounding, atol=rounding)
    assert float(whole["scores"]["val/dice"]) == pytest.approx(float(first["scores"]["val/dice"]), abs=1e-3)


@pytest.mark.slow
def test_processes_of_torchrun_agree_and_judge_unequal_shares(tmp_path: Path) -> None:
    """Batch normalisation has statistics to share, and three cases to judge leave one process with more calls."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    own = ["plan.batch_size=2", "run_dir=run_${now:%f}", "trainer.max_time=00:01:00:00"]
    done = launch(torchrun, [*SCENES, *SHORT, *TOGETHER, *own], tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("run_*"))) == 1, "processes that started at other microseconds share a folder"
    assert done.stdout.count("channels  ") == 1
    first, second = (seen(tmp_path, rank) for rank in (0, 1))
    assert first["scores"]["val/dice"] == second["scores"]["val/dice"]
    for name, weight in first["weights"].items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(weight, second["weights"][name]), name


def trainer(devices: int, *, externally: bool) -> Any:
    strategy = Mock(spec=DDPStrategy)
    strategy.cluster_environment = Mock(creates_processes_externally=externally)
    return Mock(spec=Trainer, world_size=devices, num_devices=devices, num_nodes=1, strategy=strategy)


def test_processes_that_nobody_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match=r"torchrun started 4 processes, the trainer takes 1; add trainer=ddp"):
        distributed.check(trainer(1, externally=True), sweeps=False)
    distributed.check(trainer(4, externally=True), sweeps=True)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    distributed.check(trainer(1, externally=True), sweeps=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(InputError, match=r"srun started 2 processes, the trainer takes 4"):
        distributed.check(trainer(4, externally=True), sweeps=False)


def test_sweep_over_several_devices_is_refused_before_it_starts() -> None:
    with pytest.raises(InputError, match=r"can't start others for 2 devices; choose trainer.devices=1"):
        distributed.check(trainer(2, externally=False), sweeps=True)
    distributed.check(trainer(2, externally=False), sweeps=False)
    distributed.check(trainer(1, externally=False), sweeps=True)


def test_run_folder_is_handed_to_processes_that_are_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = compose("train", ["run_dir=another"])
    resumed = tmp_path / "last.ckpt"
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with distributed.handing(trainer(2, externally=False), tmp_path, resumed):
        assert json.loads(os.environ["MEDSEG_RUN"]) == [str(tmp_path), str(resumed)]
        assert run_folder(cfg) == (Path("another"), None), "the first process itself"
        os.environ["LOCAL_RANK"] = "1"
        assert run_folder(cfg) == (tmp_path, resumed)
    assert "MEDSEG_RUN" not in os.environ
    assert "LOCAL_RANK" not in os.environ, "the next training of this process would take it for an order"
    with distributed.handing(trainer(2, externally=True), tmp_path, None):
        assert "MEDSEG_RUN" not in os.environ, "those that were started together agree otherwise"


def test_nothing_is_left_of_a_training_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next training of this Python begins as the first one did."""
    with distributed.handing(trainer(1, externally=False), Path("run"), None):
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        monkeypatch.setenv("WORLD_SIZE", "1")
    assert not torch.distributed.is_initialized()
