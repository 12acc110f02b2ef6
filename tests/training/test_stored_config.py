from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.training.stored_config import read_config


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is no valid YAML"), ("a: 1", "is not the configuration of a training"), ("3", "is not the config")],
)
def test_what_is_no_configuration_is_one_line_with_a_remedy(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"config.yaml: {message}.*; do this") as refused:
        read_config(tmp_path / "config.yaml", "do this")
    assert "\n" not in str(refused.value)


def test_keys_are_those_of_today(tmp_path: Path) -> None:
    """Before the groups of data were split, the dataset lay in ``data.dataset``."""
    old = "{data: {dataset: {_target_: medseg.data.datasets.msd.MsdDataset, root: x}}, model: {}, trainer: {}}"
    (tmp_path / "config.yaml").write_text(old)
    data = read_config(tmp_path / "config.yaml", "")["data"]
    assert isinstance(data, dict)
    assert data["_target_"] == "medseg.data.datasets.msd.MsdDataset"
