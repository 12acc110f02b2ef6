from pathlib import Path

import pytest

from tests.doctor.sets import write_pictures, write_scenes, write_volumes


@pytest.fixture
def volume_root(tmp_path: Path) -> Path:
    return write_volumes(tmp_path / "volumes")


@pytest.fixture
def scene_root(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "scenes")


@pytest.fixture
def picture_root(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")
