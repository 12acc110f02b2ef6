"""The package that docs/how-to/extend.md prints: installed without network, used by the commands of the page."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

import medseg
from medseg.errors import InputError
from tests.outside import install_files
from tests.pages import OUTSIDE, ROOT, commands

PAGE = (ROOT / OUTSIDE).read_text(encoding="utf-8")
FILES = dict(re.findall(r"\*\*`([\w./-]+)`\*\*\n\n```\w+\n(.*?)```\n", PAGE, re.DOTALL))
"""Content of each file of the package, by path."""
COMMANDS = [c.text for c in commands(PAGE) if c.path]
CLASSES = {
    f"{path.removesuffix('.py').replace('/', '.')}.{node.name}"
    for path, text in FILES.items()
    if path.endswith(".py")
    for node in ast.parse(text).body
    if isinstance(node, ast.ClassDef)
}


def run(command: str, site: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of the page, in a process that finds the package on its path."""
    program, *words = shlex.split(command)
    if program.startswith("medseg-"):
        words = ["-c", f"from medseg.cli.{program.removeprefix('medseg-')} import main; main()", *words]
    path = os.pathsep.join(map(str, (site, ROOT)))
    environment = os.environ | {"PYTHONPATH": path, "MEDSEG_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds the package and its metadata, as an installed wheel leaves them."""
    return install_files(tmp_path_factory.mktemp("site"), FILES)


@pytest.fixture(scope="module")
def folder(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which the commands of the page were run, one after the other."""
    folder = tmp_path_factory.mktemp("work")
    for command in COMMANDS:
        done = run(command, site, folder)
        assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"
    return folder


def targets(node: object) -> set[str]:
    """Every text of a configuration that could name a class of the package."""
    if isinstance(node, Mapping):
        return set().union(*map(targets, node.values()))
    if isinstance(node, list):
        return set().union(*map(targets, node))
    return {node} if isinstance(node, str) and node.startswith("my_lab.") else set()


def test_the_commands_use_every_class_of_the_package(folder: Path) -> None:
    configs = [yaml.safe_load((folder / f"runs/{name}/config.yaml").read_text()) for name in ("plain", "encoder")]
    named = set().union(*map(targets, configs))
    assert named == CLASSES - {"my_lab.formats.Npy", "my_lab.formats.NpySource"}
    assert sorted(p.name for p in (folder / "predicted").glob("*.npy")) == ["test_0.npy", "test_1.npy"]


def test_its_metric_is_scored(folder: Path) -> None:
    found = json.loads((folder / "runs/plain/metrics.json").read_text(encoding="utf-8"))["summary"]
    assert found["csi"]["mean"] == pytest.approx(found["iou"]["mean"])  # the same formula


def test_the_package_learned_and_was_scored(folder: Path) -> None:
    for scores in ("runs/plain", "scores"):
        found = json.loads((folder / scores / "metrics.json").read_text(encoding="utf-8"))
        assert found["summary"]["iou"]["mean"] > 0.5


def test_its_checkpoint_imports_nothing_where_it_is_not_trusted(
    folder: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(site)
    best = folder / "runs/plain/checkpoints/best.ckpt"
    for trust in ((), ("my_lab.networks",)):
        with pytest.raises(InputError, match=r"add trust=\[my_lab\]"):
            medseg.load(best, trust=trust)
    assert "my_lab.data" not in sys.modules


def test_options_are_listed(site: Path, tmp_path: Path) -> None:
    done = run("medseg-train --options model", site, tmp_path)
    assert re.search(r"\n  plain +Convolutions at full resolution\n", done.stdout)
    assert re.search(r"\n  two_stage +Two strided convolutions\n", done.stdout)


def test_a_plugin_that_fails_to_import_is_one_line(tmp_path: Path) -> None:
    files = FILES | {"my_lab/formats.py": "import a_library_that_is_missing\n"}
    site = install_files(tmp_path / "site", files)
    done = run("medseg-plan data=images data.root=none data.channels=[a] data.labels={a:0}", site, tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: package my-lab (entry point .npy of medseg.formats): my_lab.formats:Npy can't be imported "
        "(ModuleNotFoundError: No module named 'a_library_that_is_missing'); fix or update my-lab, or uninstall it"
    )


@pytest.mark.slow
def test_its_wheel_is_found_like_the_folder(site: Path, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(text, encoding="utf-8")
    build = ("hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    subprocess.run([sys.executable, "-m", *build], cwd=tmp_path / "source", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    target = ("--target", str(tmp_path / "installed"), str(wheel))
    subprocess.run([sys.executable, "-m", "pip", *install, *target], check=True, capture_output=True)
    command = "medseg-train --options model"
    assert run(command, tmp_path / "installed", tmp_path).stdout == run(command, site, tmp_path).stdout
    ask = 'python -c "from medseg import formats; print(formats.suffixes())"'
    assert "'.npy'" in run(ask, tmp_path / "installed", tmp_path).stdout
