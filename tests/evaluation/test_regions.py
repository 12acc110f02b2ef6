"""medseg-evaluate on regions: the words of a training judge its files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from medseg.errors import InputError
from medseg.evaluation import folders as evaluation
from medseg.evaluation.evaluate import evaluate
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.prediction.predict import evaluation_command
from tests.tiny import save

TUMOUR = {"background": 0, "whole tumour": [1, 2, 3, 4], "tumour core": [1, 3, 4], "enhancing": 4}
WORDS = "names={background: 0, whole tumour: [1, 2, 3, 4], tumour core: [1, 3, 4], enhancing: 4}"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two cases of five values each; a third of the predicted cells are others."""
    rng = np.random.default_rng(0)
    for case in ("p1", "p2"):
        label = rng.integers(0, 5, (6, 5, 4)).astype(np.uint8)
        pred = np.where(rng.random(label.shape) < 1 / 3, rng.integers(0, 5, label.shape), label).astype(np.uint8)
        for folder, cells in (("labels", label), ("predictions", pred)):
            (tmp_path / folder).mkdir(exist_ok=True)
            save(tmp_path / folder / f"{case}.nii.gz", cells)
    return tmp_path


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time, and has tests of its own."""
    monkeypatch.setattr(evaluation, "_draw", lambda *args: b"png")


def scores(folders: Path, *overrides: str) -> dict[str, Any]:
    places = [f"predictions={folders}/predictions", f"labels={folders}/labels", f"output={folders}/out"]
    return evaluate(compose("evaluate", [*places, *overrides]))


def test_lists_that_share_values_are_regions_as_in_a_dataset_json(folders: Path) -> None:
    by_names = scores(folders, WORDS)
    declared = {
        "labels": TUMOUR,
        "regions_class_order": [2, 1, 4],
        "channel_names": {"0": "MR"},
        "file_ending": ".nii.gz",
    }
    (folders / "labels/dataset.json").write_text(json.dumps(declared))
    assert scores(folders) == by_names
    assert list(by_names["classes"]) == ["whole tumour", "tumour core", "enhancing"]
    titles = ["background", "tumour core (value 1)", "whole tumour (value 2)", "tumour core (value 3)", "enhancing"]
    assert by_names["confusion"]["classes"] == titles
    page = (folders / "out/report.html").read_text(encoding="utf-8")
    assert "value_1" not in page
    assert "whole tumour (value 2)" in page


def test_region_scores_worked_by_hand(folders: Path) -> None:
    label, pred = np.zeros((2, 4, 4, 4), np.uint8)
    label[0, 0], pred[0, 0] = (1, 2, 4, 0), (3, 2, 0, 4)
    for folder, cells in (("labels", label), ("predictions", pred)):
        save(folders / folder / "p1.nii.gz", cells)
        save(folders / folder / "p2.nii.gz", cells)
    dice = {name: by["dice"]["mean"] for name, by in scores(folders, WORDS)["classes"].items()}
    assert dice == pytest.approx({"whole tumour": 4 / 6, "tumour core": 2 / 4, "enhancing": 0})


def test_a_single_region_judges_all_of_its_values(folders: Path) -> None:
    whole = scores(folders, "names={background: 0, whole tumour: [1, 2, 3, 4]}")
    assert whole["classes"]["whole tumour"] == scores(folders, WORDS)["classes"]["whole tumour"]
    core = scores(folders, "names={background: [0, 2], tumour core: [1, 3, 4]}")
    assert core["classes"]["tumour core"] == scores(folders, WORDS)["classes"]["tumour core"]


def test_values_that_names_lacks_are_told_in_its_words(folders: Path) -> None:
    with pytest.raises(
        InputError, match=r"label values \{2: \d+\}.* add them to names: .*background: \[0, 5\]"
    ) as error:
        scores(folders, "names={background: 0, tumour core: [1, 3, 4]}")
    assert "data.labels" not in str(error.value)
    assert not (folders / "out").exists()


def test_regions_need_a_background(folders: Path) -> None:
    with pytest.raises(InputError, match=r"names: classes that share values are regions, which need a background"):
        scores(folders, WORDS, "background=null")


def test_the_command_after_a_prediction_names_the_regions(folders: Path) -> None:
    table = LabelTable.declare(TUMOUR, regions_class_order=[2, 1, 4])
    words = evaluation_command(Path("maps"), table).partition("'")[2].removesuffix("'")
    assert words == WORDS
    names = OverridesParser.create().parse_override(words).value()
    assert {str(key): value for key, value in names.items()} == TUMOUR
