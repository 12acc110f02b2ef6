"""Console scripts as a user types them: quick, torch-free refusals in one line."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import medseg
from medseg.errors import InputError
from medseg.hydra_app import app as commands
from medseg.hydra_app.conf import conf_dir

CONF = conf_dir()


def run(command: str, *arguments: str, cwd: Path, **given: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.argv[0] = 'medseg-{command}'; from medseg.cli.{command} import main; "
    code += "import atexit; say = lambda: print('torch imported:', 'torch' in sys.modules, file=sys.stderr); "
    code += "atexit.register(say); main()"
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | given
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=120
    )


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "plan", "check", "select"])
def test_help_is_torch_free(command: str, tmp_path: Path) -> None:
    done = run(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"medseg-{command}" in done.stdout
    assert "torch imported: False" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_waits_for_no_package_of_numerics(tmp_path: Path) -> None:
    code = (
        "import atexit, sys; atexit.register(lambda: print({'scipy', 'jaxtyping'} & {*sys.modules}, file=sys.stderr)); "
    )
    code += "sys.argv = ['medseg-train', '--help']; from medseg.cli.train import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.stderr == "set()\n"


def test_help_lists_choices_as_they_are_typed(tmp_path: Path) -> None:
    lines = run("train", "--help", cwd=tmp_path).stdout.splitlines()
    keys = next(i for i, line in enumerate(lines) if line.startswith("Every key and its value"))
    choices = dict(line.split(": ", 1) for line in lines[:keys] if re.match(r"[a-z][\w/]*: ", line))
    assert "hippocampus, " in choices["experiment"]
    assert "regimes/hippocampus_uda" in choices["experiment"]
    assert "experiment/regimes" not in choices
    assert choices["sampling"] == "area, case, class, group, weighted"
    assert "seed: 0" in lines


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["data.rot=/x"], "data.rot is no key of the configuration; did you mean data.root"),
        (["optimizr.lr=1"], "did you mean optimizer.lr"),
        (["model=unett"], "model=unett is no option; did you mean unet"),
        (
            ["experiment=regimes/hipocampus_uda"],
            "experiment=regimes/hipocampus_uda is no option; did you mean regimes/h",
        ),
        (["experiment=regimes"], "experiment=regimes is no option; did you mean regimes/burned_area, "),
        (["modle=unet"], "modle is no key of the configuration; did you mean model"),
        (["lr=1"], "did you mean optimizer.lr"),
        (["foo"], "foo"),
        (["data.rot=/x", "~model"], "data.rot is no key of the configuration; did you mean data.root"),
        (
            ["model/encoder=timm"],
            "model/encoder is no choice here, it belongs to model=encoder_decoder; choose that too",
        ),
        (
            ["model/encodr=timm", "model=encoder_decoder"],
            "model/encodr is no key of the configuration; did you mean model/enc",
        ),
        (["experiment=hipocampus"], "did you mean hippocampus"),
        (
            ["data=nnunet"],
            "data.root is needed and was not given; add data.root=... (folder with dataset.json in it) to",
        ),
        (
            ["data=volumes", "data.root=x"],
            "data.channels and data.labels are needed and were not given; add data.channels=... (name of each channel",
        ),
        (["inference.overlap=1.5"], "inference.overlap=1.5: expected a number >= 0 and < 1"),
        (["seed=-1"], "seed=-1: expected an integer >= 0"),
        (["data=nnunet", "data.root=s3://bucket/d"], "data.root=s3://bucket/d: remote and virtual paths are not read"),
        (["model.num_classes=2"], "model.num_classes is no key of the configuration: it is derived from data.labels"),
        (["optimizer.lr=fast"], "optimizer.lr=fast: expected a number such as 0.001"),
        (["trainer.max_steps=1k", "experiment=phantom"], "trainer.max_steps=1k: expected a number such as 450"),
    ],
)
def test_misspelt_configuration_is_one_line_with_the_right_name(
    arguments: list[str], told: str, tmp_path: Path
) -> None:
    done = run("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    first, *rest = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert told in first
    assert rest == ["torch imported: False"]
    assert list(tmp_path.iterdir()) == []


def test_missing_dataset_is_one_line(tmp_path: Path) -> None:
    done = run("train", "data=nnunet", f"data.root={tmp_path}/absent", cwd=tmp_path)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "dataset.json: no such file" in errors[0]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def errors_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Lines on stderr of a ``medseg-train`` in this process that ends with 2."""
    from medseg.cli import train

    monkeypatch.setattr(sys, "argv", ["medseg-train", *words])
    with pytest.raises(SystemExit, match=r"^2$"):
        train.main()
    return capsys.readouterr().err.splitlines()


