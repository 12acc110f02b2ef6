"""Options of installed packages: found next to ours, without importing the package, or refused in one line."""

import sys
from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.hydra_app import app
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir, conf_dirs
from tests.outside import install

NET = """# A network of another package
_target_: my_nets.Net
_partial_: true
width: ???  # channels of each layer
names: {}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def declare(site: Path, files: dict[str, str], package: str = "my-nets", module: str = "my_nets") -> None:
    install(
        site, package, {"medseg.conf": {"options": module}}, {f"{module}/{name}": text for name, text in files.items()}
    )


def test_options_of_a_package_compose_without_importing_it(site: Path) -> None:
    declare(site, {"__init__.py": "raise RuntimeError", "conf/model/my_net.yaml": NET})
    model = compose("train", ["model=my_net", "model.width=4", "model.names.a=1"]).model
    assert (model._target_, model.width, model.names) == ("my_nets.Net", 4, {"a": 1})
    assert "my_nets" not in sys.modules
    assert conf_dirs() == [conf_dir(), site / "my_nets/conf"]
    with pytest.raises(InputError, match=r"model=my_ner is no option; did you mean my_net"):
        compose("train", ["model=my_ner"])
    with pytest.raises(InputError, match=r"model\.widht is no key .*; did you mean model\.width"):
        compose("train", ["model=my_net", "model.widht=4"])


def test_listing_shows_them(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    declare(
        site, {"conf/model/my_net.yaml": NET, "conf/experiment/mine.yaml": "# @package _global_\n# My experiment\n"}
    )
    monkeypatch.setattr(sys, "argv", ["medseg-train", "--options"])
    app.run("train", lambda _: pytest.fail("a listing trains nothing"))
    listed = capsys.readouterr().out
    assert "my_net " in listed
    assert "A network of another package" in listed
    assert "My experiment" in listed


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["medseg-train", *words])
    with pytest.raises(SystemExit, match=r"^2$"):
        app.run("train", lambda _: pytest.fail("nothing is trained"))
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_value_that_is_needed_is_explained_from_its_file(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(site, {"conf/model/my_net.yaml": NET})
    assert "model.width=... (channels of each layer)" in refused(monkeypatch, capsys, "model=my_net")


@pytest.mark.parametrize("words", [["--options"], ["--help"], ["data.root=x"]])
def test_an_option_that_exists_already_is_one_line(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    declare(site, {"conf/model/unet.yaml": NET})
    assert refused(monkeypatch, capsys, *words) == (
        "error: package my-nets (entry point options of medseg.conf): its option model=unet exists already in medseg "
        f"itself; rename {site}/my_nets/conf/model/unet.yaml, or uninstall my-nets"
    )


def test_an_option_of_two_packages_is_refused(site: Path) -> None:
    declare(site, {"conf/model/my_net.yaml": NET})
    declare(site, {"conf/model/my_net.yaml": NET}, package="other-nets", module="other_nets")
    words = r"package other-nets .*: its option model=my_net exists already in package my-nets .*uninstall other-nets"
    with pytest.raises(InputError, match=words):
        compose("train", [])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"__init__.py": ""}, r"my_nets/conf does not exist, expected a folder of options; fix or update my-nets, or"),
        ({}, "my_nets is no package that can be imported; fix or update my-nets, or uninstall it"),
    ],
)
def test_a_package_without_options_is_refused(site: Path, files: dict[str, str], words: str) -> None:
    declare(site, files)
    with pytest.raises(InputError, match=rf"^package my-nets \(entry point options of medseg\.conf\): .*{words}"):
        compose("train", [])
