"""Facts of a table in cases, samples and batches of a training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.data.datasets.with_facts import WithFacts
from medseg.data.sampling.collate import collate_case
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.factory.run import assemble
from medseg.factory.split import halves
from medseg.hydra_app.conf import composed
from tests.tiny import SMALL, write_nnunet

ROWS = "case,age,sex,signs,kind\nc0,40,F,mass,a\nc1,60,M,mass;oedema,b\nc2,,F,,a\nc3,50,,oedema,b\nc4,90,X,cyst,\n"


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    write_nnunet(tmp_path / "raw")
    (tmp_path / "cases.csv").write_text(ROWS)
    table = f"data.table={tmp_path}/cases.csv"
    return [*SMALL, f"data.root={tmp_path}/raw", table, f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"]


def source_of(words: list[str]) -> WithFacts:
    source: Any = build_dataset(composed("train", words))
    return source


def test_every_column_is_a_fact_whose_kind_is_inferred(words: list[str]) -> None:
    spec = source_of(words).spec
    assert [(fact.name, fact.kind) for fact in spec.facts] == [
        ("age", "number"), ("sex", "word"), ("signs", "tags"), ("kind", "word"),
    ]  # fmt: skip
    assert spec.case_label is None


def test_columns_and_kinds_may_be_declared(words: list[str]) -> None:
    spec = source_of([*words, "data.facts={age: word, sex: null}", "data.case_label=kind"]).spec
    assert [(fact.name, fact.kind) for fact in spec.facts] == [("age", "word"), ("sex", "word")]
    assert spec.case_label is not None
    assert spec.case_label.values == ("a", "b")
    assert source_of([*words, "data.facts=[]", "data.case_label=kind"]).spec.facts == ()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.facts=[aeg]"], r"has no column aeg; the nearest are age"),
        (["data.facts=age"], "expected names of columns"),
        (["data.facts={sex: number}"], "no number"),
        (["data.facts={sex: text}"], "expected one of number, word, tags"),
        (["data.facts=[kind]", "data.case_label=kind"], r"kind is data\.case_label"),
        (["data.case_label=none"], "has no column none"),
        (["data.table=null", "data.facts=[age]"], r"data\.facts: names columns of data\.table, which is null"),
    ],
)
def test_declarations_that_are_refused(words: list[str], overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        source_of([*words, *overrides])


def test_a_single_class_of_cases_is_refused(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(ROWS.replace(",b\n", ",a\n"))
    with pytest.raises(InputError, match=r"data\.case_label=kind: got the classes \['a'\], expected two or more"):
        source_of([*words, "data.case_label=kind"])


def test_cases_of_another_dataset_take_the_facts_by_name(words: list[str], tmp_path: Path) -> None:
    source = source_of([*words, "data.facts=[age, sex]"])
    (tmp_path / "other.csv").write_text("case,sex,age\nc0,M,old\n" + "".join(f"c{i},,\n" for i in range(1, 5)))
    others = source_of([*words, f"data.table={tmp_path}/other.csv"]).cases()
    assert [case.facts.texts for case in source.updated(others[1:]) if case.facts] == [("", "")] * 4
    with pytest.raises(InputError, match="column age has 1 value"):
        source.updated(others)
    plain = [replace(case, facts=None) for case in others]
    assert [case.facts.texts for case in source.updated(plain) if case.facts] == [("", "")] * 5


def test_folds_are_balanced_over_a_fact(words: list[str]) -> None:
    cfg = composed("train", [*words, "split.stratify=kind", "split.n_folds=2"])
    train, val = halves(cfg.split, build_dataset(cfg))
    assert sorted(case.facts["kind"] for case in val if case.facts)[-2:] == ["a", "b"]
    assert sorted(case.facts["kind"] for case in train if case.facts)[-2:] == ["a", "b"]
    cfg = composed("train", [*words, "split.stratify=age"])
    with pytest.raises(InputError, match=r"split\.stratify=age: is a number, expected a word or tags"):
        halves(cfg.split, build_dataset(cfg))


def test_batches_have_facts_by_the_training_cases_and_no_cache_key_changes(
    words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [*words, "split.val_cases=[c4]"]
    of_cases = ["data.case_label=kind", "loss/term=[dice,cross_entropy,case_cross_entropy]"]
    run = assemble(composed("train", [*words, *of_cases]), tmp_path / "run")
    assert "sex has 1 value(s) that no training case has (X)" in caplog.text
    assert "signs has 1 value(s) that no training case has (cyst)" in caplog.text
    age, sex, signs = run.dataset.spec.facts
    assert (age.mean, sex.values, signs.values) == (50, ("F", "M"), ("mass", "oedema"))
    assert run.method.metadata.spec.facts == run.dataset.spec.facts
    run.datamodule.prepare_data()
    run.datamodule.setup()
    batch = next(iter(run.datamodule.train_dataloader()))
    assert batch.facts is not None
    assert batch.case_label is not None
    expected = {case.id: case.facts for case in run.datamodule.cases["train"]}
    for name, row, label in zip(batch.cases, batch.facts, batch.case_label, strict=True):
        facts = expected[name]
        assert facts is not None
        np.testing.assert_array_equal(row.numpy(), facts.encoded)
        assert label == facts.label_index
    (held,) = [collate_case([case.read()]) for case in run.datamodule.stored["val"]]
    assert held.facts is not None
    assert held.facts[0, 1:].tolist() == [0, 0, 0, 1, 0, 0, 1]  # neither its word nor its tag is known
    assert held.case_label is not None
    assert held.case_label.tolist() == [-1]

    plain = assemble(composed("train", [w for w in words if not w.startswith("data.table")]), tmp_path)
    plain.datamodule.setup()
    folders = [{case.folder for case in one.datamodule.stored["train"]} for one in (run, plain)]
    assert folders[0] == folders[1]
    bare = next(iter(plain.datamodule.train_dataloader()))
    assert bare.facts is None
    assert bare.case_label is None
    np.testing.assert_array_equal(bare.image.numpy(), batch.image.numpy())


def test_scenes_that_stay_in_their_files_have_facts(tmp_path: Path) -> None:
    from tests.tiny import write_planar

    own = ["data=rasters", "data.channels=[B1, B2]", "data.labels={a: 0, b: 1}", f"data.root={tmp_path}/raw"]
    write_planar(tmp_path / "raw", composed("train", own))
    (tmp_path / "cases.csv").write_text("case,site\ncase_0,n\ncase_1,s\ncase_2,n\n")
    own += [f"data.table={tmp_path}/cases.csv", "loader.store=false", f"cache_dir={tmp_path}/cache", "logger=csv"]
    own += ["plan.patch=[16,16]", "plan.batch_size=2", "model.base_features=4", "split.val_cases=[case_1]"]
    run = assemble(composed("train", [*own, "trainer.accelerator=cpu", "trainer.max_steps=1"]), tmp_path / "run")
    run.datamodule.prepare_data()
    run.datamodule.setup()
    batch = next(iter(run.datamodule.train_dataloader()))
    assert batch.facts is not None
    assert batch.facts.tolist() == [[1, 0], [1, 0]]
    (case,) = run.datamodule.stored["val"]
    assert case.facts is not None
    assert case.facts["site"] == "s"
