"""Streams of a configuration: their cases, batches and keys, and what is refused before cases are read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg.errors import InputError
from medseg.factory.run import Run, assemble
from medseg.factory.split import leakage
from medseg.hydra_app.compose import compose
from medseg.labels import IGNORE
from medseg.runtime.verbosity import quiet_libraries
from medseg.sample import Batch
from tests.tiny import SMALL, write_nnunet

MAE = ["method=mae", "method.mask_patch_size=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets of one layout, of which the second has other cells."""
    root = tmp_path_factory.mktemp("streams")
    write_nnunet(root / "data", n_cases=6)
    write_nnunet(root / "other", n_cases=3)
    write_nnunet(root / "two", n_cases=2, channels=("T1", "T2"))
    shutil.copytree(root / "other", root / "classes")
    declared = json.loads((root / "classes/dataset.json").read_text())
    (root / "bare/imagesTr").mkdir(parents=True)
    (root / "bare/labelsTr").mkdir()
    (root / "bare/dataset.json").write_text(json.dumps(declared))
    declared["labels"] = {"background": 0, "liver": 1, "spleen": 2}
    (root / "classes/dataset.json").write_text(json.dumps(declared))
    return root


def run_of(folder: Path, *more: str) -> Run:
    places = [f"data.root={folder}/data", f"cache_dir={folder}/cache", f"run_dir={folder}/run", "split.n_folds=3"]
    return assemble(compose("train", [*SMALL, *places, *more]), folder / "run")


def first(run: Run) -> Any:
    """The first batch of a training, augmented."""
    run.datamodule.prepare_data()
    run.datamodule.setup("fit")
    run.datamodule.trainer = run.trainer
    run.trainer.training = True
    with quiet_libraries():
        return run.datamodule.on_after_batch_transfer(_windows(run), 0)


def _windows(run: Run) -> Any:
    batch = next(iter(run.datamodule.train_dataloader()))
    return batch[0] if isinstance(batch, tuple) else batch


def test_a_training_without_streams_has_one_batch_as_ever(folder: Path) -> None:
    batch = first(run_of(folder))
    assert isinstance(batch, Batch)
    assert (batch.stream, batch.labelled, batch.strong) == ("", True, None)
    assert batch.key.tolist() == [[0, 0, 0], [0, 0, 1]]


def test_each_stream_has_its_cases_rate_and_seed(folder: Path) -> None:
    other = f"+streams.other={{data: {{root: {folder}/other}}, rate: 1.5, transform: {{mirror: null}}}}"
    run = run_of(folder, other, "split.fold=1")
    batch = first(run)
    assert list(batch) == ["main", "other"]
    assert [len(one.image) for one in batch.values()] == [2, 3]
    assert [one.stream for one in batch.values()] == ["main", "other"]
    assert not {*batch["main"].key[:, 0].tolist()} & {*batch["other"].key[:, 0].tolist()}
    assert batch["other"].key[:, 1:].tolist() == [[0, 0], [0, 1], [0, 2]]
    assert (batch["other"].label != IGNORE).any()
    data = run.method.metadata.provenance["data"]
    assert data["streams"] == {"other": ["c0", "c1", "c2"]}
    assert len(data["train"]) == 4
    assert run.datamodule.streams["other"].transform.spatial.mirror.p == 0
    alone = first(run_of(folder, "split.fold=1"))
    assert torch.equal(alone.image, batch["main"].image), "another stream changes nothing about the main one"


def test_the_seed_of_a_stream_does_not_depend_on_others(folder: Path) -> None:
    own, further = f"+streams.b={{data: {{root: {folder}/other}}}}", "+streams.a={rate: 0.5}"
    both, alone = first(run_of(folder, further, own)), first(run_of(folder, own))
    assert torch.equal(both["b"].image, alone["b"].image)
    assert set(both["a"].cases) <= set(run_of(folder).method.metadata.provenance["data"]["train"])


def test_cases_that_a_stream_names_leave_the_main_one(folder: Path) -> None:
    run = run_of(folder, "split.val_cases=[c5]", "+streams.site={cases: ['c[01]']}")
    data = run.method.metadata.provenance["data"]
    assert data["streams"] == {"site": ["c0", "c1"]}
    assert data["train"] == ["c2", "c3", "c4"]


def test_pretraining_takes_all_streams_and_reads_no_label(folder: Path) -> None:
    batch = first(run_of(folder, *MAE, f"+streams.other={{data: {{root: {folder}/other}}}}"))
    assert all((one.label == IGNORE).all() and not one.labelled for one in batch.values())


def test_supervised_training_takes_the_patches_of_all_labelled_streams_together(folder: Path) -> None:
    run = run_of(folder, f"+streams.other={{data: {{root: {folder}/other}}}}")
    method: Any = run.method
    shown: dict[str, Any] = {}
    batch = first(run)
    method.log_losses = lambda losses, n: shown.update(losses, n=n)
    loss = method.training_step(batch, 0)
    logits = method.network(torch.cat([one.image for one in batch.values()]))
    label, valid = (torch.cat([getattr(one, name) for one in batch.values()]) for name in ("label", "valid"))
    expected, _ = method.loss(logits, label, valid)
    assert torch.equal(loss, expected)
    assert shown["n"] == 4


def test_a_second_dataset_may_leave_out_a_fold_of_its_own(folder: Path) -> None:
    own = f"+streams.other={{data: {{root: {folder}/other}}, split: {{val_cases: [c0]}}}}"
    assert run_of(folder, own).method.metadata.provenance["data"]["streams"] == {"other": ["c1", "c2"]}


