"""Schemes that plans name by class path: nothing is imported that is not trusted."""

import sys
from pathlib import Path

import pytest

from medseg.data.preprocessing.normalise import Normalisation
from medseg.errors import InputError
from medseg.factory.schemes import named_schemes, with_schemes
from medseg.hydra_app.compose import compose
from medseg.planning.plan import Plan

MODULE = """
from pathlib import Path
from os import system
from medseg.data.preprocessing.normalise import Scheme

Path({ran!r}).touch()


class Log(Scheme):
    def __call__(self, cells, rule, image):
        return cells


class Abstract(Scheme):
    pass


def function():
    pass
"""


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File that appears when the user's module is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    (tmp_path / "stranger.py").write_text(MODULE.format(ran=str(tmp_path / "ran")))
    return tmp_path / "ran"


def plan(scheme: str) -> Plan:
    return Plan((1.0, 1.0), (8, 8), 2, ((3, 3),), ((1, 1),), (Normalisation("zscore"), Normalisation(scheme)), False)


def test_a_stranger_s_plan_imports_nothing(ran: Path) -> None:
    read = Plan.from_dict(plan("stranger.Log").to_dict())
    for trusted in ((), ("other",), ("strange",), ("stranger.Lo",)):
        with pytest.raises(InputError, match=r"x\.ckpt: plan\.normalisation\[1\]=stranger\.Log: .*trust=\[stranger\]"):
            with_schemes(read, "x.ckpt", trusted)
    assert not ran.exists()
    assert "stranger" not in sys.modules
    with pytest.raises(InputError, match="was not imported"):
        _ = read.normalisation[1].per_image


@pytest.mark.parametrize("trusted", ["stranger", "stranger.Log"])
def test_a_trusted_scheme_is_imported(ran: Path, trusted: str) -> None:
    rules = with_schemes(plan("stranger.Log"), "x.ckpt", (trusted,)).normalisation
    assert type(rules[1].own).__name__ == "Log"
    assert rules[0].own is None
    assert ran.exists()


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        ("stranger.function", "expected a class derived from medseg.data.preprocessing.normalise.Scheme"),
        ("stranger.Abstract", "expected a class derived from"),
        ("stranger.system", "holds for what is defined in these modules"),
        ("stranger.Path", "holds for what is defined in these modules"),
        ("stranger.Missing", "can't be imported"),
    ],
)
def test_other_things_of_a_trusted_module_are_refused(ran: Path, scheme: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        with_schemes(plan(scheme), "x.ckpt", ("stranger",))


def test_a_stored_plan_can_not_bring_an_instance() -> None:
    stored = plan("zscore").to_dict()
    stored["normalisation"][0]["own"] = 1.0
    with pytest.raises(InputError, match="own"):
        Plan.from_dict(stored)


def test_names_of_the_user_s_own_configuration() -> None:
    assert named_schemes(compose("train", ["plan.normalisation=[my.Log,zscore]"])) == ("my.Log",)
    images = ["data=images", "data.normalisation=my.Log", "data.channels=[a]", "data.labels={a: 0}"]
    assert named_schemes(compose("train", images)) == ("my.Log",)
    assert named_schemes(compose("train", [])) == ()
