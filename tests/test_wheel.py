"""The wheel: built without network, installed into an empty folder, used from another one."""

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=os.environ | environment, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("medseg-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """Folder that holds the package, its scripts and nothing else."""
    target = wheel.parent / "installed"
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", *install, "--target", target, wheel, cwd=wheel.parent)
    return target


def test_every_module_and_yaml_is_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "medseg").rglob("*.py")}
    yamls = {f"medseg/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert "medseg/conf/train.yaml" in yamls
    assert inside == modules | yamls | {"medseg/py.typed"}


def test_console_scripts_name_their_commands(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        entries = configparser.ConfigParser()
        entries.read_string(archive.read(name).decode())
    commands = [
        path.stem
        for path in (ROOT / "medseg/cli").glob("*.py")
        if "\ndef main() -> None:" in path.read_text(encoding="utf-8")
    ]
    assert "train" in commands
    assert dict(entries["console_scripts"]) == {f"medseg-{c}": f"medseg.cli.{c}:main" for c in commands}


def test_installed_copy_composes_from_any_folder(installed: Path, tmp_path: Path) -> None:
    ask = "import medseg.hydra_app.conf; print(medseg.__file__, medseg.hydra_app.conf.conf_dir())"
    module, conf = run(sys.executable, "-c", ask, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert module == str(installed / "medseg/__init__.py")
    assert conf == str(installed / "medseg/conf")
    shown = run(
        installed / "bin/medseg-train", "model=segresnet", "--cfg", "job", cwd=tmp_path, PYTHONPATH=str(installed)
    )
    assert "_target_: medseg.models.monai.segresnet.SegResNet" in shown
    assert list(tmp_path.iterdir()) == []


def test_config_dir_of_the_user_adds_to_it(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    own = "# @package _global_\n# mine\ndefaults:\n  - override /model: unetr\n\nname: mine\nseed: 17\n"
    (tmp_path / "mine/experiment/mine.yaml").write_text(own)
    script, home = installed / "bin/medseg-train", str(installed)
    for options in (
        ["--config-dir", "mine", "experiment=mine"],
        ["experiment=mine", "--config-dir", tmp_path / "mine"],
    ):
        shown = run(script, *options, "--cfg", "job", cwd=tmp_path, PYTHONPATH=home)
        assert "seed: 17\n" in shown
        assert "_target_: medseg.models.monai.unetr.UNETR" in shown
    mixed = run(script, "--config-dir", "mine", "experiment=phantom", "--cfg", "job", cwd=tmp_path, PYTHONPATH=home)
    assert "name: phantom\n" in mixed, "options of the package stay"
