"""DICOM in, and DICOM segmentations out: the same labels on the same cells as the NIfTI file of the same prediction."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg import checkpoint, formats
from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.hydra_app.ranges import check_ranges
from medseg.prediction.predict import predict
from tests import tiny_checkpoint
from tests.formats.test_dicom import OBLIQUE, place, save_slice
from tests.formats.test_dicom_seg import CELLS, STUDY, masks_of, save_series
from tests.pages import PAGES, commands, overrides_of

CODES = "{liver: {category: [123037004, SCT, Anatomical Structure], type: [10200004, SCT, Liver]}}"


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint.write(tmp_path_factory.mktemp("one") / "best.ckpt", tiny_checkpoint.volume_contents())


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    held = tiny_checkpoint.volume_contents(("T1", "T2"))
    return tiny_checkpoint.write(tmp_path_factory.mktemp("two") / "best.ckpt", held)


def run(best: Path, source: Path, output: Path, *words: str) -> list[str]:
    named = [f"checkpoint={best}", f"input={source}", f"output={output}", "device=cpu"]
    return [path.name for path in predict(compose("predict", [*named, *words]))]


def check_equal(seg: Path, nifti: Path) -> None:
    """A segmentation holds what a label file holds, cell by cell."""
    opened = formats.open(nifti)
    values, masks = opened.read()[0], masks_of(seg, opened.grid)
    assert len(np.unique(values)) > 1
    np.testing.assert_array_equal(masks["liver"], values == 1)
    np.testing.assert_array_equal(masks["left lung"], values == 5)


def test_a_series_becomes_a_segmentation(best: Path, tmp_path: Path) -> None:
    folder = save_series(tmp_path / "scan", turn=OBLIQUE, **STUDY)
    assert run(best, folder, tmp_path / "nifti") == ["scan.nii.gz"]
    more = ["format=dicom_seg", f"codes={CODES}", "probabilities=true"]
    assert run(best, folder, tmp_path / "seg", *more) == ["scan.dcm"]
    check_equal(tmp_path / "seg/scan.dcm", tmp_path / "nifti/scan.nii.gz")
    header = pydicom.dcmread(tmp_path / "seg/scan.dcm")
    liver, lung = header.SegmentSequence
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Liver"
    assert lung.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert liver.SegmentAlgorithmName == f"medseg {checkpoint.read(best).digest[:16]}"
    assert (tmp_path / "seg/probabilities/scan.nii.gz").is_file()


def test_a_segmentation_that_is_there_is_kept(best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_series(tmp_path / "scan", **STUDY)
    target = tmp_path / "out/mine.dcm"
    assert run(best, folder, target, "format=dicom_seg") == ["mine.dcm"]
    first = target.read_bytes()
    run(best, folder, target, "format=dicom_seg")
    assert target.read_bytes() == first
    printed = capsys.readouterr().out
    assert "1 kept" in printed
    assert "medseg-evaluate" not in printed, "it does not read segmentations"
    with pytest.raises(InputError, match="made with other settings"):
        run(best, folder, target, "format=dicom_seg", f"codes={CODES}")


def test_channels_of_a_case_may_be_series_of_a_study(two_channels: Path, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "in").mkdir(exist_ok=True)
        save_series(tmp_path / f"in/a_000{number}", series=f"1.2.{number}", **STUDY)
    assert run(two_channels, tmp_path / "in", tmp_path / "nifti") == ["a.nii.gz"]
    assert run(two_channels, tmp_path / "in", tmp_path / "seg", "format=dicom_seg") == ["a.dcm"]
    check_equal(tmp_path / "seg/a.dcm", tmp_path / "nifti/a.nii.gz")
    header = pydicom.dcmread(tmp_path / "seg/a.dcm")
    assert [one.SeriesInstanceUID for one in header.ReferencedSeriesSequence] == ["1.2.0", "1.2.1"]


def test_images_of_other_formats_have_no_segmentation(best: Path, tmp_path: Path) -> None:
    folder = save_series(tmp_path / "scan", **STUDY)
    source = formats.open(folder)
    (tmp_path / "nifti").mkdir()
    formats.write(tmp_path / "nifti/a.nii.gz", source.read()[0], source.grid)
    with pytest.raises(InputError, match=r"format=dicom_seg writes objects that refer to a DICOM series, .*a\.nii\.gz"):
        run(best, tmp_path / "nifti", tmp_path / "out", "format=dicom_seg")
    assert not (tmp_path / "out").exists()


def test_a_series_to_which_nothing_can_refer_is_refused_before_it_is_predicted(
    best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_series(tmp_path / "scan")
    monkeypatch.setattr("medseg.inference.predictor.Predictor.logits", None)
    with pytest.raises(InputError, match="lacks StudyInstanceUID, FrameOfReferenceUID"):
        run(best, folder, tmp_path / "out", "format=dicom_seg")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["format=dicom_seg", "uncertainty=true"], "uncertainty=true lists cases by label files that medseg reads"),
        ([f"codes={CODES}"], "codes are those of DICOM segmentations; add format=dicom_seg"),
        (["format=dicom_seg", "codes={kidney: {type: [1, SCT, Kidney]}}"], "codes: no class 'kidney'; the nearest are"),
    ],
)
def test_settings_that_do_not_fit(best: Path, tmp_path: Path, words: list[str], expected: str) -> None:
    folder = save_series(tmp_path / "scan", **STUDY)
    with pytest.raises(InputError, match=expected):
        run(best, folder, tmp_path / "out", *words)


NAMED = {"StudyDate": "20200131", "SeriesNumber": 4, "SeriesDescription": "T1"}
NO_IMAGE = dict.fromkeys(("Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two patients: a series with a structure set and a localiser in one folder, and two series of two in another."""
    root = tmp_path / "tree"
    (root / "p1/study").mkdir(parents=True)
    one = save_series(root / "p1/study/a", turn=OBLIQUE, **STUDY | NAMED)
    save_slice(one / "plan", CELLS[:, :, 0], place(0), series="7.1", Modality="RTSTRUCT", **NO_IMAGE)
    scout = NAMED | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesDescription": "scout"}
    save_slice(one / "scout.dcm", CELLS[:, :, 0], place(0), series="7.2", SliceThickness=3, **STUDY | scout)
    (root / "p2").mkdir()
    for number, name in enumerate(("T1", "T2")):
        for k in range(CELLS.shape[2]):
            tags = {**STUDY, **NAMED, "PatientID": "P2", "SeriesDescription": name}
            save_slice(root / f"p2/{10 * k + number}", CELLS[:, :, k], place(k), series=f"1.2.{number}", **tags)
    (root / "DICOMDIR").write_bytes(b"no directory, which is not read")
    return root