def test_leaks_are_looked_for_in_all_streams(folder: Path) -> None:
    run = run_of(folder, "split.val_cases=[c1]", f"+streams.other={{data: {{root: {folder}/other}}}}")
    parts, other = run.datamodule.cases, {"other": (run.sources["other"], run.datamodule.streams["other"].cases)}
    assert leakage(parts["train"], parts["val"], run.dataset) == []
    (line,) = leakage(parts["train"], parts["val"], run.dataset, others=other)
    assert line == "validation case c1 has the same image files as training case other/c1"
    within = {"all": (run.dataset, [*parts["train"], *parts["val"]])}
    assert leakage(parts["train"], parts["val"], run.dataset, others=within) == [
        "case c1 is in training and in validation"
    ]


@pytest.mark.parametrize(
    "words, message",
    [
        (["+streams.a=3"], r"^streams\.a=3: expected a mapping"),
        (["+streams.main={}"], r"^streams\.main: expected a name of letters"),
        (["+streams.a={rates: 1}"], r"^streams\.a\.rates is no setting of a stream, which takes rate, labelled, "),
        (["+streams.a={rate: 0}"], r"^streams\.a\.rate=0: expected a number above 0"),
        (["+streams.a={rate: 0.2}"], r"^streams\.a\.rate=0\.2: gives no sample in a batch of 2"),
        (["+streams.a={labelled: 1}"], r"^streams\.a\.labelled=1: expected true or false"),
        (["+streams.a={cases: 3}"], r"^streams\.a\.cases=3: expected unlabelled, a list of names"),
        (["+streams.a={cases: unlabelled}"], r"^streams\.a\.cases=unlabelled: .*; set streams\.a\.labelled=false$"),
        (["+streams.a={cases: [x*]}"], r"^streams\.a\.cases: no case is named 'x\*'"),
        (["+streams.a={cases: ['*']}"], r"^streams name every training case "),
        (["+streams.a={transform: light}"], r"'\+transform@streams\.a\.transform=OPTION'$"),
        (["+streams.a={transform: {mirror: {p: 7}}}"], r"^streams\.a\.transform\.mirror: got p=7"),
        (["+streams.a={strong: {noise: {p: 7}}}"], r"^streams\.a\.strong\.noise: got p=7"),
        (["+streams.a={sampling: {foreground_fraction: 7}}"], r"^streams\.a\.sampling: got foreground_fraction 7"),
        (["+streams.a={data: {root: ROOT/nowhere}}"], r"nowhere"),
        (
            ["+streams.a={data: {root: ROOT/two}}"],
            r"^streams\.a\.data: got the channels .*T1.*T2.*, expected .*MR.*; .* name them alike, or",
        ),
        (
            ["+data@streams.a.data=phantom_scenes"],
            r"^streams\.a\.data: got the axes 2, expected those of the main dataset, 3; .* choose another dataset$",
        ),
        (
            ["method=mean_teacher", "streams.unlabelled.cases=null", "+streams.unlabelled.data={root: ROOT/bare}"],
            r"bare/labelsTr: no label file among its 0 entries, expected files .*; add some, or name another folder$",
        ),
        (["method=mean_teacher"], r"^streams\.unlabelled has no case; .* set split\.n_labelled=N"),
        (["method=mean_teacher", "~streams.unlabelled"], r"^method=mean_teacher needs a stream without labels; add "),
        (["data.annotated={*: [anterior]}"], "none of the 4 training cases annotates posterior, expected one at"),
        (["+streams.a={data: {root: ROOT/classes}}"], r"^streams\.a\.data: got the classes .*liver.*, expected those"),
        (
            ["+streams.a={labelled: false}"],
            r"^method=supervised does not use the unlabelled stream a; leave it out \('~streams\.a'\), or choose a",
        ),
        (
            [*MAE, "+streams.a={labelled: false, cases: unlabelled}"],
            r"^streams\.a has no case; every training case has",
        ),
    ],
)
def test_what_no_stream_can_be_is_one_line(folder: Path, words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        run_of(folder, *[word.replace("ROOT", str(folder)) for word in words])
    assert "\n" not in str(raised.value)
    assert not (folder / "run").exists()


def test_scenes_of_other_cells_are_refused(tmp_path: Path) -> None:
    from tests.tiny import write_planar

    own = ["data=rasters", "data.channels=[B4,B8]", "data.labels={background: 0, burned: 1}", "logger=csv"]
    own += ["plan.patch=[16,16]", "plan.batch_size=2", "model=unet_tiny", "transform=light", "trainer.accelerator=cpu"]
    places = [f"data.root={tmp_path}/ten", f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run", "split.n_folds=3"]
    for name, cell in (("ten", 10.0), ("thirty", 30.0)):
        with pytest.MonkeyPatch.context() as patch:
            from tests import tiny

            patch.setattr(tiny, "utm_grid", lambda shape, cell=cell, grid=tiny.utm_grid: grid(shape, cell=cell))
            write_planar(tmp_path / name, compose("train", [*own, f"data.root={tmp_path}/{name}"]))
    stream = f"+streams.far={{data: {{root: {tmp_path}/thirty}}}}"
    with pytest.raises(
        InputError, match=r"^streams\.far: case case_0 has cells of \(30\.0, 30\.0\), those of the main"
    ):
        assemble(compose("train", [*own, *places, stream]), tmp_path / "run")
    stream = f"+streams.far={{data: {{root: {tmp_path}/ten}}}}"
    assert list(assemble(compose("train", [*own, *places, stream]), tmp_path / "run").sources) == ["far"]
