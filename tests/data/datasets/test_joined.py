"""Several datasets as one: classes and channels by name, cases that annotate those of their part, conflicts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from medseg.cli.check import check
from medseg.data.datasets.joined import JoinedDataset, merged
from medseg.data.datasets.nnunet import NnunetDataset
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.factory.first_stage import read_first_stage
from medseg.factory.split import halves
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.prediction.predict import predict
from medseg.training.train import train
from tests.parts import joined, write_parts
from tests.tiny import SMALL


def both(root: Path, **settings: Any) -> JoinedDataset:
    parts = {name: NnunetDataset(folder) for name, folder in write_parts(root, **settings).items()}
    return JoinedDataset(parts, reading=ReadOptions())


def test_classes_are_merged_by_name_and_each_case_annotates_those_of_its_part(tmp_path: Path) -> None:
    data = both(tmp_path, n_cases=2)
    assert data.spec.labels.names == ("background", "anterior", "posterior")
    cases = data.cases()
    assert [(case.id, case.part, sorted(case.annotated or ())) for case in cases] == [
        ("back_c0", "back", ["posterior"]), ("back_c1", "back", ["posterior"]),
        ("front_c0", "front", ["anterior"]), ("front_c1", "front", ["anterior"]),
    ]  # fmt: skip
    assert [case.group for case in cases] == [case.id for case in cases]
    values = {case.part: np.unique(data.read(case).label).tolist() for case in cases}
    assert values == {"front": [0, 1], "back": [0, 2]}  # both files have the value 1
    assert data.read(cases[0]).annotated.tolist() == [True, False, True]


def test_names_without_a_clash_stay_as_they_are(tmp_path: Path) -> None:
    roots = write_parts(tmp_path, n_cases=1)
    for folder, old, new in (("imagesTr", "c0_0000", "d0_0000"), ("labelsTr", "c0", "d0")):
        path = roots["back"] / folder / f"{old}.nii.gz"
        path.rename(path.with_name(f"{new}.nii.gz"))
    data = JoinedDataset({name: NnunetDataset(root) for name, root in roots.items()}, reading=ReadOptions())
    assert [(case.id, case.group) for case in data.cases()] == [("c0", "c0"), ("d0", "d0")]


def test_a_part_may_annotate_some_of_its_classes(tmp_path: Path) -> None:
    data = both(tmp_path)
    first, second = data.parts.values()
    three = LabelTable.declare({"background": 0, "anterior": 1, "tail": 2})
    wide = NnunetDataset(first.root, annotated={"c0": ["anterior"]})
    wide._spec = replace(wide.spec, labels=three)
    own = {case.id: case.annotated for case in JoinedDataset({"a": wide, "b": second}, reading=ReadOptions()).cases()}
    assert (own["a_c0"], own["a_c1"]) == ({"anterior"}, {"anterior", "tail"})


def test_channels_are_matched_by_name(tmp_path: Path) -> None:
    data = both(tmp_path, n_cases=1, channels={"front": ["T1", "T2"], "back": ["T2", "T1"]})
    assert [c.name for c in data.spec.channels] == ["T1", "T2"]
    back, front = (data.read(case).image for case in data.cases())
    assert front[0].mean() > 0 > front[1].mean()  # the second file is the negative of the first
    assert back[0].mean() < 0 < back[1].mean()
    (case, _) = data.cases()
    assert [c.name for c in data.open(case).spec.channels] == ["T1", "T2"]


CONTRASTS = {"front": ["T1", "T2"], "back": ["CT", "T1"]}


def test_a_part_lacks_the_channels_that_only_others_have(tmp_path: Path) -> None:
    roots = write_parts(tmp_path, n_cases=1, channels=CONTRASTS)
    parts = {name: NnunetDataset(folder) for name, folder in roots.items()}
    data = JoinedDataset(parts, reading=ReadOptions(absent="allow"))
    assert [c.name for c in data.spec.channels] == ["T1", "T2", "CT"]
    assert data.normalisation == ("zscore", "zscore", "ct")
    back, front = data.cases()
    own = {name: parts[case.part].read(replace(case, id="c0")).image for name, case in (("b", back), ("f", front))}
    for case, there, planes in (
        (back, [True, False, True], [own["b"][1], None, own["b"][0]]),
        (front, [True, True, False], [own["f"][0], own["f"][1], None]),
    ):
        sample = data.read(case)
        assert (data.open(case).present.tolist(), sample.has.tolist()) == (there, there)
        for plane, expected in zip(sample.image, planes, strict=True):
            assert np.array_equal(plane, np.zeros_like(plane) if expected is None else expected)
    assert data.open(back).without(["T2"]).present.tolist() == [True, False, True]
    assert data.open(back).without(["T2", "CT"]).present.tolist() == [True, False, False]
    with pytest.raises(InputError, match="none is left without CT, T1"):
        data.open(back).without(["CT", "T1"])
    with pytest.raises(InputError, match=r"no such channels or image groups"):
        data.open(back).without(["FLAIR"])
    with pytest.raises(InputError, match=r"back has \['CT', 'T1'\].*; data.absent=allow joins parts that lack some"):
        JoinedDataset(parts, reading=ReadOptions())


def test_channels_of_any_two_parts_have_one_unit(tmp_path: Path) -> None:
    names = {"front": ["T1"], "back": ["CT", "T1"]}
    parts = {name: NnunetDataset(folder) for name, folder in write_parts(tmp_path, n_cases=1, channels=names).items()}
    other = NnunetDataset(tmp_path / "back")
    other._spec = replace(other.spec, channels=tuple(replace(c, unit="mm") for c in other.spec.channels[:1]))
    with pytest.raises(InputError, match=r"unit of channel CT is HU in back, mm in third; expected one"):
        JoinedDataset({**parts, "third": other}, reading=ReadOptions(absent="allow"))


def test_parts_with_other_channels_train_and_predict(tmp_path: Path) -> None:
    words = [word for word in SMALL if not word.startswith("data=")]
    where = [f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run", "split.n_folds=2", "data.absent=allow"]
    roots = write_parts(tmp_path / "data", n_cases=2, channels=CONTRASTS)
    entries = ",".join(f"{name}:{{option:nnunet,root:{folder}}}" for name, folder in roots.items())
    train(compose("train", [*words, "data=joined", f"data.parts={{{entries}}}", *where]))
    scores = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    own = {case.partition("_")[0]: part["channels"] for part in scores["availability"] for case in part["cases"]}
    assert own == {"front": ["T1", "T2"], "back": ["T1", "CT"]}
    source = tmp_path / "data/back/imagesTr"
    files = f"{{CT: {source}/c0_0000.nii.gz, T1: {source}/c0_0001.nii.gz}}"
    given = [f"checkpoint={tmp_path}/run/checkpoints/last.ckpt", f"output={tmp_path}/out", "device=cpu"]
    (path,) = predict(compose("predict", [*given, f"input={files}"]))
    assert path.is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"channel_names": {"0": "CT"}},
            r"front has the channels \['MR'\], back has \['CT'\]; expected the same names",
        ),
        ({"channel_names": {"0": "MR", "1": "T2"}}, "expected the same names, in any order"),
        ({"labels": {"nothing": 0, "posterior": 1}}, "the background of front is background, that of back is nothing"),
        (
            {"labels": {"background": 0, "anterior": [1, 2], "core": 2}, "regions_class_order": [1, 2]},
            r"front has regions \[\], back has \['anterior', 'core'\]; expected the same regions",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    roots = write_parts(tmp_path)
    file = roots["back"] / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=message):
        JoinedDataset({name: NnunetDataset(root) for name, root in roots.items()}, reading=ReadOptions())
    with pytest.raises(InputError, match="expected two datasets or more"):
        JoinedDataset({"front": NnunetDataset(roots["front"])}, reading=ReadOptions())


def test_merged_tables_keep_equal_regions_and_find_pairs() -> None:
    nested = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    assert merged({"a": nested, "b": nested}) == nested
    left, right = (LabelTable.declare({"background": 0, f"kidney {side}": 1}) for side in ("left", "right"))
    assert merged({"a": left, "b": right}).paired_names == (("kidney left", "kidney right"),)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{root: x}", r"^data.parts.a: got .*, expected \{option: nnunet, root: DIR\}"),
        ("{option: nnunet}", r"^data.parts.a.root has no value; add it"),
        (
            "{option: nnunet, root: x, table: t.csv}",
            r"^data.parts.a.table=t.csv: facts are those of all parts; give one",
        ),
        ("{option: nnunet, root: x, image: y}", r"^data.parts.a.image: no such key; the nearest are"),
        ("{option: nnunet, root: missing}", r"^missing.dataset.json: no such file"),
    ],
)
def test_a_wrong_part_is_one_line(entry: str, message: str) -> None:
    cfg = compose("train", ["data=joined", f"data.parts={{a: {entry}}}"])
    with pytest.raises(InputError, match=message):
        build_dataset(cfg)


def test_folds_hold_each_part_alike(tmp_path: Path) -> None:
    data = both(tmp_path, n_cases=4)
    settings = OmegaConf.create({"fold": 0, "n_folds": 4, "seed": 1, "file": None})
    for fold in range(4):
        settings.fold = fold
        _, val = halves(settings, data)
        assert sorted(case.part for case in val) == ["back", "front"]


def test_it_trains_and_scores_each_part_for_its_classes(tmp_path: Path) -> None:
    words = [word for word in SMALL if not word.startswith("data=")]
    where = [f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"]
    train(compose("train", [*words, "data=joined", *joined(tmp_path / "data"), *where, "split.n_folds=3"]))
    rows = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))["cases"]
    assert {(row["case"].partition("_")[0], row["class"]) for row in rows} == {
        ("front", "anterior"), ("back", "posterior")
    }  # fmt: skip
    source = tmp_path / "data/back/imagesTr"
    given = [f"checkpoint={tmp_path}/run/checkpoints/last.ckpt", f"input={source}", f"output={tmp_path}/out"]
    paths = predict(compose("predict", [*given, "device=cpu"]))
    assert sorted(path.name for path in paths) == ["c0.nii.gz", "c1.nii.gz", "c2.nii.gz"]


def test_a_check_takes_parts_one_by_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data=joined: check its parts one by one"):
        check(compose("check", ["data=joined", *joined(tmp_path)]))


def test_a_cascade_takes_one_dataset(tmp_path: Path) -> None:
    cfg = compose("train", ["data=joined", *joined(tmp_path), f"first_stage={tmp_path}/low"])
    with pytest.raises(InputError, match=r"got data=joined, expected one dataset; train without a first stage"):
        read_first_stage(cfg, build_dataset(cfg))
