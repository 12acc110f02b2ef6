"""Entry points of installed packages: found without importing them; one line where they do not work."""

import sys
from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.runtime.plugins import Plugin, plugins
from tests.outside import install

FAILS = {"fails_on_import.py": "raise RuntimeError('no\\nlibrary')\n"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def test_entry_points_are_found_by_group_and_not_imported(site: Path) -> None:
    install(site, "b-package", {"medseg.formats": {".b": "fails_on_import:B"}, "other": {"x": "y"}}, FAILS)
    install(site, "a-package", {"medseg.conf": {"a": "a"}, "medseg.formats": {".a": "a:A"}}, {})
    assert plugins("medseg.formats") == (
        Plugin("medseg.formats", ".a", "a:A", "a-package"),
        Plugin("medseg.formats", ".b", "fails_on_import:B", "b-package"),
    )
    assert [plugin.name for plugin in plugins("medseg.conf")] == ["a"]
    assert "fails_on_import" not in sys.modules


def test_of_a_package_that_is_there_twice_the_first_counts(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "twice", {"medseg.formats": {".first": "a:A"}}, {})
    install(tmp_path / "later", "twice", {"medseg.formats": {".second": "a:A"}}, {})
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "later")])
    assert [plugin.name for plugin in plugins("medseg.formats")] == [".first"]


def test_a_plugin_that_fails_to_import_is_one_line_with_its_package(site: Path) -> None:
    install(site, "my-package", {"medseg.formats": {".x": "fails_on_import:X"}}, FAILS)
    with pytest.raises(InputError) as caught:
        plugins("medseg.formats")[0].load()
    assert str(caught.value) == (
        "package my-package (entry point .x of medseg.formats): fails_on_import:X can't be imported "
        "(RuntimeError: no library); fix or update my-package, or uninstall it"
    )


def test_the_folder_of_a_package_is_found_without_importing_it(site: Path) -> None:
    install(
        site, "mine", {}, {"mine_a/__init__.py": "raise RuntimeError\n", "mine_a/inner/x.yaml": "", "mine_b.py": ""}
    )
    assert Plugin("g", "n", "mine_a", "mine").folder() == site / "mine_a"
    assert Plugin("g", "n", "mine_a.inner", "mine").folder() == site / "mine_a/inner"
    assert Plugin("g", "n", "mine_b", "mine").folder() == site
    assert "mine_a" not in sys.modules
    for value in ("mine_c", "mine_a.none"):
        with pytest.raises(InputError, match=rf"package mine .*: {value} is no package .*; fix or update mine, or"):
            Plugin("g", "n", value, "mine").folder()
