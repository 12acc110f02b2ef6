import hashlib
import json
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from medseg.runtime import provenance


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *settings, *words], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("one\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_commit_of_a_clean_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD").strip()
    assert provenance.git_state(checkout) == {"commit": commit, "dirty": False}


def test_what_differs_has_a_digest(checkout: Path) -> None:
    (checkout / "a.py").write_text("two\n")
    state = provenance.git_state(checkout)
    assert state is not None
    assert state["dirty"] is True
    diff = subprocess.run(["git", "-C", str(checkout), "diff", "HEAD"], capture_output=True, check=True).stdout
    assert state["diff"] == hashlib.sha256(diff).hexdigest()[:16]


def test_outside_of_any_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state(tmp_path) is None


def test_versions_of_what_touches_data_and_networks() -> None:
    found = provenance.packages()
    for name in ("torch", "rasterio", "nibabel", "SimpleITK", "timm", "torchgeo", "transformers", "peft", "blosc2"):
        assert found[name] == metadata.version(name)


def test_all_of_it_is_plain(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    monkeypatch.chdir(checkout)
    monkeypatch.setattr("sys.argv", ["/somewhere/medseg-train", "seed=3"])
    state = provenance.provenance("9.9", seed=3)
    assert json.loads(json.dumps(state)) == state
    assert state["command"] == ["medseg-train", "seed=3"]
    assert (state["medseg"], state["seed"]) == ("9.9", 3)
    assert state["git"] == provenance.git_state(checkout)
    assert state["hardware"]["cores"] >= 1
    assert state["hardware"]["memory_gib"] > 0
    assert state["hardware"]["cpu"]
