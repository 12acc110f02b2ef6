from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.preprocessing.normalise import Normalisation, normalise
from medseg.data.preprocessing.preprocess import Preprocess, PreprocessTrace
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.inference.case_logits import CaseLogits
from medseg.inference.rows import Slab
from medseg.labels import LabelTable
from medseg.sample import Sample


def make(shape: tuple[int, ...], affine: np.ndarray | None = None, seed: int = 0) -> Sample:
    """A smooth image with a label that follows it, so that interpolation loses little."""
    axes = np.meshgrid(*[np.linspace(-1, 1, s) for s in shape], indexing="ij")
    radius = sum(a**2 for a in axes) + 0.3 * axes[0]
    image = (2 - radius).astype(np.float32)
    grid = Grid(shape, np.diag([*[1.0] * len(shape), 1.0]) if affine is None else affine)
    label = (radius < 0.4).astype(np.int16)
    return Sample(image[None], label, np.ones(shape, bool), grid, "case", "case")


def on_the_grid_of_the_file(label: np.ndarray | None, trace: PreprocessTrace) -> np.ndarray:
    """A prepared label taken for a prediction that is quite sure."""
    assert label is not None
    logits = torch.from_numpy(np.stack([label == 0, label == 1]).astype(np.float32))
    labels = LabelTable.declare({"background": 0, "organ": 1})
    return CaseLogits.resampled(iter([Slab(0, logits)]), 0, trace, labels).index()


@given(st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3))
def test_index_comes_back_on_the_files_own_grid(axes: list[int], flips: list[bool]) -> None:
    base = make((9, 8, 7))
    affine = base.grid.reorient(axes, flips).affine
    turned = make((10, 6, 8), affine)
    prepare = Preprocess(turned.grid.resampled(turned.grid.spacing).spacing, (Normalisation("zscore"),))
    prepared, trace = prepare(turned)
    assert prepared.grid.canonical() == ((0, 1, 2), (False, False, False))
    np.testing.assert_array_equal(on_the_grid_of_the_file(prepared.label, trace), turned.label)


def test_resampled_label_comes_back_nearly() -> None:
    sample = make((30, 28, 26))
    prepare = Preprocess((1.7, 0.8, 1.3), (Normalisation("zscore"),))
    prepared, trace = prepare(sample)
    assert prepared.grid.shape == (18, 35, 20)
    index = on_the_grid_of_the_file(prepared.label, trace)
    overlap = 2 * ((index == 1) & (sample.label == 1)).sum() / ((index == 1).sum() + (sample.label == 1).sum())
    assert overlap > 0.95  # cells of 1.7 on the coarsest axis


def test_crop_to_content_and_paste_back() -> None:
    sample = make((8, 8, 8))
    sample.image[:, :3] = 0
    sample.label[:3] = 0
    prepare = Preprocess((1.0, 1.0, 1.0), (Normalisation("none"),))
    prepared, trace = prepare(sample)
    assert prepared.grid.shape == (5, 8, 8)
    np.testing.assert_array_equal(on_the_grid_of_the_file(prepared.label, trace), sample.label)


def test_trace_survives_json() -> None:
    _, trace = Preprocess((1.0, 1.0, 2.0), (Normalisation("zscore"),))(make((6, 5, 4)))
    assert PreprocessTrace.from_dict(trace.to_dict()).to_dict() == trace.to_dict()


def test_zscore_counts_valid_cells_only() -> None:
    image = np.array([[1.0, 3.0, 1e6]], np.float32)
    normal = normalise(image, np.array([True, True, False]), [Normalisation("zscore")])
    np.testing.assert_allclose(normal, [[-1, 1, 0]])


def test_ct_clips_and_uses_the_datasets_statistics() -> None:
    rule = Normalisation("ct", mean=50, std=10, low=0, high=100)
    normal = normalise(np.array([[-1000.0, 50, 200]], np.float32), np.ones(3, bool), [rule])
    np.testing.assert_allclose(normal, [[-5, 0, 5]])


def test_other_schemes_by_hand() -> None:
    image = np.array([[0.0, 51, 255]], np.float32)
    everywhere = np.ones(3, bool)
    np.testing.assert_allclose(normalise(image, everywhere, [Normalisation("rgb")]), [[0, 0.2, 1]])
    np.testing.assert_allclose(normalise(image + 5, everywhere, [Normalisation("unit_range")]), [[0, 0.2, 1]])
    np.testing.assert_allclose(normalise(image, everywhere, [Normalisation("none")]), image)
    with pytest.raises(InputError, match=r"rgb expects values in 0..255, got 0..256"):
        normalise(image * 256 / 255, everywhere, [Normalisation("rgb")])
    with pytest.raises(InputError, match="normalisation 'zsore' is unknown"):
        Normalisation("zsore")


