"""What is wrong with a dataset or an input is told in one line, and leaves nothing half-written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

import medseg
from medseg import checkpoint, formats
from medseg.data.store.stored_case import StoredCase
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose
from medseg.prediction.predict import predict
from medseg.prediction.record import RECORD
from medseg.runtime import integrity
from medseg.training.train import train
from tests.formats.test_dicom import save_slice
from tests.tiny import AFFINE, SMALL, draw, save, write_nnunet

VAL, TRAIN = "c0", "c1"  # a case of fold 0, and one that is planned from


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_nnunet(tmp_path / "raw")


def settings(root: Path, *overrides: str) -> Any:
    places = [f"{key}={root.parent}/{name}" for key, name in (("cache_dir", "cache"), ("run_dir", "run"))]
    return compose("train", [*SMALL, f"data.root={root}", *places, *overrides])


def image_of(root: Path, case: str, channel: int = 0) -> Path:
    return root / f"imagesTr/{case}_{channel:04d}.nii.gz"


def label_of(root: Path, case: str) -> Path:
    return root / f"labelsTr/{case}.nii.gz"


def change(path: Path, edit: Callable[[np.ndarray], Any]) -> None:
    volume: Any = nib.load(path)
    array = np.asanyarray(volume.dataobj).copy()
    edit(array)
    save(path, array, volume.affine)


def shift(path: Path, voxels: float) -> None:
    volume: Any = nib.load(path)
    affine = volume.affine.copy()
    affine[2, 3] += voxels
    save(path, np.asanyarray(volume.dataobj), affine)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def prepared(root: Path) -> list[str]:
    """Cases in the store, each read whole; nothing else may lie there."""
    cases = []
    for path in (root.parent / "cache").glob("store/*/*"):
        assert not path.name.startswith("."), f"{path} is half-written"
        if path.is_dir() and path.name != "fingerprints":
            sample = StoredCase(path).read()
            assert sample.image.shape[1:] == sample.label.shape == sample.grid.shape
            cases.append(sample.case)
    return sorted(cases)


def refuse(root: Path, *told: str, overrides: tuple[str, ...] = (), stored: int = 0) -> None:
    """Training is refused in one line that holds all of ``told``; only whole cases are left, ``stored`` of them."""
    with pytest.raises(InputError) as error:
        train(settings(root, *overrides))
    message = str(error.value)
    assert len(message.splitlines()) == 1
    for part in told:
        assert part in message
    assert not (root.parent / "run").exists()
    assert len(prepared(root)) == stored


def test_missing_label(root: Path) -> None:
    label_of(root, "c3").unlink()
    refuse(root, "1 image(s) in", "imagesTr without a label in", "labelsTr: c3;", "add the labels, or move the images")


def test_shifted_label_is_refused_and_accepted_with_a_tolerance(root: Path) -> None:
    shift(label_of(root, TRAIN), 0.5)
    refuse(root, "case c1: ", "labelsTr/c1.nii.gz does not lie on the grid of ", "displaced by up to 0.5 voxels",
           "or set data.grid_tolerance=0.5; if not, resample it")  # fmt: skip
    train(settings(root, "data.grid_tolerance=0.5", "test=false"))
    assert prepared(root) == ["c0", "c1", "c2", "c3", "c4"]


def test_shifted_validation_label_is_refused_before_a_case_is_prepared(root: Path) -> None:
    shift(label_of(root, VAL), 0.5)
    refuse(root, "case c0: ", "displaced by up to 0.5 voxels, allowed are 0.01")


def test_all_headers_that_are_wrong_are_told_at_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of validation cases too, each in a line of its own."""
    for case in (VAL, TRAIN, "c3"):
        shift(label_of(root, case), 0.5)
    refuse(root, "3 of 5 cases cannot be used: c1, c3, c0; fix their files")
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [line[9:17] for line in warnings] == ["case c1:", "case c3:", "case c0:"]
    assert all("displaced by up to 0.5 voxels" in line for line in warnings)