def test_a_failed_job_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = "loss.terms.cross_entropy.class_weights={anterior: 2}"  # taken as --help shows it
    roots = "data.root=one,two,s3://three"
    lines = errors_of(monkeypatch, capsys, "-m", "data=nnunet", "logger=csv", roots, weights)
    errors = [line for line in lines if line.startswith("error: ")]
    assert [line.partition(": ")[2][:5] for line in errors[:3]] == ["job 0", "job 1", "job 2"]
    assert "job 1 (data.root=two): two/dataset.json: no such file" in errors[1]
    assert errors[3].startswith("error: 3 job(s) of the sweep failed")
    assert errors[3].endswith("job 0 (data.root=one), job 1 (data.root=two), job 2 (data.root=s3\\://three)")
    assert "Traceback" not in "".join(lines)


@pytest.mark.parametrize(
    ("command", "key"), [("predict", "input"), ("evaluate", "predictions"), ("predict", "checkpoint")]
)
def test_remote_paths_are_refused_as_they_were_typed(command: str, key: str, tmp_path: Path) -> None:
    given = {"predict": ("input", "output", "checkpoint"), "evaluate": ("predictions", "labels", "output")}[command]
    path = "https://example.com//a.tif"
    done = run(command, *(f"{name}={path if name == key else 'here'}" for name in given), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {key}={path}: remote and virtual paths are not read; download the files")


def test_words_that_stand_for_numbers_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = f"data.root={tmp_path}/absent"
    lines = errors_of(monkeypatch, capsys, "data=nnunet", absent, "split.fold=all", "trainer.devices=auto")
    assert "dataset.json: no such file" in lines[-1]


def test_a_group_of_another_command_is_not_suggested(tmp_path: Path) -> None:
    done = run("predict", "model=unet", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model is no key of the configuration; ")
    _, _, known = done.stderr.splitlines()[0].partition("; ")
    assert "model" not in known.removesuffix("?").replace(",", "").split()


def test_options_are_listed_without_torch(tmp_path: Path) -> None:
    done = run("train", "--options", "finetuning", cwd=tmp_path)
    assert done.returncode == 0
    assert "\n  lora          Low-rank changes of attention" in done.stdout
    assert done.stderr.splitlines() == ["torch imported: False"]
    (tmp_path / "mine/finetuning").mkdir(parents=True)
    (tmp_path / "mine/finetuning/own.yaml").write_text("# A way of my own.\n")
    done = run("train", "--config-dir", "mine", "--options=finetuning", cwd=tmp_path)
    assert "\n  own           A way of my own\n" in done.stdout
    done = run("train", "--options", "pfet", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --options pfet: no such group of choices; expected one of: split, sampling, ")


@pytest.mark.parametrize(
    ("command", "line", "offered", "not_offered"),
    [
        ("train", "model=", {"model=unet", "model=encoder_decoder"}, {"model=encoder"}),
        ("train", "optimizer=adamw data.ro", {"data.root="}, {"data=nnunet"}),
        ("train", "data=r", {"data=rasters"}, {"data=raster_defaults"}),
        ("train", "model=encoder_decoder model/encoder=monai_v", {"model/encoder=monai_vit"}, {"model/encoder=timm"}),
        ("predict", "", {"checkpoint=", "data.", "hydra"}, {"model", "data=", "loss="}),
        ("predict", "data.dat", {"data.dates="}, set()),
        ("plan", "outp", {"output="}, set()),
        ("evaluate", "la", {"labels="}, set()),
    ],
)
def test_shell_is_offered_what_fits(
    command: str, line: str, offered: set[str], not_offered: set[str], tmp_path: Path
) -> None:
    for shell, end in (("bash", " "), ("fish", "\n")) if command == "train" else (("bash", " "),):
        done = run(command, "-sc", f"query={shell}", cwd=tmp_path, COMP_LINE=f"medseg-{command} {line}")
        words = set(done.stdout.strip("\n").split(end))
        assert offered <= words
        assert not words & not_offered
        assert done.stderr.splitlines() == ["torch imported: False"]


def test_completion_in_bash(tmp_path: Path) -> None:
    script = tmp_path / "medseg-train"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom medseg.cli.train import main\nsys.exit(main())\n")
    script.chmod(0o755)
    typed = 'eval "$(medseg-train -sc install=bash)"; COMP_LINE="medseg-train loss=lov" COMP_POINT=21 COMP_CWORD=1; '
    typed += 'complete -p medseg-train; hydra_bash_completion; echo "${COMPREPLY[@]}"'
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": f"{tmp_path}:{os.environ['PATH']}"
    }  # fmt: skip
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, env=environment, timeout=60)
    registered, offered = done.stdout.splitlines()
    assert registered.endswith("-F hydra_bash_completion medseg-train")
    assert offered.split() == ["loss=lovasz", "loss=lovasz_ce"]


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "plan", "check", "select"])
def test_help_tells_how_the_shell_completes(command: str) -> None:
    text = (CONF / f"{command}.yaml").read_text(encoding="utf-8")
    for line in (
        f'bash   eval "$$(medseg-{command} -sc install=bash)"',
        f"fish   medseg-{command} -sc install=fish | source",
    ):
        assert line in text


