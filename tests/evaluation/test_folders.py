import csv
import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from medseg.errors import InputError
from medseg.evaluation.folders import evaluate_folders
from medseg.evaluation.options import EvaluationOptions
from medseg.labels import LabelTable
from tests.engine.reversed import Reversed

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
TABLE = LabelTable.declare({"background": 0, "organ": 1, "lesion": 2})


def save(path, array, affine=AFFINE):
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def cube(start=2, value=1):
    array = np.zeros((10, 8, 8), dtype=np.uint8)
    array[start : start + 4, 2:6, 2:6] = value
    return array


@pytest.fixture
def folders(tmp_path):
    """Two cases: one perfect, one whose cube is moved by one voxel (1 mm) of four: Dice 3/4."""
    for case, start in (("p1", 2), ("p2", 3)):
        save(tmp_path / "labels" / f"{case}.nii.gz", cube())
        save(tmp_path / "predictions" / f"{case}.nii.gz", cube(start))
    return tmp_path


def evaluate(folders, table=None, figures=0, settings=None, **options):
    where = (folders / "predictions", folders / "labels", folders / "out")
    settings = {"resamples": 50} | (settings or {})
    return evaluate_folders(*where, table, EvaluationOptions(figures=figures, settings=settings, **options))


def test_two_cases_worked_by_hand(folders, capsys):
    result = evaluate(folders, figures=1)
    assert result["summary"]["dice"]["mean"] == pytest.approx((1 + 3 / 4) / 2)
    assert result["classes"]["class_1"]["iou"]["mean"] == pytest.approx((1 + 3 / 5) / 2)
    assert result["classes"]["class_1"]["hd95_mm"]["mean"] == pytest.approx(0.5)
    assert [row["case"] for row in result["cases"]] == ["p1", "p2"]
    assert sorted(p.name for p in (folders / "out").iterdir()) == ["cases.csv", "metrics.json", "report.html"]
    assert json.loads((folders / "out" / "metrics.json").read_text(encoding="utf-8")) == result
    with (folders / "out" / "cases.csv").open(newline="") as file:
        assert [float(row["dice"]) for row in csv.DictReader(file)] == pytest.approx([1, 3 / 4])
    assert (folders / "out" / "report.html").read_text(encoding="utf-8").count("<img") == 1
    printed = capsys.readouterr().out
    assert "0.875" in printed
    assert "class_1" in printed


def test_table_and_ignored_value(folders):
    label = cube()
    label[6:] = 9
    save(folders / "labels" / "p2.nii.gz", label)
    result = evaluate(folders, TABLE, ignore=9)
    assert list(result["classes"]) == ["organ", "lesion"]
    # The layer that the moved cube has too much is ignored: 3 of 4 layers, nothing false.
    assert result["cases"][2]["precision"] == 1.0
    assert result["cases"][2]["dice"] == pytest.approx(6 / 7)
    assert result["classes"]["lesion"]["dice"] == {"mean": None, "ci95": None, "cases": 0}
    found = evaluate(folders, ignore=9)
    assert found["cases"][1]["dice"] == result["cases"][2]["dice"]


def test_saved_values_of_predictions(folders):
    background, organ, lesion = TABLE.classes
    table = replace(TABLE, classes=(background, replace(organ, saved=5), lesion))
    for case in ("p1", "p2"):
        save(folders / "predictions" / f"{case}.nii.gz", cube(value=5))
    assert evaluate(folders, table)["summary"]["dice"]["mean"] == 1.0


def test_images_and_other_files(folders):
    save(folders / "images" / "p1_0000.nii.gz", np.random.default_rng(0).random((10, 8, 8)).astype(np.float32))
    save(folders / "images" / "p2.nii.gz", np.zeros((10, 8, 8), dtype=np.float32))
    (folders / "predictions" / "dataset.json").write_text("{}")
    (folders / "predictions" / ".hidden.nii.gz").write_text("")
    assert evaluate(folders, images=folders / "images", figures=2)["summary"]["dice"]["cases"] == 2
    (folders / "images" / "p2.nii.gz").unlink()
    with pytest.raises(InputError, match="no image of case p2"):
        evaluate(folders, images=folders / "images", figures=1)


