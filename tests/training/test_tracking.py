"""What runs are called, and how W&B's sweeps reach the configuration."""

from pathlib import Path

import pytest
import yaml

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.loggers.wandb_run import WandbRun
from medseg.methods.supervised import Supervised
from medseg.training import tracking
from medseg.training.tracking import describe
from tests.running import running

SWEEP = yaml.safe_load((Path(__file__).parents[2] / "scripts/wandb_sweep.yaml").read_text(encoding="utf-8"))


def test_run_on_its_own_is_called_after_experiment_and_seed() -> None:
    told = describe(compose("train", ["experiment=hippocampus", "data.root=x", "seed=4", "optimizer.lr=1"]))
    assert (told.name, told.group, told.job_type) == ("hippocampus seed=4", "hippocampus", "train")
    assert told.tags == ("hippocampus", "unet_small")


def test_seeds_of_a_setting_share_a_group() -> None:
    jobs = [["finetuning=lora", f"seed={seed}", "data.root=/far/away", "logger=csv"] for seed in (0, 1)]
    told = [describe(compose("train", ["data=nnunet", *job]), ["data=nnunet", *job]) for job in jobs]
    assert [t.name for t in told] == ["nnunet finetuning=lora seed=0", "nnunet finetuning=lora seed=1"]
    assert {t.group for t in told} == {"nnunet finetuning=lora"}
    assert all("lora" in t.tags and "sweep" in t.tags for t in told)


def test_only_what_a_sweep_varies_is_in_the_name() -> None:
    words = [
        "medseg-train",
        "-m",
        "trainer.max_steps=5",
        "optimizer.lr=0.1,0.2",
        "+finetuning.rank=choice(2,4)",
        "seed=0,1",
    ]
    job = ["trainer.max_steps=5", "optimizer.lr=0.1", "+finetuning.rank=2", "seed=1"]
    told = describe(compose("train", job), job, words)
    assert told.name == "phantom_volumes optimizer.lr=0.1 finetuning.rank=2 seed=1"


def test_long_value_keeps_its_end() -> None:
    weights = "weights=/runs/pretrained/2026-01-01_00-00-00/checkpoints/best.ckpt"
    told = describe(compose("train", [weights]), [weights])
    assert told.group.endswith("/checkpoints/best.ckpt")
    assert len(told.group) < 60


def test_pretraining_is_another_kind_of_job() -> None:
    told = describe(compose("train", ["method=mae"]))
    assert (told.job_type, told.tags) == ("pretrain", ("phantom_volumes", "unet", "mae"))


class OwnSupervised(Supervised):
    """A method of the user's own; its name says nothing."""


def test_a_supervised_method_of_another_name_is_a_training() -> None:
    told = describe(compose("train", [f"method._target_={__name__}.OwnSupervised"]))
    assert told.job_type == "train"


def test_what_the_user_calls_a_run_stays() -> None:
    own = ["logger.wandb.name=mine", "logger.wandb.tags=[paper,unet]", "+logger.mlflow.tags.paper=mine"]
    cfg = compose("train", ["logger=[wandb,mlflow]", *own])
    tracking.configure_loggers(cfg)
    assert (cfg.logger.wandb.name, cfg.logger.wandb.group) == ("mine", "phantom_volumes")
    assert cfg.logger.wandb.tags == ["paper", "unet", "phantom_volumes"]
    assert cfg.logger.mlflow.run_name == "phantom_volumes seed=0"
    assert cfg.logger.mlflow.tags == {
        "group": "phantom_volumes", "job_type": "train", "facts": "phantom_volumes, unet", "paper": "mine",
    }  # fmt: skip


def test_run_of_a_sweep_by_wandb_is_called_after_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setattr("sys.argv", ["medseg-train", "optimizer.lr=0.5", "seed=2"])
    running(monkeypatch, "optimizer.lr=0.5", "seed=2")
    cfg = compose("train", ["optimizer.lr=0.5", "seed=2"])
    tracking.configure_loggers(cfg)
    assert cfg.logger.wandb.name == "phantom_volumes optimizer.lr=0.5 seed=2"


def test_choices_of_the_sweep_are_in_the_configuration() -> None:
    fixed = [word for word in SWEEP["command"] if "=" in word]
    choices = {k: p.get("values") or [p["min"], p["max"]] for k, p in SWEEP["parameters"].items()}
    for number in range(max(map(len, choices.values()))):
        chosen = {key: values[number % len(values)] for key, values in choices.items()}
        cfg = compose("train", [*fixed, *(f"{key}={value}" for key, value in chosen.items())])  # refuses unknown keys
        assert cfg.optimizer.lr == chosen["optimizer.lr"]


def test_sweep_calls_the_command_with_overrides_as_hydra_takes_them() -> None:
    assert SWEEP["command"][0] == "${program}"
    assert SWEEP["command"][-1] == "${args_no_hyphens}"
    assert SWEEP["program"] == "medseg-train"
    assert SWEEP["metric"] == {"name": "val/dice", "goal": "maximize"}


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No account of W&B is known here."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_online_without_an_account_is_one_line(nobody: Path) -> None:
    with pytest.raises(InputError, match=r"^logger.wandb.offline=false: No (API key|account).* wandb sync$"):
        WandbRun(save_dir=str(nobody), offline=False)
    WandbRun(save_dir=str(nobody), offline=True)
    assert not (nobody / "wandb").exists(), "half-written"


def test_unknown_artifact_is_refused(nobody: Path) -> None:
    with pytest.raises(InputError, match=r"got \['images'\], expected some of \['data', 'model', 'report'\]"):
        WandbRun(save_dir=str(nobody), artifacts=["data", "images"])


def test_id_of_an_agent_is_not_overridden(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody / "wandb").mkdir()
    (nobody / "wandb/id.txt").write_text("kept\n")
    assert WandbRun(save_dir=str(nobody)).version == "kept"
    monkeypatch.setenv("WANDB_RUN_ID", "given")
    assert WandbRun(save_dir=str(nobody)).version is None


@pytest.mark.parametrize(("cases", "part"), [("the test set", "test"), ("validation fold 0", "val_final")])
def test_final_scores_are_named_after_the_cases_that_they_are_of(cases: str, part: str) -> None:
    entry = {"mean": 0.5, "ci95": None, "cases": 2}
    result = {"summary": {"dice": entry}, "classes": {"liver": {"dice": entry}}, "policy": {"cases": cases}}
    assert dict(tracking._final(result)) == {f"{part}/dice": 0.5, f"{part}/dice/liver": 0.5}
    assert dict(tracking._final({})) == {}, "nothing was judged"


@pytest.mark.parametrize("option", ["tensorboard", "mlflow"])
def test_missing_package_is_told_with_the_way_to_it(
    option: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from medseg.factory import trainer as parts

    monkeypatch.setattr(f"medseg.loggers.{option}_run.find_spec", lambda name: None)
    cfg = compose("train", [f"logger={option}"])
    with pytest.raises(InputError, match=rf"^logger={option}: .* is not installed; pip install 'medseg\[{option}\]'$"):
        parts.loggers(cfg, tmp_path)


def test_logger_that_is_no_logger_is_refused(tmp_path: Path) -> None:
    from medseg.factory import trainer as parts

    with pytest.raises(InputError, match=r"logger\.offline=False: expected a logger by its name"):
        parts.loggers(compose("train", ["+logger.offline=false"]), tmp_path)
