"""class_weights=auto: numbers by the training cases, printed, stored, and taken from the checkpoint on a resume."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from medseg import checkpoint
from medseg.errors import InputError
from medseg.factory.class_weights import cells_of, from_cases, kept, without_words, words
from medseg.factory.dataset import build_dataset
from medseg.factory.settings import check_values
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.losses.class_weights import balanced
from medseg.losses.targets import output_weights
from medseg.planning.fingerprint import fingerprint
from medseg.runtime import integrity
from medseg.training.resume import differences
from medseg.training.train import train
from tests.losses.test_decisions import WEIGHTED
from tests.tiny import LABELS, SMALL, draw, write_nnunet

KEY = "loss.terms.cross_entropy.class_weights"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nnunet(tmp_path_factory.mktemp("weights") / "data", n_cases=3)


def cells() -> dict[str, int]:
    """Cells of each class, of cases 0 to 2: nothing is cropped or invalid."""
    labels = [draw(number)[1] for number in range(3)]
    return {name: sum(int((label == value).sum()) for label in labels) for name, value in LABELS.items()}


def composed(data: Path, cache: Path, *overrides: str) -> Any:
    return compose("train", [*SMALL, f"data.root={data}", f"cache_dir={cache}", *overrides])


@pytest.mark.parametrize("term", WEIGHTED)
@pytest.mark.parametrize("word, power", [("auto", 0.5), ("median_frequency", 1.0)])
def test_every_term_with_class_weights_gets_those_of_the_cases(
    data: Path, tmp_path_factory: pytest.TempPathFactory, term: str, word: str, power: float
) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    cfg = composed(data, cache, f"loss/term={term}", f"loss.terms.{term}.class_weights={word}")
    check_values(cfg)
    source = build_dataset(cfg)
    weighted = from_cases(cfg, source, source.cases())
    assert OmegaConf.to_container(weighted.loss.terms[term].class_weights) == balanced(cells(), power)
    assert cfg.loss.terms[term].class_weights == word, "the command's own is left as it is"
    assert without_words(cfg).loss.terms[term].class_weights == {}


def test_weights_are_printed_stored_and_those_of_the_loss(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words_of = [f"{KEY}=auto", "split.n_folds=3", "test=false", f"run_dir={tmp_path}/run", "trainer.steps_per_epoch=1"]
    run_dir = train(composed(data, tmp_path / "cache", *words_of, "trainer.max_steps=1"))
    held = checkpoint.read(run_dir / "checkpoints/last.ckpt").metadata
    training = [int(case[1:]) for case in held.provenance["data"]["train"]]
    labels = [draw(number)[1] for number in training]
    counts = {name: sum(int((label == value).sum()) for label in labels) for name, value in LABELS.items()}
    weights = held.config["loss"]["terms"]["cross_entropy"]["class_weights"]
    assert weights == balanced(counts, 0.5)
    listed = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
    assert f"note: {KEY}=auto: {listed}\n" in capsys.readouterr().err
    assert OmegaConf.select(OmegaConf.load(run_dir / "config.yaml"), KEY) == weights
    store_other_weights(run_dir / "checkpoints/last.ckpt")
    resumed = composed(data, tmp_path / "cache", *words_of, "trainer.max_steps=2", "ckpt_path=last")
    train(resumed)
    text = capsys.readouterr().err
    assert "settings differ" not in text
    assert "class_weights=auto" not in text, "not computed again"
    after = checkpoint.read(run_dir / "checkpoints/last.ckpt").metadata
    assert after.config["loss"]["terms"]["cross_entropy"]["class_weights"] == {"background": 0.5}


def store_other_weights(path: Path) -> None:
    """Other weights in the checkpoint, which a resume takes although the cases say otherwise."""
    content = torch.load(path, weights_only=True)
    content["medseg"]["config"]["loss"]["terms"]["cross_entropy"]["class_weights"] = {"background": 0.5}
    del content[integrity.KEY]
    torch.save(content, path)


def test_weights_of_regions_are_by_their_cells(data: Path, tmp_path: Path) -> None:
    table = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    cfg = composed(data, tmp_path / "cache")
    source = build_dataset(cfg)
    pooled = fingerprint(source, source.cases(), tmp_path / "store")
    by_class = dict(zip(table.names, cells().values(), strict=True))
    renamed = type(pooled).from_dict(pooled.to_dict() | {"foreground": {n: by_class[n] for n in table.names[1:]}})
    both = by_class[table.names[1]] + by_class[table.names[2]]
    assert cells_of(renamed, table) == {"whole": both, "core": by_class[table.names[2]]}


def test_cases_are_counted_again_where_the_store_has_no_background(data: Path, tmp_path: Path) -> None:
    source = build_dataset(composed(data, tmp_path / "cache"))
    first = fingerprint(source, source.cases(), tmp_path / "store")
    assert first.background == cells()["background"]
    (path,) = (tmp_path / "store/fingerprints").iterdir()
    earlier = json.loads(path.read_text())
    del earlier["background"]
    path.write_text(json.dumps(earlier))
    assert fingerprint(source, source.cases(), tmp_path / "store").background is None
    assert fingerprint(source, source.cases(), tmp_path / "store", counted=True) == first
    assert fingerprint(source, source.cases(), tmp_path / "store") == first, "as it is stored then"


def test_a_resume_keeps_the_weights_of_the_run() -> None:
    cfg = compose("train", [f"{KEY}=auto", "logger=csv"])
    assert words(cfg) == {"cross_entropy": "auto"}
    stored = {"loss": {"terms": {"cross_entropy": {"class_weights": {"liver": 3.0}}}}}
    assert kept(cfg, stored).loss.terms.cross_entropy.class_weights == {"liver": 3.0}
    assert kept(cfg, {"loss": {"terms": {}}}) == cfg, "another loss was trained"
    stated = compose("train", [f"{KEY}={{liver: 2}}", "logger=csv"])
    assert kept(stated, stored) == stated, "numbers of the command win"


def test_words_equal_the_numbers_that_they_became() -> None:
    before = {"loss": {"terms": {"a": {"class_weights": {"liver": 3.0, "x": 1.0}}}}, "seed": 0}
    for word in ("auto", "median_frequency"):
        now = {"loss": {"terms": {"a": {"class_weights": word}}}, "seed": 1}
        assert dict(differences(before, now)) == {"seed": (0, 1)}
    numbers = {"loss": {"terms": {"a": {"class_weights": {"liver": 2.0, "x": 1.0}}}}, "seed": 0}
    assert dict(differences(before, numbers)) == {"loss.terms.a.class_weights.liver": (3.0, 2.0)}


def test_wrong_words_are_one_line() -> None:
    with pytest.raises(
        InputError, match=rf"{KEY}=automatic: expected numbers by name, or one of auto, median_frequency"
    ):
        check_values(compose("train", [f"{KEY}=automatic", "logger=csv"]))
    table = LabelTable.declare({"background": 0, "liver": 1})
    with pytest.raises(InputError, match=r"loss ce: class_weights=auto: expected weights by name, as \{liver: 2\}"):
        output_weights(table, "auto", loss="ce")