def test_orphans(folders):
    (folders / "predictions" / "p2.nii.gz").unlink()
    save(folders / "predictions" / "p3.nii.gz", cube())
    with pytest.raises(InputError, match=r"1 labels without prediction: p2; 1 predictions without label: p3"):
        evaluate(folders)
    assert not (folders / "out").exists()
    assert evaluate(folders, missing="skip")["summary"]["dice"]["cases"] == 1
    assert "p3" in (folders / "out" / "report.html").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="missing=maybe"):
        evaluate(folders, missing="maybe")


@pytest.mark.parametrize("shift,passes", [(0.008, True), (0.06, False)])
def test_shifted_grid(folders, shift, passes):
    moved = AFFINE.copy()
    moved[1, 3] = 2 * shift  # voxels of 2 mm
    save(folders / "predictions" / "p2.nii.gz", cube(), moved)
    if passes:
        assert evaluate(folders)["summary"]["dice"]["mean"] == 1.0
    else:
        with pytest.raises(InputError, match=r"p2.nii.gz: its grid is 0.06 voxels off \(tolerance 0.01 voxels\)"):
            evaluate(folders)
        stored = json.loads((folders / "out/metrics.json").read_text(encoding="utf-8"))
        assert list(stored["failed"]) == ["p2"]
        assert {row["case"] for row in stored["cases"]} == {"p1"}