def test_each_image_series_of_a_tree_is_a_case(
    best: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = ["P1_20200131_4_T1", "P2_20200131_4_T1", "P2_20200131_4_T2"]
    assert run(best, tree, tmp_path / "nifti") == [f"{case}.nii.gz" for case in cases]
    told = "left out, as they are no images of a volume: 1 RTSTRUCT, 1 series of localisers (data.series=PATTERN takes"
    assert capsys.readouterr().err.count(told) == 1
    assert run(best, tree, tmp_path / "seg", "format=dicom_seg") == [f"{case}.dcm" for case in cases]
    for case in cases:
        check_equal(tmp_path / f"seg/{case}.dcm", tmp_path / f"nifti/{case}.nii.gz")
    run(best, tree, tmp_path / "nifti", "data.series=P2*")
    assert "0 label files written" in capsys.readouterr().out, "what is there is kept, whatever the pattern"


@pytest.mark.parametrize(
    ("pattern", "cases"),
    [
        ("*T1", ["P1_20200131_4_T1", "P2_20200131_4_T1"]),
        ("1.2.1", ["P2_20200131_4_T2"]),
        ("*scout", ["P1_20200131_4_scout"]),
    ],
)
def test_a_pattern_chooses_series(best: Path, tree: Path, tmp_path: Path, pattern: str, cases: list[str]) -> None:
    assert run(best, tree, tmp_path / "out", f"data.series={pattern}") == [f"{case}.nii.gz" for case in cases]


def test_series_that_do_not_fit_are_named(best: Path, two_channels: Path, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(
        InputError, match=r"data\.series=\*T3: matches none of the 4 image series in .*P1_20200131_4_T1, "
    ):
        run(best, tree, out, "data.series=*T3")
    with pytest.raises(InputError, match=r"a\.nii\.gz names a file, and input holds 2 image series of DICOM"):
        run(best, tree / "p2", tmp_path / "a.nii.gz")
    words = r"holds 4 image series of DICOM, the network takes 2 channels a case, .*folders case_0000, case_0001"
    with pytest.raises(InputError, match=words):
        run(two_channels, tree, out)
    assert not out.exists()


def test_one_bad_series_stops_no_other(
    best: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing slice, a second orientation, a file that is damaged: each is said, the others are predicted."""
    (tree / "p2/30").unlink()
    crossing = tree / "p3"
    crossing.mkdir()
    for k in range(2):
        turn = np.eye(3)[:, [0, 1, 2] if k else [1, 2, 0]]
        save_slice(crossing / f"{k}", CELLS[:, :, k], place(k), turn=turn, series="1.3", **STUDY | {"PatientID": "P3"})
    (tree / "p1/study/b").mkdir()
    (tree / "p1/study/b/bad.dcm").write_bytes(b"nothing")
    with pytest.raises(InputError, match="3 of 5 cases could not be predicted and are listed above; the other 2"):
        run(best, tree, tmp_path / "out")
    errors = capsys.readouterr().err
    assert "P2_20200131_4_T1: " in errors
    assert "slices are missing between 20 and 40" in errors
    assert "P3: " in errors
    assert "ImageOrientationPatient is" in errors
    assert "p1_study_b: " in errors
    assert "bad.dcm: cannot be read" in errors
    written = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
    assert written == ["P1_20200131_4_T1.nii.gz", "P2_20200131_4_T2.nii.gz"]


def test_folders_of_series_name_their_cases(best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a folder with other objects alone is no case, and one channel may be numbered."""
    (tmp_path / "in/plans").mkdir(parents=True)
    for number, name in enumerate(("b_0000", "a")):
        save_series(tmp_path / f"in/{name}", series=f"1.2.{number}", **STUDY | NAMED)
    save_slice(tmp_path / "in/plans/1", CELLS[:, :, 0], place(0), series="7.1", Modality="RTSTRUCT", **NO_IMAGE)
    assert run(best, tmp_path / "in", tmp_path / "out") == ["a.nii.gz", "b.nii.gz"]
    assert "1 RTSTRUCT" in capsys.readouterr().err


PAGE = [c.text for c in commands(PAGES["docs/how-to/clinical-and-gis-formats.md"]) if "input=DIR" in c.text]


@pytest.mark.parametrize("text", PAGE)
def test_commands_of_the_page(text: str, best: Path, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "in").mkdir(exist_ok=True)
        save_series(tmp_path / f"in/p{number}", series=f"1.2.{number}", **STUDY)
    kept = [word for word in overrides_of(text) if not word.startswith(("checkpoint=", "input=", "output="))]
    ending = ".dcm" if "format=dicom_seg" in kept else ".nii.gz"
    assert run(best, tmp_path / "in", tmp_path / "out", *kept) == [f"p0{ending}", f"p1{ending}"]


@pytest.mark.parametrize(
    ("command", "word", "words"), [("predict", "onnx", "dicom_seg"), ("export", "dicom_seg", "onnx, ")]
)
def test_words_of_format_are_those_of_the_command(command: str, word: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"format={word}: expected one of {words}"):
        check_ranges(compose(command, ["checkpoint=x", "output=y", f"format={word}"]), command)


@pytest.mark.real
@pytest.mark.parametrize("name", ["PGBM-003_T1post", "HippoCrop_11"])
def test_real_series_become_segmentations(best: Path, real_data: Path, tmp_path: Path, name: str) -> None:
    folder = real_data / "dicom_series" / name
    run(best, folder, tmp_path, "overlap=0")
    run(best, folder, tmp_path, "overlap=0", "format=dicom_seg")
    check_equal(tmp_path / f"{name}.dcm", tmp_path / f"{name}.nii.gz")
