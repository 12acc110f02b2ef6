"""Console scripts as a user types them: quick, torch-free refusals in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(command: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.argv[0] = 'medseg-{command}'; from medseg.{command} import main; "
    code += "import atexit; say = lambda: print('torch imported:', 'torch' in sys.modules, file=sys.stderr); "
    code += "atexit.register(say); main()"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=120
    )


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "plan"])
def test_help_is_torch_free(command: str, tmp_path: Path) -> None:
    done = run(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"medseg-{command}" in done.stdout
    assert "torch imported: False" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["data.rot=/x"], "data.rot is no key of the configuration; did you mean data.root"),
        (["optimizr.lr=1"], "did you mean optimizer.lr"),
        (["model=unett"], "model=unett is no option; did you mean unet"),
        (["modle=unet"], "modle is no key of the configuration; did you mean model"),
        (["lr=1"], "did you mean optimizer.lr"),
        (["foo"], "foo"),
        (["data.rot=/x", "~model"], "data.rot is no key of the configuration; did you mean data.root"),
        (["model/encoder=timm"], "model/encoder is no choice here, it comes with model=segmenter; choose that too"),
        (
            ["model/encodr=timm", "model=segmenter"],
            "model/encodr is no key of the configuration; did you mean model/enc",
        ),
        (["experiment=hipocampus"], "did you mean hippocampus"),
        (["data=nnunet"], "data.root is needed and was not given"),
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


def test_words_that_stand_for_numbers_are_taken(tmp_path: Path) -> None:
    done = run(
        "train", "data=nnunet", f"data.root={tmp_path}/absent", "data.fold=all", "trainer.devices=auto", cwd=tmp_path
    )
    assert "dataset.json: no such file" in done.stderr


def test_a_group_of_another_command_is_not_suggested(tmp_path: Path) -> None:
    done = run("predict", "model=unet", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model is no key of the configuration; ")
    _, _, known = done.stderr.splitlines()[0].partition("; ")
    assert "model" not in known.removesuffix("?").replace(",", "").split()