@pytest.mark.parametrize("table", [None, TABLE])
def test_cases_that_fail_do_not_stop_the_others(folders, table, capsys):
    save(folders / "predictions" / "p2.nii.gz", cube()[:9])
    path = folders / "predictions" / "p3.nii.gz"
    path.write_bytes((folders / "predictions" / "p1.nii.gz").read_bytes()[:60])
    save(folders / "labels" / "p3.nii.gz", cube())
    message = r"2 of 3 cases could not be scored and are listed above; the other 1 of 3 cases are in .*metrics\.json"
    with pytest.raises(InputError, match=message):
        evaluate(folders, table)
    lines = sorted(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "p2.nii.gz: its grid has shape (9, 8, 8), the label (10, 8, 8)" in lines[0]
    assert "p3.nii.gz" in lines[1]
    stored = json.loads((folders / "out/metrics.json").read_text(encoding="utf-8"))
    assert sorted(stored["failed"]) == ["p2", "p3"]
    assert {row["case"] for row in stored["cases"]} == {"p1"}
    assert "(9, 8, 8)" in (folders / "out/report.html").read_text(encoding="utf-8")
    (folders / "predictions" / "p1.nii.gz").write_bytes(b"")
    (folders / "out/metrics.json").unlink()
    with pytest.raises(InputError, match="3 of 3 cases could not be scored"):
        evaluate(folders, table)
    assert not (folders / "out/metrics.json").exists(), "nothing is written where nothing was scored"


def test_workers_score_what_this_process_scores(folders):
    for number in range(3, 8):
        save(folders / "labels" / f"p{number}.nii.gz", cube())
        save(folders / "predictions" / f"p{number}.nii.gz", cube(number - 2))
    here = evaluate(folders, TABLE)
    options = EvaluationOptions(figures=0, settings={"resamples": 50})
    where = (folders / "predictions", folders / "labels", folders / "there")
    assert evaluate_folders(*where, TABLE, options, Reversed()) == here
    names = ("cases.csv", "metrics.json")
    assert [(folders / "out" / n).read_bytes() for n in names] == [(folders / "there" / n).read_bytes() for n in names]


def test_other_shape(folders):
    save(folders / "predictions" / "p2.nii.gz", cube()[:9])
    with pytest.raises(InputError, match=r"has shape \(9, 8, 8\), the label \(10, 8, 8\)"):
        evaluate(folders)


def test_wrong_values(folders):
    save(folders / "predictions" / "p2.nii.gz", cube(value=7))
    with pytest.raises(InputError, match=r"predictions.p2.nii.gz: label values \{7: 64\}"):
        evaluate(folders, TABLE)
    save(folders / "predictions" / "p2.nii.gz", cube() * np.float32(0.5))
    with pytest.raises(InputError, match=r"values from 0.0 to 0.5, label values expected"):
        evaluate(folders)


def test_wrong_files(folders):
    save(folders / "labels" / "p1.nii", cube())
    with pytest.raises(InputError, match=r"p1.nii and p1.nii.gz are the same case"):
        evaluate(folders)
    (folders / "labels" / "p1.nii").unlink()
    save(folders / "labels" / "p1.nii.gz", np.zeros((10, 8, 8, 2), dtype=np.uint8))
    with pytest.raises(InputError, match="holds 2 channels"):
        evaluate(folders)
    with pytest.raises(InputError, match="no such folder"):
        evaluate_folders(folders / "nowhere", folders / "labels", folders / "out")
    (folders / "empty").mkdir()
    with pytest.raises(InputError, match="no case stands in both"):
        evaluate_folders(
            folders / "empty", folders / "labels", folders / "out", options=EvaluationOptions(missing="skip")
        )


def reordered(path):
    """The same file as many programs write it: from right to left, from front to back."""
    image = nibabel.load(path)
    nibabel.save(image.as_reoriented([[1, 1], [0, -1], [2, -1]]), path)


def test_files_in_another_axis_order_are_the_same_cells(folders, capsys):
    for case in ("p1", "p2"):
        save(folders / "labels" / f"{case}.nii.gz", cube(3 if case == "p2" else 2))
        save(folders / "valid" / f"{case}.nii.gz", np.ones((10, 8, 8), np.uint8))
        save(folders / "images" / f"{case}.nii.gz", cube().astype(np.float32))
        for folder in ("predictions", "valid", "images"):
            reordered(folders / folder / f"{case}.nii.gz")
    result = evaluate(folders, figures=2, valid=folders / "valid", images=folders / "images")
    assert result["summary"]["dice"]["mean"] == 1.0
    printed = capsys.readouterr().err
    assert printed.count("note: ") == 1
    assert "note: 4 file(s) have their axes in another order than the label of the case" in printed


def test_a_mirrored_prediction_is_not_taken_for_the_right_one(folders):
    save(folders / "predictions" / "p2.nii.gz", cube(3)[::-1], AFFINE @ np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(
        InputError, match=r"voxels off .*copy the geometry of the label if only its header is wrong"
    ) as error:
        evaluate(folders, grid_tolerance=1.0)
    assert "grid_tolerance=" not in str(error.value)


@pytest.mark.parametrize("tolerance", [61, 1.5, -1])
def test_tolerances_above_a_voxel_are_refused(folders, tolerance):
    with pytest.raises(InputError, match=f"grid_tolerance={tolerance}: expected a displacement of 0 to 1 voxels"):
        evaluate(folders, grid_tolerance=tolerance)


def test_a_tolerance_that_was_needed_is_warned_of(folders, capsys):
    moved = AFFINE.copy()
    moved[1, 3] = 2 * 0.3
    save(folders / "predictions" / "p2.nii.gz", cube(), moved)
    evaluate(folders, grid_tolerance=0.5)
    expected = "warning: 1 case(s) have grids more than 0.01 voxels apart, taken as one (grid_tolerance=0.5): p2"
    assert expected in capsys.readouterr().err


def test_command_and_python_have_one_default():
    from medseg.hydra_app.compose import compose

    assert EvaluationOptions().grid_tolerance == 0.01
    asked = ["predictions=a", "labels=b", "output=c"]
    assert compose("evaluate", asked).grid_tolerance == 0.01


def test_classes_that_a_label_does_not_annotate_are_not_scored_for_its_case(folders):
    # p1 annotates organs alone, and the prediction has a lesion where its label has background
    lesion = np.where(np.indices((10, 8, 8))[0] == 8, 2, cube()).astype(np.uint8)
    save(folders / "predictions" / "p1.nii.gz", lesion)
    table = folders / "annotated.csv"
    table.write_text("case,classes\np1,organ\np2,organ;lesion\n")
    result = evaluate(folders, TABLE, annotated=table)
    rows = {(row["case"], row["class"]): row["dice"] for row in result["cases"]}
    assert rows == {("p1", "organ"): 1.0, ("p2", "organ"): pytest.approx(3 / 4), ("p2", "lesion"): None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,classes\np1,organ\n", r"annotated.csv: no row of case p2; add it"),
        ("case,classes\np1,liver\np2,organ\n", "annotated: case p1: annotates liver, expected names among"),
        ("case,classes\np1,lesion\np2,organ\n", r"p1.nii.gz: has 64 cells of organ, .* add the class to annotated, or"),
    ],
)
def test_a_table_of_annotated_classes_that_does_not_fit_is_one_line(folders, text, message):
    (folders / "annotated.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        evaluate(folders, TABLE, annotated=folders / "annotated.csv")