def test_jobs_for_slurm_compose(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'medseg[slurm]'")
    own = ["hydra/launcher=submitit_slurm", "hydra.launcher.gpus_per_node=1", "hydra.launcher.timeout_min=600"]
    done = run("train", *own, "--cfg", "hydra", "-p", "hydra.launcher", cwd=tmp_path)
    assert "SlurmLauncher" in done.stdout
    assert "timeout_min: 600" in done.stdout
    assert "torch imported: False" in done.stderr


def test_composed_with_options_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "my options, all"
    (folder / "model").mkdir(parents=True)
    (folder / "model/mine.yaml").write_text("_target_: mine.Net\nwidth: 3\n")
    cfg = medseg.compose("train", "model=mine", "model.width=5", "optimizer=sgd", config_dir=folder)
    assert (cfg.model._target_, cfg.model.width, cfg.optimizer.momentum) == ("mine.Net", 5, 0.99)
    with pytest.raises(InputError, match="model=mine is no option"):
        medseg.compose("train", "model=mine")
    with pytest.raises(InputError, match=r"config_dir=.*none: no such folder"):
        medseg.compose("train", config_dir=tmp_path / "none")


def code_of(task: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """Exit code of a command whose task this is."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["medseg-evaluate", "predictions=a", "labels=b", "output=c"])
    with pytest.raises(SystemExit) as ended:
        commands.run("evaluate", task)
    return int(ended.value.code or 0)


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(cfg: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "c/.metrics.json.1.part")

    assert code_of(task, monkeypatch, tmp_path) == 2
    line = "error: c/.metrics.json.1.part: no space is left on the device; free some, or choose another folder\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_with_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    assert code_of(lambda cfg: signal.raise_signal(number), monkeypatch, tmp_path) == code
    assert capsys.readouterr().err == f"warning: ended by {number.name}\n"


@pytest.mark.usefixtures("unchecked")
def test_a_list_of_overrides_in_python_is_told() -> None:
    with pytest.raises(
        InputError, match=r"compose: got \['a=b'\], expected words such as 'data=nnunet'; write \*words"
    ):
        medseg.compose("train", ["a=b"])  # type: ignore[arg-type]
