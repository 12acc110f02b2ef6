"""The files of ``tests/conf`` belong to options, and change what these have."""

import pytest
import yaml

from medseg.hydra_app.conf import conf_dir
from tests.small import FOLDER, small

FILES = sorted(FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_file_belongs_to_an_option(path):
    option = conf_dir() / path.relative_to(FOLDER)
    assert option.is_file(), f"{path.relative_to(FOLDER)} belongs to no option of conf/"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(content) <= {"settings", "overrides", "options", "least_batch", "package", "exempt", "teacher"}
    known = yaml.safe_load(option.read_text(encoding="utf-8"))
    entries = [entry for entry in known.get("defaults", []) if isinstance(entry, dict)]
    inner = {key.rpartition("@")[2] for entry in entries for key in entry}  # model/encoder@of: the keys of of
    assert set(content.get("settings", {})) <= {*known, *inner}


def test_sizes_of_a_network_have_its_settings_and_others_none():
    assert small("model", "unet_small") == small("model", "unet")
    assert small("model", "unet")["settings"] == {"base_features": 4}
    assert small("model", "smp_pan")["least_batch"] == 2
    assert not any(small("loss", "ce")[key] for key in ("settings", "overrides", "options", "package", "exempt"))