@pytest.mark.parametrize("cases", [(TRAIN, "c3"), (VAL, "c4")])
def test_all_contents_that_are_wrong_are_told_at_once(
    cases: tuple[str, str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the training while it is planned; then those of the validation, while cases are prepared."""

    def stray(label: np.ndarray) -> None:
        label[0, 0, :3] = 7

    for case in cases:
        change(label_of(root, case), stray)
    named = ("split.val_cases=[c0,c4]",)
    first, second = cases
    refuse(root, f"2 of 5 cases cannot be used: {first}, {second};" if VAL in cases else "2 of 3 cases cannot be used",
           overrides=named, stored=3 if VAL in cases else 0)  # fmt: skip
    assert capsys.readouterr().err.count("label values {7: 3}") == 2


def test_label_of_another_shape(root: Path) -> None:
    save(label_of(root, TRAIN), np.ones((20, 20, 19), np.uint8))
    refuse(root, "case c1: ", "shape (20, 20, 19) in ras_mm, expected shape (20, 20, 20)", "resample it onto that grid")


@pytest.mark.parametrize(("case", "stored"), [(TRAIN, 0), (VAL, 4)])
def test_label_value_outside_the_table(case: str, stored: int, root: Path) -> None:
    def stray(label: np.ndarray) -> None:
        label[0, 0, :3] = 7

    change(label_of(root, case), stray)
    refuse(root, f"labelsTr/{case}.nii.gz: label values {{7: 3}} (value: cells) are not in the label table",
           "add them to data.labels", stored=stored)  # fmt: skip


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize(("case", "stored"), [(TRAIN, 0), (VAL, 4)])
def test_nonfinite_voxels(value: float, case: str, stored: int, root: Path) -> None:
    def spoil(image: np.ndarray) -> None:
        image[3, 4, 5:7] = value

    change(image_of(root, case), spoil)
    refuse(root, f"case {case}: 2 NaN or infinite value(s) in", f"{case}_0000.nii.gz, first in channel 0 at (3, 4, 5)",
           "set data.nonfinite=mask", stored=stored)  # fmt: skip


def test_masked_voxels_never_count(tmp_path: Path) -> None:
    """Whatever the label says under NaN voxels, the weights and scores of the training are the same."""
    results = []
    for name, value in (("one", 0), ("two", 2)):
        root = write_nnunet(tmp_path / name / "raw")

        def spoil(image: np.ndarray) -> None:
            image[2:14, 3:12, 2:9] = np.nan
            image[15, 15, 15] = np.inf

        def relabel(label: np.ndarray, value: int = value) -> None:
            label[2:14, 3:12, 2:9] = value

        for case in ("c0", "c1", "c2", "c3", "c4"):
            change(image_of(root, case), spoil)
            change(label_of(root, case), relabel)
        run_dir = train(settings(root, "data.nonfinite=mask", "trainer.max_steps=4"))
        state = dict(checkpoint.read(run_dir / "checkpoints/last.ckpt").network_state)
        assert all(bool(v.isfinite().all()) for v in state.values())
        results.append((state, json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))["cases"]))
        (written,) = predict_into(run_dir, image_of(root, VAL), tmp_path / name / "out")
        pred = formats.open(written).read()[0]
        assert (pred[2:14, 3:12, 2:9] == 0).all()
        assert (pred != 0).any()
    (first, scores), (second, again) = results
    assert scores == again
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("which", [image_of, label_of])
@pytest.mark.parametrize(("case", "stored"), [(TRAIN, 0), (VAL, 4)])
def test_truncated_file(which: Callable[[Path, str], Path], case: str, stored: int, root: Path) -> None:
    path = which(root, case)
    truncate(path)
    header = which is label_of  # so short that what is left does not hold it
    refuse(root, f"{path}: cannot be read", "copy or convert it again", stored=0 if header else stored)


def test_empty_folders(root: Path) -> None:
    for path in (root / "imagesTr").iterdir():
        path.unlink()
    refuse(root, f"{root}/imagesTr: no image among its 0 entries", "expected files ending in .nii.gz")
    (root / "imagesTr").rmdir()
    refuse(root, f"{root}/imagesTr: no such folder", "check data.root")
    (root / "dataset.json").unlink()
    refuse(root, f"{root}/dataset.json: no such file", "set data.root to a folder with a dataset.json")


@pytest.mark.parametrize("key", ["labels", "channel_names", "file_ending"])
def test_dataset_json_without_a_key(key: str, root: Path) -> None:
    path = root / "dataset.json"
    declared = json.loads(path.read_text(encoding="utf-8"))
    del declared[key]
    path.write_text(json.dumps(declared))
    refuse(root, f"{path}: missing keys ['{key}'], found [", "; add them")


def test_missing_channel(tmp_path: Path) -> None:
    root = write_nnunet(tmp_path / "raw", channels=("T1", "T2"))
    image_of(root, "c2", channel=1).unlink()
    refuse(
        root,
        "imagesTr of 2 declared channels: c2 ",
        "<case>_<channel, four digits>, remove the case, or train without some by data.absent=allow",
    )


def test_thin_volumes_are_padded(root: Path) -> None:
    """Two slices are a volume: it is trained and validated on in padded patches, and predicted on its own grid."""
    for seed, case in enumerate((VAL, TRAIN)):
        image, label = draw(seed, (20, 20, 2))
        save(image_of(root, case), image)
        save(label_of(root, case), label)
    run_dir = train(settings(root))
    (written,) = predict_into(run_dir, image_of(root, VAL), root.parent / "out")
    pred: Any = nib.load(written)
    assert pred.shape == (20, 20, 2)
    np.testing.assert_array_equal(pred.affine, AFFINE)
    assert {row["case"] for row in json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))["cases"]} == {VAL}


@pytest.mark.parametrize("how", ["unlabelled", "masked"])
def test_case_without_foreground_is_told_once(how: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if how == "unlabelled":
        save(label_of(root, TRAIN), np.zeros((20, 20, 20), np.uint8))
    else:
        image, label = draw(1)
        save(image_of(root, TRAIN), np.where(label > 0, np.nan, image).astype(np.float32))
    train(settings(root, "data.nonfinite=mask", "test=false"))
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warnings == ["warning: 1 of 4 training cases have no foreground and teach only the background: c1"]


def test_no_foreground_anywhere(root: Path) -> None:
    for path in (root / "labelsTr").iterdir():
        save(path, np.zeros((20, 20, 20), np.uint8))
    refuse(root, "none of the 4 cases has any foreground", "check the label files and data.labels")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_nnunet(tmp_path_factory.mktemp("one") / "raw")
    return train(settings(root, "test=false"))


@pytest.fixture(scope="module")
def two_channel_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_nnunet(tmp_path_factory.mktemp("two") / "raw", channels=("T1", "T2"))
    return train(settings(root, "test=false"))


def predict_into(run_dir: Path, source: Path, target: Path, *overrides: str) -> list[Path]:
    best = run_dir / "checkpoints/best.ckpt"
    named = [f"checkpoint={best}", f"input={source}", f"output={target}", "device=cpu"]
    return predict(compose("predict", [*named, *overrides]))


def refuse_prediction(run_dir: Path, source: Path, target: Path, *told: str) -> None:
    with pytest.raises(InputError) as error:
        predict_into(run_dir, source, target)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    for part in told:
        assert part in message


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Three images of one channel."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        save(folder / f"p{number}_0000.nii.gz", draw(number)[0])
    return folder


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_checkpoint_that_is_none(inputs: Path, tmp_path: Path) -> None:
    refuse_prediction(tmp_path / "none", inputs, tmp_path / "out", "best.ckpt: no such file")
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": {}}, tmp_path / "checkpoints/best.ckpt")
    refuse_prediction(tmp_path, inputs, tmp_path / "out", "not written by medseg", "give a run's best.ckpt")
    assert not (tmp_path / "out").exists()


def test_input_without_images(run_dir: Path, tmp_path: Path) -> None:
    out, empty = tmp_path / "out", tmp_path / "empty"
    refuse_prediction(run_dir, tmp_path / "nowhere", out, f"input={tmp_path}/nowhere: no such file or folder")
    empty.mkdir()
    refuse_prediction(run_dir, empty, out, f"{empty}: no image among its 0 entries", "or a folder a case")
    (empty / "notes.txt").write_text("nothing to see")
    refuse_prediction(run_dir, empty, out, f"{empty}: ", "DICOM")
    refuse_prediction(
        run_dir, empty / "notes.txt", out, "notes.txt: is not an image that this network takes, known are "
    )
    assert not out.exists() or names(out) == []


def test_input_of_other_channels(run_dir: Path, two_channel_run: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refuse_prediction(two_channel_run, inputs, out, "p0", "of 2 declared channels", "<case>_<channel, four digits>")
    both = tmp_path / "both"
    both.mkdir()
    save(both / "p.nii.gz", np.stack([draw(1)[0]] * 2, axis=-1))
    refuse_prediction(run_dir, both, out, "case p: 2 channel(s) in", "p.nii.gz, expected 1 ['MR']")
    assert not out.exists() or names(out) == []


def test_output_that_is_a_file(run_dir: Path, inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    refuse_prediction(run_dir, inputs, tmp_path / "out", f"output={tmp_path}/out is a file; give a folder")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


def test_output_in_the_folder_of_the_images(run_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    before = save(folder / "p.nii.gz", draw(0)[0]).read_bytes()
    refuse_prediction(run_dir, folder, folder, "p.nii.gz would replace the image itself; choose another folder")
    assert (folder / "p.nii.gz").read_bytes() == before


def test_files_of_unknown_origin_are_replaced_only_on_request(run_dir: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "p1.nii.gz").write_text("mine")
    refuse_prediction(run_dir, inputs, out, "1 of 3 label files", "1 not listed in predictions.json", "overwrite=true")
    assert (out / "p1.nii.gz").read_text(encoding="utf-8") == "mine"
    assert names(out) == ["p1.nii.gz"]
    predict_into(run_dir, inputs, out, "overwrite=true")
    assert names(out) == ["p0.nii.gz", "p1.nii.gz", "p2.nii.gz", RECORD]
    assert formats.open(out / "p1.nii.gz").grid.shape == (20, 20, 20)


def test_files_of_an_older_checkpoint_are_not_kept(run_dir: Path, two_channel_run: Path, tmp_path: Path) -> None:
    """Another file of the same weights is the same checkpoint; weights that have learned since are another one."""
    out, newer = tmp_path / "out", tmp_path / "newer/checkpoints/best.ckpt"
    image = save(tmp_path / "a.nii.gz", draw(0)[0])
    (before,) = predict_into(run_dir, image, out)
    content = before.read_bytes()
    newer.parent.mkdir(parents=True)
    loaded = torch.load(run_dir / "checkpoints/best.ckpt", weights_only=True)
    torch.save(loaded, newer)
    predict_into(newer.parents[1], image, out)
    name = next(key for key in loaded["state_dict"] if key.startswith("network.") and key.endswith("weight"))
    loaded["state_dict"][name] += 1
    torch.save(integrity.add(loaded), newer)
    refuse_prediction(newer.parents[1], image, out, "1 of 1 label files", "1 made by another checkpoint")
    assert before.read_bytes() == content
    with pytest.raises(InputError, match="1 made with other settings"):
        predict_into(run_dir, image, out, "overlap=0.25")
    save(image, draw(1)[0])
    refuse_prediction(run_dir, image, out, "1 made from other images")


def test_a_checkpoint_that_is_named_twice_is_refused(run_dir: Path, tmp_path: Path) -> None:
    best = run_dir / "checkpoints/best.ckpt"
    cfg = compose("predict", [f"checkpoint=[{best},{best}]", f"input={tmp_path}", f"output={tmp_path}/out"])
    with pytest.raises(InputError, match=r"checkpoint: .*best.ckpt is named twice; name each member"):
        predict(cfg)
    assert not (tmp_path / "out").exists()


def test_a_single_image_may_be_written_to_a_named_file(run_dir: Path, inputs: Path, tmp_path: Path) -> None:
    target = tmp_path / "out/pred.nii.gz"
    assert predict_into(run_dir, inputs / "p1_0000.nii.gz", target) == [target]
    assert names(tmp_path / "out") == ["pred.nii.gz", RECORD]
    assert formats.open(target).grid.shape == (20, 20, 20)
    refuse_prediction(run_dir, inputs, tmp_path / "other.nii.gz", "other.nii.gz names a file, and input", "is a folder")
    assert not (tmp_path / "other.nii.gz").exists()


def test_series_of_a_dicom_folder(run_dir: Path, tmp_path: Path) -> None:
    """One of two is chosen by its UID; a single slice says where its series is."""
    folder, image = tmp_path / "patient/study/series", draw(2)[0].round().astype(np.int16)
    folder.mkdir(parents=True)
    for series, shift in (("1.2.3", 0), ("9.9", 5)):
        for k in range(image.shape[2]):
            path, place = folder / f"{series}-{k}.dcm", (0, 0, 2.5 * k)
            save_slice(path, image[:, :, k] + shift, place, turn=np.eye(3), InstanceNumber=k, series=series)
    out = tmp_path / "out"
    (path,) = predict_into(run_dir, folder, out, "data.series=1.2.3")
    assert formats.open(path).grid.shape == (20, 20, 20)
    refuse_prediction(
        run_dir, folder / "9.9-0.dcm", out, f"one slice of a DICOM series; give its folder, input={folder}"
    )


def test_failing_case_stops_no_other_and_leaves_no_file(run_dir: Path, inputs: Path, tmp_path: Path) -> None:
    truncate(inputs / "p1_0000.nii.gz")
    refuse_prediction(run_dir, inputs, tmp_path / "out", "p1_0000.nii.gz: cannot be read", "copy or convert it again")
    assert names(tmp_path / "out") == ["p0.nii.gz", "p2.nii.gz", RECORD]
    assert formats.open(tmp_path / "out/p0.nii.gz").read().shape == (1, 20, 20, 20)


def test_channels_of_a_case_become_one_file(two_channel_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    image = draw(3)[0]
    save(folder / "case_0000.nii.gz", image)
    save(folder / "case_0001.nii.gz", -image)
    (from_folder,) = predict_into(two_channel_run, folder, tmp_path / "a")
    (from_file,) = predict_into(two_channel_run, folder / "case_0000.nii.gz", tmp_path / "b")
    assert from_folder.name == from_file.name == "case.nii.gz"
    predictor = medseg.load(two_channel_run / "checkpoints/best.ckpt", device="cpu")
    expected = predictor(np.stack([image, -image]), formats.open(from_file).grid)
    assert len(np.unique(expected)) > 1
    for path in (from_folder, from_file):
        np.testing.assert_array_equal(formats.open(path).read()[0], expected)


def test_dicom_and_nrrd_are_predicted_like_nifti(run_dir: Path, tmp_path: Path) -> None:
    """One volume in three formats: same cells, same world, same labels."""
    image = draw(2)[0].round().astype(np.int16)
    series, others = tmp_path / "scan.1", tmp_path / "others"
    series.mkdir()
    others.mkdir()
    spacing = (0.6, 0.8, 2.5)  # those of save_slice
    for k in range(image.shape[2]):
        save_slice(series / f"{k}.dcm", image[:, :, k], (0, 0, spacing[2] * k), turn=np.eye(3), InstanceNumber=k)
    volume = SimpleITK.GetImageFromArray(image.transpose(2, 1, 0))
    volume.SetSpacing(spacing)
    SimpleITK.WriteImage(volume, str(others / "a.nrrd"))
    save(others / "b.nii.gz", image, np.diag([-0.6, -0.8, 2.5, 1]))
    (from_series,) = predict_into(run_dir, series, tmp_path / "out")
    from_nrrd, from_nifti = predict_into(run_dir, others, tmp_path / "out")
    assert names(tmp_path / "out") == ["a.nrrd", "b.nii.gz", RECORD, "scan.1.nii.gz"]
    expected = formats.open(from_nifti)
    assert len(np.unique(expected.read())) > 1
    for path in (from_series, from_nrrd):
        np.testing.assert_array_equal(formats.open(path).read(), expected.read())
        assert formats.open(path).grid.offset_from(expected.grid) < 1e-5


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "data.labels=liver:1",
            r"data.labels=liver:1: expected class names with their values, in quotes, .*'data.labels=\{",
        ),
        ("data.channels=CT", r"data.channels=CT: expected a list, in quotes, .*'data.channels=\[CT\]'"),
    ],
)
def test_lists_that_the_shell_took_apart_are_told(override: str, told: str, tmp_path: Path) -> None:
    usual = {"data.labels": "{background: 0, liver: 1}", "data.channels": "[CT]"} | dict([override.split("=")])
    cfg = compose("train", ["data=volumes", f"data.root={tmp_path}", *(f"{k}={v}" for k, v in usual.items())])
    with pytest.raises(InputError, match=told):
        build_dataset(cfg)


def test_vectors_that_lie_where_masks_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    given = ["data=rasters", f"data.root={tmp_path}", "data.channels=[B4]", "data.labels={a: 0, b: 1}"]
    with pytest.raises(InputError, match=r"/masks: no such folder or file of masks; name it by data\.masks$"):
        build_dataset(compose("train", given)).cases()
    (tmp_path / "habitats.gpkg").touch()
    with pytest.raises(InputError, match=r"name it by data\.masks, such as data\.masks=habitats\.gpkg$"):
        build_dataset(compose("train", given)).cases()
