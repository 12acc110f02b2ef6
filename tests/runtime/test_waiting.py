import os
import subprocess
import sys

import pytest

from medseg.runtime.waiting import wait_passively

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without torch and without settings; what is set is undone."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("fresh")
def test_threads_sleep_unless_told_otherwise() -> None:
    assert wait_passively()
    assert [os.environ.get(name) for name in NAMES] == ["PASSIVE", "0", "0", None]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("name", NAMES)
def test_settings_of_the_user_stay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "ACTIVE")
    assert not wait_passively()
    assert {n: os.environ[n] for n in NAMES if n in os.environ} == {name: "ACTIVE"}


@pytest.mark.usefixtures("fresh")
def test_a_runtime_that_is_loaded_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert not wait_passively()
    assert not {*NAMES} & {*os.environ}


@pytest.mark.parametrize("place", ["medseg.check('data=phantom', 'nothing=1')", "medseg.load('absent.ckpt')"])
def test_verbs_ask_for_it_before_torch_is_loaded(place: str) -> None:
    code = f"import medseg, os\ntry:\n    {place}\nexcept medseg.InputError:\n    print(os.environ['OMP_WAIT_POLICY'])"
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    assert subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True).stdout == "PASSIVE\n"


def test_commands_ask_for_it_before_torch_is_loaded() -> None:
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    code = "import os, sys\nfrom medseg.hydra_app import app\nsys.argv[1:] = ['--options', 'model']\n"
    code += "app.run('train', print)\nprint(os.environ['OMP_WAIT_POLICY'])"
    shown = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True).stdout
    assert shown.splitlines()[-1] == "PASSIVE"
