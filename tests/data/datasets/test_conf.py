import json
from pathlib import Path
from typing import Any

import pytest

from medseg.data.dataset import Dataset
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose

LABELS = {"background": 0, "left lung": 1, "right lung": 2}


@pytest.mark.parametrize(
    ("option", "keys"),
    [
        ("nnunet", {"pairs": [["left lung", "right lung"]]}),
        ("msd", {"pairs": [["left lung", "right lung"]]}),
        ("volumes", {"channels": ["CT"], "labels": LABELS, "pairs": [["left lung", "right lung"]]}),
    ],
)
def test_option_builds_its_dataset(option: str, keys: dict[str, Any], tmp_path: Path) -> None:
    declared = {"modality": {"0": "CT"}, "labels": LABELS, "training": []}
    (tmp_path / "dataset.json").write_text(json.dumps(declared))
    dataset = build(option, tmp_path, root=str(tmp_path), nonfinite="mask", grid_tolerance=0.5, **keys)
    reading = dataset.reading
    assert (dataset.name, reading.nonfinite, reading.grid_tolerance) == (option, "mask", 0.5)
    assert dataset.spec.labels.pairs == ((1, 2),)


def test_the_phantom_is_drawn_into_the_cache(tmp_path: Path) -> None:
    dataset = build("phantom_volumes", tmp_path, n_cases=2, n_test=0, shape=[12, 14, 10])
    assert len(dataset.cases()) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["phantom_volumes"]


def build(option: str, cache: Path, **keys: Any) -> Dataset:
    cfg = compose("train", [f"data={option}"])
    cfg.cache_dir = str(cache)
    cfg.data.update(keys)
    return build_dataset(cfg)
