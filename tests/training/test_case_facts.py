"""Facts that decide what is to be found, and the class of each case: from a training to files."""

import csv
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg import checkpoint, formats
from medseg.errors import InputError
from medseg.export.export import export
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from medseg.prediction import restore
from medseg.prediction.predict import predict
from medseg.training.evaluate_run import evaluate_run
from medseg.training.train import train

CASES = 12
SHAPE = (24, 32)
MONITOR = "monitor=val/case_auc"


def write(root: Path) -> Path:
    """Images whose left half is bright; which half is labelled, the column ``half`` alone says.

    The second band has a square in the cases of the class ``spot``.
    """
    grid = Grid(SHAPE, np.eye(3), PIXEL)
    rows = []
    for number in range(CASES):
        rng = np.random.default_rng(number // 2)  # the images of two cases are equal
        bright = np.broadcast_to(np.arange(SHAPE[1]) < SHAPE[1] // 2, SHAPE)
        half, kind = ("bright", "dark")[number % 2], ("plain", "spot")[number // 2 % 2]
        image = np.stack([bright * 4.0, np.zeros(SHAPE)]) + rng.normal(0, 0.3, (2, *SHAPE))
        if kind == "spot":
            image[1, 6:18, 8:24] += 4
        formats.write_image(root / f"images/case_{number:02d}.tif", image.astype(np.float32), grid, names=["A", "B"])
        formats.write(root / f"masks/case_{number:02d}.tif", (bright == (half == "bright")).astype(np.uint8), grid)
        rows.append(f"case_{number:02d};{30 + number};{half};{kind}\r\n")
    (root / "cases.csv").write_text("\ufeffcase;age;half;kind\r\n" + "".join(rows), encoding="utf-8")
    return root


def words(root: Path, run: str, *own: str) -> list[str]:
    return [
        "data=rasters", f"data.root={root}/raw", "data.channels=[A, B]", "data.labels={off: 0, on: 1}",
        f"data.table={root}/raw/cases.csv", "data.case_label=kind", "split.val_cases=[case_08, case_09, case_1*]",
        "model=unet", "model.base_features=4", "plan.patch=[24,32]", "plan.batch_size=4", "transform=light",
        "optimizer.lr=0.01", "loss/term=[dice,cross_entropy,case_cross_entropy]", "logger=csv", "callback={}",
        "metric=overlap", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.steps_per_epoch=45",
        "trainer.max_steps=90", f"cache_dir={root}/cache", f"run_dir={root}/{run}", "temperature_scaling=false", *own,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("facts")
    for folder in ("images", "masks"):
        (root / "raw" / folder).mkdir(parents=True)
    write(root / "raw")
    train(compose("train", words(root, "film", "model.facts=film", "by={half: null, age: [40]}")))
    return root


def metrics(root: Path, run: str) -> Any:
    return json.loads((root / run / "metrics.json").read_text())


def test_a_network_with_facts_learns_what_they_decide_and_one_without_can_not(root: Path) -> None:
    train(compose("train", words(root, "plain", "data.facts=[age]", "trainer.max_steps=45")))
    with_facts, without = (metrics(root, run)["summary"]["dice"]["mean"] for run in ("film", "plain"))
    assert with_facts > 0.95
    assert without < 0.7  # of two cases with equal images one is right at most, or both are half right


def test_the_class_of_each_case_is_learned_and_scored(root: Path) -> None:
    section = metrics(root, "film")["case_label"]
    assert section["name"] == "kind"
    assert section["classes"] == ["plain", "spot"]
    assert section["cases"] == 4
    assert section["accuracy"] == section["balanced_accuracy"] == section["auc"] == 1
    assert section["confusion"] == [[2, 0], [0, 2]]
    with (root / "film/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/case_accuracy")]
    assert float(rows[-1]["val/case_accuracy"]) == 1
    assert float(rows[-1]["val/case_auc"]) == 1


def test_scores_are_split_by_the_columns_of_the_table(root: Path) -> None:
    found = metrics(root, "film")["subgroups"]
    val = {"bright": ["case_08", "case_10"], "dark": ["case_09", "case_11"]}
    assert {name: part["cases"] for name, part in found["half"]["groups"].items()} == val
    assert {name: part["cases"] for name, part in found["age"]["groups"].items()} == {
        "40 and above": ["case_10", "case_11"],
        "below 40": ["case_08", "case_09"],
    }
    assert "Scores of groups" in (root / "film/report.html").read_text(encoding="utf-8")
    words = [f"run={root}/film", f"output={root}/again", f"table={root}/raw/cases.csv", "by=[kind]", "checkpoint=best"]
    again = evaluate_run(compose("evaluate", words))
    assert list(again["subgroups"]) == ["kind"]
    assert list(again["subgroups"]["kind"]["groups"]) == ["plain", "spot"]


def predicted(root: Path, output: str, *own: str) -> Path:
    given = [f"checkpoint={root}/film/checkpoints/best.ckpt", f"input={root}/raw/images", f"output={root}/{output}"]
    predict(compose("predict", [*given, *own]))
    return root / output


def labels_of(folder: Path) -> dict[str, float]:
    """Share of cells of each label file that are right."""
    paths = sorted(folder.glob("*.tif"))
    truth = folder.parent / "raw/masks"
    return {p.stem: float((formats.open(p).read() == formats.open(truth / p.name).read()).mean()) for p in paths}


def test_new_cases_are_predicted_with_the_facts_of_a_table(root: Path) -> None:
    table = root / "raw/cases.csv"
    folder = predicted(root, "predictions", f"table={table}")
    assert min(labels_of(folder).values()) > 0.95
    with (folder / "case_labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [f"case_{i:02d}" for i in range(CASES)]
    assert [row["kind"] for row in rows] == ["plain", "plain", "spot", "spot"] * 3
    assert all(abs(float(row["p(plain)"]) + float(row["p(spot)"]) - 1) < 1e-5 for row in rows)
    before = (folder / "case_labels.csv").read_bytes()
    (folder / "case_labels.csv").unlink()
    (folder / "case_labels/case_03.json").unlink()
    predicted(root, "predictions", f"table={table}")  # which writes what is missing
    assert (folder / "case_labels.csv").read_bytes() == before
    other = root / "other.csv"
    other.write_text(table.read_text(encoding="utf-8-sig").replace("dark", "x").replace("bright", "dark"))
    with pytest.raises(InputError, match="other settings"):
        predicted(root, "predictions", f"table={other}")


def test_other_facts_give_other_labels(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = (root / "raw/cases.csv").read_text(encoding="utf-8-sig").replace("bright", "?").replace("dark", "bright")
    (root / "turned.csv").write_text(lines.replace("?", "dark"))
    assert max(labels_of(predicted(root, "turned", f"table={root}/turned.csv")).values()) < 0.05
    (root / "unknown.csv").write_text(lines)
    caplog.clear()
    unknown = predicted(root, "unknown", f"table={root}/unknown.csv")
    assert "half has 1 value(s) that no training case has (?): they count as missing" in caplog.text
    missing = predicted(root, "missing", "table=none")
    cells = [formats.open(folder / "case_00.tif").read() for folder in (unknown, missing)]
    assert cells[0].shape == cells[1].shape


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ([], r"its network takes facts of each case; give table=FILE\.csv with the columns case,age,half \(cells"),
        (["table={root}/none.csv"], r"table=.*none\.csv: no such file"),
        (["table={root}/few.csv"], r"11 case\(s\) without a row in table=.*few\.csv: case_01, case_02"),
        (["table={root}/narrow.csv"], r"table=.*narrow\.csv: .* has no column half"),
        (["table={root}/words.csv"], r"column age has 1 value\(s\) that are no number \(case_00: 'old'\)"),
    ],
)
def test_tables_of_a_prediction_that_are_refused(root: Path, own: list[str], message: str) -> None:
    (root / "few.csv").write_text("case,age,half\ncase_00,3,dark\n")
    (root / "narrow.csv").write_text("case,age\ncase_00,3\n")
    (root / "words.csv").write_text("case,age,half\n" + "".join(f"case_{i:02d},,\n" for i in range(1, CASES)))
    with (root / "words.csv").open("a") as file:
        file.write("case_00,old,dark\n")
    with pytest.raises(InputError, match=message):
        predicted(root, "refused", *[word.format(root=root) for word in own])
    assert not (root / "refused").exists()


def test_arrays_are_predicted_with_facts_by_name(root: Path) -> None:
    predictor = restore.predictor(root / "film/checkpoints/best.ckpt")
    source = formats.open(root / "raw/images/case_00.tif")
    image = source.read()
    bright, dark = (predictor(image, source.grid, facts={"half": half}) for half in ("bright", "dark"))
    assert (bright != dark).mean() > 0.9
    assert predictor(image, source.grid, facts={}).shape == SHAPE
    with pytest.raises(InputError, match=r"takes facts of each case, age, half, and got none; give facts=\{\}"):
        predictor(image, source.grid)
    with pytest.raises(InputError, match="facts: got sex, the network takes age, half"):
        predictor(image, source.grid, facts={"sex": "F"})
    target = predictor.file(root / "raw/images/case_00.tif", root / "one/case_00.tif", facts={"half": "dark"})
    np.testing.assert_array_equal(formats.open(target).read()[0], dark)
    assert json.loads((root / "one/case_labels/case_00.json").read_text())["kind"]["plain"] > 0.5


def test_two_networks_encode_the_facts_each_by_its_own_training(root: Path) -> None:
    path = root / "film/checkpoints/best.ckpt"
    other = root / "scaled.ckpt"
    held = checkpoint.load(path)
    spec = held["medseg"]["spec"]
    spec["facts"][0] |= {"mean": 1e3, "std": 1.0}
    checkpoint.save(held, other)
    source = formats.open(root / "raw/images/case_00.tif")
    image, facts = source.read(), {"age": 30, "half": "dark"}
    both = restore.predictor([path, other])
    ages = [next(fact.mean for fact in member.spec.facts) for member in both.arrays.members]
    assert ages[0] != ages[1]
    assert both(image, source.grid, facts=facts).shape == SHAPE
    held["medseg"]["spec"]["case_label"]["values"] = ["spot", "plain"]
    checkpoint.save(held, root / "exchanged.ckpt")
    with pytest.raises(InputError, match="classes of cases"):
        restore.predictor([path, root / "exchanged.ckpt"])


def test_a_training_that_resumes_equals_one_without_a_break(root: Path) -> None:
    short = ("trainer.steps_per_epoch=2", "test=false", "model.facts=film", "scheduler=constant", MONITOR)
    train(compose("train", words(root, "whole", *short, "trainer.max_steps=4")))
    train(compose("train", words(root, "parts", *short, "trainer.max_steps=2")))
    train(compose("train", words(root, "parts", *short, "trainer.max_steps=4", "ckpt_path=last")))
    states = [checkpoint.read(root / f"{run}/checkpoints/last.ckpt").network_state for run in ("whole", "parts")]
    assert any(name.startswith("case_path.head") for name in states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_score_of_the_classes_of_cases_chooses_the_checkpoint(root: Path) -> None:
    """That of the two above: the first of the largest."""
    with (root / "whole/metrics.csv").open() as file:
        scores = {int(row["step"]): row["val/case_auc"] for row in csv.DictReader(file) if row.get("val/case_auc")}
    best = max(scores, key=lambda step: float(scores[step]))
    assert checkpoint.read(root / "whole/checkpoints/best.ckpt").step == best + 1
    assert len(scores) == 2


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (["loss=dice_ce", "loss/term=[dice,cross_entropy]"], r"data\.case_label: no term of the loss reads the class"),
        (["data.case_label=null"], "needs the output 'case_logits' of the network, which gives"),
        (["model=smp_unet"], r"data\.case_label: .* does not classify cases; take model=unet"),
        (["by=[site]"], r"by: .*cases\.csv has no column site; the nearest are"),
        (["by={half: [1]}"], r"by\.half: case case_08 has 'bright', expected a number"),
        (["data.facts=[]", "model.facts=film"], r"model\.facts=film: the cases have no facts"),
    ],
)
def test_trainings_that_are_refused(root: Path, own: list[str], message: str) -> None:
    given = [word for word in words(root, "refused_training") if "model=smp_unet" not in own or "model" not in word]
    with pytest.raises(InputError, match=message):
        train(compose("train", [*given, *own]))


def module_of(folder: Path) -> Any:
    """The runner of an exported folder."""
    spec: Any = importlib.util.spec_from_file_location("exported_runner", folder / "runner.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def exported(root: Path) -> Path:
    pytest.importorskip("onnxruntime")
    return export(compose("export", [f"checkpoint={root}/film/checkpoints/best.ckpt", f"output={root}/exported"]))


def facts_of(root: Path) -> dict[str, dict[str, Any]]:
    with (root / "raw/cases.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    return {row["case"]: {"age": int(row["age"]), "half": row["half"]} for row in rows}


def class_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "case_labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_an_export_takes_facts_and_writes_classes_as_the_package_does(root: Path, exported: Path) -> None:
    parity = json.loads((exported / "parity.json").read_text())
    assert max(one["largest_difference"] for one in parity["cases"]) < 1e-4
    (root / "facts.json").write_text(json.dumps(facts_of(root)))
    given = [str(root / "raw/images"), str(root / "by_runner"), "--facts", str(root / "facts.json")]
    assert module_of(exported).run(given) == 0
    assert min(labels_of(root / "by_runner").values()) > 0.95
    ours = class_rows(predicted(root, "by_package", f"table={root}/raw/cases.csv"))
    for own, other in zip(ours, class_rows(root / "by_runner"), strict=True):
        assert own.keys() == other.keys()
        assert (own["case"], own["kind"]) == (other["case"], other["kind"])
        assert float(own["p(spot)"]) == pytest.approx(float(other["p(spot)"]), abs=1e-4)
    assert module_of(exported).run([str(root / "raw/images"), str(root / "without"), "--facts", "none"]) == 0
    found = formats.open(root / "without/case_00.tif").read()
    expected = formats.open(predicted(root, "none", "table=none") / "case_00.tif").read()
    assert (found == expected).mean() > 0.999


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"aeg": 30}, "facts: got aeg, the network takes age, half"),
        ({"age": "old"}, "facts: age is 'old', expected a number, or null where it is missing"),
        (None, "the network takes facts of each case, age, half; give --facts"),
    ],
)
def test_facts_that_the_runner_refuses(root: Path, exported: Path, facts: Any, message: str) -> None:
    module = module_of(exported)
    with pytest.raises(module.Refusal, match=message):
        module.Predictor(exported).file([root / "raw/images/case_00.tif"], root / "refused.tif", facts=facts)
    (root / "few.json").write_text('{"case_00": {}}')
    with pytest.raises(module.Refusal, match=r'has no facts of case_01; expected \{"case_01": \{"age": 54\}\}'):
        module.run([str(root / "raw/images"), str(root / "few"), "--facts", str(root / "few.json")])


def test_a_monai_bundle_is_refused_in_one_line(root: Path) -> None:
    given = [f"checkpoint={root}/film/checkpoints/best.ckpt", f"output={root}/bundle", "format=monai"]
    with pytest.raises(InputError, match="format=monai: its networks take images alone"):
        export(compose("export", given))
