"""Scores of a predictor on labelled files: as if each case were read and predicted whole, with less memory."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from medseg import formats
from medseg.data.case import Case
from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.geometry.grid import PIXEL, Grid
from medseg.inference.ensemble import Ensemble
from medseg.inference.predictor import CasePredictor, Predictor
from medseg.inference.tiling import Tiling
from medseg.labels import IGNORE, LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.prediction.labelled import LabelledPrediction, predict_labelled
from medseg.sample import Channel, DataSpec
from medseg.training import final_scores
from medseg.training.drawings import ReducedImage
from medseg.training.final_scores import evaluate_predictor
from medseg.viz import false_colour
from tests.metric_lists import SCENE_METRICS
from tests.tiny import utm_grid

TABLE = LabelTable.declare({"background": 0, "road": 1, "river": 7, "ignore": 9})
REGIONS = LabelTable.declare({"background": 0, "water": [1, 7], "river": 7, "ignore": 9}, regions_class_order=[1, 7])
BANDS = ("B4", "B8")


def scene(folder: Path, name: str, shape: Sequence[int] = (50, 70), ending: str = ".tif") -> Case:
    """Noise with cells that have no data or no label."""
    rng = np.random.default_rng(len(name))
    image = rng.normal(100, 20, (3 if ending == ".png" else 2, *shape)).clip(1, 255)
    label = np.kron(rng.choice([0, 1, 7, 9], [-(-n // 9) for n in shape]), np.ones((9, 9)))[: shape[0], : shape[1]]
    folder.mkdir(exist_ok=True)
    if ending == ".tif":
        grid, names = utm_grid(shape), BANDS
        image[:, :20, :30] = np.nan
    else:
        grid, names = Grid(tuple(shape), np.eye(3), PIXEL), ()
    cells = image.astype(np.float32 if ending == ".tif" else np.uint8)
    image_file, label_file = folder / f"{name}{ending}", folder / f"{name}_label{ending}"
    formats.write_image(image_file, cells, grid, names=names)
    formats.write(label_file, label.astype(np.uint8), grid)
    return Case(name, (image_file,), label_file, name)


def volume(folder: Path, name: str) -> Case:
    """Noise with a margin that is cropped, turned and resampled by preprocessing."""
    rng = np.random.default_rng(len(name))
    image = np.zeros((18, 20, 12), np.float32)
    image[2:15, 3:19, 1:11] = rng.normal(50, 20, (13, 16, 10))
    affine = np.diag([-1.5, 1, 2, 1])
    paths = folder / f"{name}_0000.nii.gz", folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(image, affine), paths[0])
    nib.save(nib.Nifti1Image(rng.choice([0, 1, 7, 9], image.shape).astype(np.uint8), affine), paths[1])
    return Case(name, paths[:1], paths[1], name)


def predictor(
    channels: int, table: LabelTable = TABLE, *, ndim: int = 2, seed: int = 0, window: int = 16, overlap: float = 0.5
) -> Predictor[Preprocess]:
    torch.manual_seed(seed)
    net = (nn.Conv2d if ndim == 2 else nn.Conv3d)(channels, table.n_outputs, 3, padding=1)
    names = BANDS if channels == 2 else [f"c{i}" for i in range(channels)]
    rules = (Normalisation("standard", 100.0, 20.0),) * channels
    prepare = Preprocess(None if ndim == 2 else (1.3,) * 3, rules)
    spec = DataSpec(tuple(Channel(name) for name in names), table, ndim)
    return Predictor(net, prepare=prepare, tiling=Tiling((window,) * ndim, overlap, batch_size=3), spec=spec)


def opener(spec: DataSpec) -> Any:
    return lambda case: CaseReader(case, spec, ReadOptions(nonfinite="mask"))


def scores_of(predicting: CasePredictor[Preprocess], metrics: Sequence[str]) -> CaseScores:
    return CaseScores(predicting.spec.labels, metrics=metrics, pooled=predicting.spec.ndim == 2, resamples=10)


def whole(predicting: CasePredictor[Preprocess], cases: Sequence[Case], metrics: Sequence[str]) -> CaseScores:
    """Scores of cases that are read and predicted in one piece."""
    scores = scores_of(predicting, metrics)
    for case in cases:
        sample = opener(predicting.spec)(case).read()
        index, prob = predicting.index_and_prob(replace(sample, label=None))
        label: Any = sample.label
        grid = sample.grid
        scores.add(case.id, index, label, sample.valid, spacing=grid.spacing, unit=grid.unit, prob=prob)
    return scores


def check_equal(predicting: CasePredictor[Preprocess], cases: Sequence[Case], metrics: Sequence[str]) -> None:
    scores = scores_of(predicting, metrics)
    drawings = evaluate_predictor(predicting, cases, opener(predicting.spec), scores, shown=1)
    np.testing.assert_equal(scores.stored(), whole(predicting, cases, metrics).stored())
    assert [drawn.case for drawn in drawings] == [cases[0].id]


@pytest.mark.parametrize("table", [TABLE, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("ending,channels", [(".tif", 2), (".png", 3)])
def test_scenes_and_images_score_as_if_read_whole(
    tmp_path: Path, ending: str, channels: int, table: LabelTable
) -> None:
    cases = [scene(tmp_path, name, ending=ending) for name in ("a", "bc")]
    check_equal(predictor(channels, table), cases, [*SCENE_METRICS, "auc"])


def test_several_networks_score_as_if_the_scene_were_read_whole(tmp_path: Path) -> None:
    members = [predictor(2, seed=0), predictor(2, seed=1)]
    check_equal(Ensemble(members), [scene(tmp_path, "a")], [*SCENE_METRICS, "auc"])


def test_volumes_score_as_if_the_image_were_kept(tmp_path: Path) -> None:
    check_equal(predictor(1, ndim=3), [volume(tmp_path, "a"), volume(tmp_path, "bc")], ["dice", "hd95", "auc"])


def test_a_block_of_a_scene_is_scored_alone(tmp_path: Path) -> None:
    from medseg.geometry.box import Box

    case = replace(scene(tmp_path, "a"), box=Box((5, 10), (40, 61)))
    check_equal(predictor(2), [case], SCENE_METRICS)


def test_a_scene_is_never_read_whole_and_each_cell_once(tmp_path: Path) -> None:
    predicting, case = predictor(2), scene(tmp_path, "a", (64, 96))
    seen = np.zeros((64, 96), int)
    largest = []

    def on_window(box: Any, window: Any) -> None:
        seen[box.slices] += 1
        largest.append(window.valid.size)

    found = predict_labelled(predicting, case, opener(predicting.spec), on_window=on_window)
    assert seen.min() == seen.max() == 1
    assert max(largest) <= 96 * 16
    assert (found.index.dtype, found.label.dtype, found.prob) == (np.int8, np.int8, None)


def test_a_scene_is_held_in_a_few_bytes_a_cell(tmp_path: Path) -> None:
    predicting, case = predictor(2, window=128, overlap=0), scene(tmp_path, "a", (2048, 512))
    tracemalloc.start()
    found: LabelledPrediction = predict_labelled(predicting, case, opener(predicting.spec))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.index.size == 2**20
    assert peak < 2 * 4 * found.index.size, "the image alone takes two channels of four bytes"


def test_many_classes_are_indexed_in_two_bytes(tmp_path: Path) -> None:
    table = LabelTable.declare({f"class {k}": k for k in range(200)})
    predicting = predictor(2, table)
    found = predict_labelled(predicting, scene(tmp_path, "a"), opener(predicting.spec))
    assert found.index.dtype == found.label.dtype == np.int16
    assert found.label.min() == 0
    assert IGNORE not in found.index


def test_a_network_that_is_not_finite_is_named_for_scenes_too(tmp_path: Path) -> None:
    predicting = predictor(2)
    with torch.no_grad():
        next(predicting.network.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="case a: the network gives values that are not finite"):
        predict_labelled(predicting, scene(tmp_path, "a"), opener(predicting.spec))


@pytest.mark.parametrize("window", [(16, 16), (7, 70), (50, 9)])
def test_a_picture_is_the_reduced_image_whatever_the_windows(
    tmp_path: Path, window: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.geometry.box import Box

    monkeypatch.setattr(false_colour, "LARGEST", 25)
    opened = opener(predictor(2).spec)(scene(tmp_path, "a"))
    reduced = ReducedImage(opened.shape)
    for top in range(0, 50, window[0]):
        for left in range(0, 70, window[1]):
            box = Box.at((top, left), window).clip(opened.shape)
            reduced.add(box, opened.read(box))
    np.testing.assert_array_equal(reduced.picture, false_colour.reduced(opened.read().picture))
    assert max(reduced.picture.shape[1:]) <= 25


def test_pictures_are_spread_over_the_cases_and_the_watch_sees_all(tmp_path: Path) -> None:
    predicting, cases = predictor(1, ndim=3), [volume(tmp_path, "a" * n) for n in (1, 2, 3)]
    seen: list[Any] = []

    def watch(every: Sequence[Case]) -> Sequence[Case]:
        seen.extend(every)
        return every

    drawings = evaluate_predictor(
        predicting, cases, opener(predicting.spec), scores_of(predicting, ["dice"]), shown=2, watch=watch
    )
    assert [drawn.case for drawn in drawings] == ["a", "aaa"]
    assert seen == cases
    assert all(drawn.png.startswith(b"\x89PNG") and len(drawn.views) == 3 for drawn in drawings)


def test_invalid_cells_of_a_scene_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.array([[0, 1, 1], [0, 1, 1]], np.int8)
    pred = label * np.array([1, 1, 0], np.int8)
    grid = Grid.regular(label.shape, (1, 1), PIXEL)

    def found(predicting: object, case: Case, *_: object, **__: object) -> LabelledPrediction:
        valid = np.ones(label.shape, bool)
        valid[:, -1] = case.id != "b"
        return LabelledPrediction(pred, label, valid, grid)

    monkeypatch.setattr(final_scores, "predict_labelled", found)
    cases = [scene(tmp_path, name) for name in "abc"]
    scores = CaseScores(TABLE, metrics=SCENE_METRICS, pooled=True)
    evaluate_predictor(predictor(2), cases, opener(predictor(2).spec), scores, shown=0)
    result = scores.result()
    assert result["confusion"]["matrix"] == [[6, 0, 0], [4, 6, 0], [0, 0, 0]]
    assert result["classes"]["road"]["iou"]["mean"] == pytest.approx(6 / 10)
    by_case = {row["case"]: row["iou"] for row in result["cases"] if row["class"] == "road"}
    assert by_case == {"a": 0.5, "b": 1.0, "c": 0.5}