@pytest.mark.parametrize("scheme", ["standard", "zscore", "percentile", "none"])
@pytest.mark.parametrize("counted", [(True, True, True), (True, False, True), (False, False, False)])
def test_in_place_gives_the_same_bits_as_into_a_new_array(scheme: str, counted: tuple[bool, ...]) -> None:
    cells, valid = np.array([[1.0, 51, 255], [7, 9, 8]], np.float32), np.array(counted)
    rules = [Normalisation(scheme, mean=3, std=7, low=2, high=200)] * 2
    before = cells.copy()
    new = normalise(cells, valid, rules)
    np.testing.assert_array_equal(cells, before)
    assert (new[:, ~valid] == 0).all()
    assert normalise(cells, valid, rules, out=cells) is cells
    np.testing.assert_array_equal(cells, new)


def test_a_window_in_place_is_that_of_a_copy() -> None:
    rules = Preprocess(None, (Normalisation("standard", mean=3, std=7),))
    sample = make((4, 5, 6))
    raw, new = sample.image.copy(), rules.window(sample)
    np.testing.assert_array_equal(sample.image, raw)
    np.testing.assert_array_equal(rules.window(sample, in_place=True).image, new.image)
    np.testing.assert_array_equal(sample.image, new.image)


def test_constant_image_becomes_zero_not_nan() -> None:
    assert (normalise(np.full((1, 4), 7.0, np.float32), np.ones(4, bool), [Normalisation("zscore")]) == 0).all()


def test_masked_normalisation_leaves_surroundings_at_zero() -> None:
    sample = make((8, 8, 8))
    sample.image[0, :, :, 5:] = 0
    sample.image[0, 0, 0, 7] = 5  # keeps the crop whole
    prepared, _ = Preprocess((1.0, 1.0, 1.0), (Normalisation("zscore"),), masked=True)(sample)
    assert prepared.image.shape[1:] == (8, 8, 8)
    assert (prepared.image[0, 4, 4, 5:] == 0).all()
    inside = prepared.image[0, :, :, :5]
    assert abs(float(inside.mean())) < 0.05


def test_invalid_cells_stay_invalid_and_zero() -> None:
    sample = make((9, 9, 9))
    sample.valid[:, :, :3] = False
    prepared, _ = Preprocess((0.5, 0.5, 0.5), (Normalisation("zscore"),))(sample)
    assert (prepared.image[0][~prepared.valid] == 0).all()
    assert prepared.valid.mean() == pytest.approx(2 / 3, abs=0.03)


def test_other_channels_or_axes_than_planned_are_refused() -> None:
    with pytest.raises(InputError, match="case: got 1 channels, the plan has 2"):
        Preprocess((1.0, 1.0, 1.0), (Normalisation("zscore"),) * 2)(make((4, 4, 4)))
    with pytest.raises(InputError, match="case: got 3 axes, the plan has 2"):
        Preprocess((1.0, 1.0), (Normalisation("zscore"),))(make((4, 4, 4)))


@pytest.mark.parametrize("factor", [1e3, 1e6, 1e100])
def test_a_spacing_that_is_off_by_orders_of_magnitude_is_refused(factor: float) -> None:
    wrong = make((9, 8, 7), np.diag([factor, factor, factor, 1.0]))
    words = r"case: its shape is \(9, 8, 7\) and its spacing \[.*\] mm, .* spacing \[1\.0, 1\.0, 2\.0\]"
    with pytest.raises(InputError, match=words):
        Preprocess((1, 1, 2), (Normalisation("zscore"),))(wrong)


def test_a_case_of_no_cells_is_refused() -> None:
    grid = Grid.regular((0, 4, 4), (1, 1, 1))
    empty = Sample(np.zeros((1, 0, 4, 4), np.float32), None, np.zeros((0, 4, 4), bool), grid, "case", "case")
    for spacing in (None, (1, 1, 1)):
        with pytest.raises(
            InputError, match=r"case: its shape is \(0, 4, 4\), expected at least one cell on each axis"
        ):
            Preprocess(spacing, (Normalisation("zscore"),))(empty)


def test_class_numbers_are_resampled_as_the_label_and_never_between_classes() -> None:
    sample = make((30, 28, 26))
    numbers = np.where(sample.label == 1, 2, 0)
    sample = replace(sample, image=np.stack([sample.image[0], numbers.astype(np.float32)]))
    prepared, _ = Preprocess((1.7, 0.8, 1.3), (Normalisation("zscore"), Normalisation("classes")))(sample)
    assert prepared.label is not None
    np.testing.assert_array_equal(prepared.image[1], 2 * prepared.label)
    alone, _ = Preprocess((1.7, 0.8, 1.3), (Normalisation("zscore"),))(replace(sample, image=sample.image[:1]))
    np.testing.assert_array_equal(prepared.image[0], alone.image[0])
