"""The temperature of a network, by hand, and against networks whose logits are wrong by a known factor."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.geometry.box import Box
from medseg.inference.bands import STEPS, probability_bands, uncertainty_bands
from medseg.inference.calibration import Cells, calibrated, ece, fit_temperature, labelled_cells, nll
from medseg.inference.case_logits import CaseLogits
from medseg.inference.rows import Slab
from medseg.labels import IGNORE, LabelTable

CLASSES = LabelTable.declare({"background": 0, "a": 1, "b": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


def drawn(labels: LabelTable, factor: float, n: int = 4000, seed: int = 0) -> Cells:
    """Cells whose truth is drawn from the probabilities of logits, which are then given too large by a factor."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, labels.n_outputs, generator=generator)
    if labels.regions:
        truth = (torch.rand(logits.shape, generator=generator) < logits.sigmoid()).float()
    else:
        classes = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
        truth = torch.nn.functional.one_hot(classes, labels.n_outputs).float()
    return Cells(factor * logits, truth)


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_factor_of_the_logits_is_found(labels: LabelTable, factor: float) -> None:
    assert fit_temperature(drawn(labels, factor), labels) == pytest.approx(factor, rel=0.08)


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_no_other_temperature_is_better(labels: LabelTable) -> None:
    cells = drawn(labels, 3.0)
    best = fit_temperature(cells, labels)
    losses = [float(nll(cells, t, labels).mean()) for t in np.geomspace(1 / 8, 8, 200)]
    assert float(nll(cells, best, labels).mean()) <= min(losses) + 1e-6


def test_likelihoods_by_hand() -> None:
    cells = Cells(torch.tensor([[np.log(8.0), 0.0, 0.0]]).float(), torch.tensor([[0.0, 1.0, 0.0]]))
    assert float(nll(cells, 1.0, CLASSES)) == pytest.approx(np.log(10))
    assert float(nll(cells, 3.0, CLASSES)) == pytest.approx(np.log(4)), "8 to the power of 1/3 is 2"
    cells = Cells(torch.tensor([[np.log(3.0), -np.log(3.0)]]).float(), torch.tensor([[1.0, 1.0]]))
    assert float(nll(cells, 1.0, REGIONS)) == pytest.approx(-np.log(0.75) - np.log(0.25))


def test_errors_of_calibration_by_hand() -> None:
    prob, right = torch.tensor([0.95, 0.95, 0.55, 0.55]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert ece(prob, right, bins=10) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)
    assert ece(torch.ones(3), torch.ones(3)) == 0


def test_a_temperature_brings_calibration_on_cases_that_it_was_not_fitted_on() -> None:
    found = calibrated({str(n): drawn(CLASSES, 3.0, 1000, n) for n in range(4)}, CLASSES)
    assert found is not None
    assert found["temperature"] == pytest.approx(3.0, rel=0.1)
    assert (found["cases"], found["cells"]) == (4, 4000)
    assert found["ece"]["after"] < 0.03 < 0.1 < found["ece"]["before"]
    assert found["nll"]["after"] < found["nll"]["before"]


def test_figures_after_are_of_the_temperature_of_other_cases() -> None:
    """Two cases that ask for opposite temperatures: of its own, each would gain; of the other's, none does."""
    cases = {"a": drawn(CLASSES, 4.0, seed=1), "b": drawn(CLASSES, 0.25, seed=2)}
    found = calibrated(cases, CLASSES)
    assert found is not None
    assert found["nll"]["after"] > found["nll"]["before"]
    assert found["temperature"] == 1.0, "it would not help new cases"


def test_one_case_is_too_few() -> None:
    empty = Cells(torch.zeros(0, 3), torch.zeros(0, 3))
    assert calibrated({"a": drawn(CLASSES, 3.0), "b": empty}, CLASSES) is None
    assert calibrated({}, CLASSES) is None


def test_cells_that_are_always_right_give_no_temperature_beyond_the_range() -> None:
    cells = Cells(torch.eye(3).repeat(5, 1), torch.eye(3).repeat(5, 1))
    assert fit_temperature(cells, CLASSES) == pytest.approx(1 / 8, rel=1e-3)


# Drawing of cells


SHAPE = (6, 5, 4)
TRUTH = np.random.default_rng(0).integers(-1, 3, SHAPE)
TRUTH[TRUTH < 0] = IGNORE


def case(axis: int, axes: tuple[int, ...], flips: tuple[bool, ...]) -> CaseLogits:
    """Logits that say 10 for the true class of each cell of a box, in slabs of unequal height."""
    turned = np.transpose(TRUTH, axes)
    turned = np.flip(turned, tuple(n for n, flip in enumerate(flips) if flip))
    box = Box((1, 0, 1), tuple(n - m for n, m in zip(turned.shape, (0, 1, 0), strict=True)))
    own = np.moveaxis(turned[box.slices], axis, 0)
    logits = torch.stack([torch.from_numpy(np.where(own == k, 10.0, 0.0)).float() for k in range(3)])
    rows = iter([Slab(0, logits[:, :1]), Slab(1, logits[:, 1:])])
    return CaseLogits(rows, axis, axes, flips, box, turned.shape, CLASSES)


@pytest.mark.parametrize(
    ("axis", "axes", "flips"),
    [(0, (0, 1, 2), (False,) * 3), (2, (0, 1, 2), (False,) * 3), (1, (2, 0, 1), (True, False, True))],
)
@pytest.mark.parametrize("most", [5, 2000])
def test_logits_and_labels_of_drawn_cells_belong_together(
    axis: int, axes: tuple[int, ...], flips: tuple[bool, ...], most: int
) -> None:
    valid = np.random.default_rng(1).random(SHAPE) < 0.7
    cells = labelled_cells(case(axis, axes, flips), TRUTH, valid, most=most, rng=np.random.default_rng(2))
    torch.testing.assert_close(cells.logits, 10 * cells.truth)
    assert 0 < len(cells.truth) <= min(most, int((valid & (TRUTH != IGNORE)).sum()))
    assert (cells.truth.sum(1) == 1).all(), "no ignored cell"


def test_draws_are_repeatable_and_touch_no_global_state() -> None:
    everywhere = np.ones(SHAPE, bool)
    before = torch.random.get_rng_state()
    one, two = (
        labelled_cells(case(0, (0, 1, 2), (False,) * 3), TRUTH, everywhere, most=7, rng=np.random.default_rng(3))
        for _ in range(2)
    )
    torch.testing.assert_close(one.truth, two.truth)
    assert torch.equal(before, torch.random.get_rng_state())


def test_truth_of_regions_is_that_of_their_members() -> None:
    of_classes = case(0, (0, 1, 2), (False,) * 3)
    rows = iter(
        [
            Slab(row, logits[1:] + logits[2] * torch.tensor([1, 0])[:, None, None, None])
            for row, logits, _ in of_classes.rows
        ]
    )
    logits = replace(of_classes, labels=REGIONS, rows=rows)
    cells = labelled_cells(logits, TRUTH, np.ones(SHAPE, bool), most=999, rng=np.random.default_rng(0))
    torch.testing.assert_close(cells.logits, 10 * cells.truth)
    assert {tuple(row) for row in cells.truth.tolist()} == {(0, 0), (1, 0), (1, 1)}


# Files of bands


def test_bands_are_at_the_temperature_and_classes_are_not_changed() -> None:
    slab = Slab(0, torch.tensor([[[np.log(8.0)]], [[0.0]], [[0.0]]]).float())
    assert probability_bands(slab, CLASSES, 3.0).ravel().tolist() == [127, round(STEPS / 4), round(STEPS / 4)]
    assert uncertainty_bands(slab, CLASSES, 3.0) > uncertainty_bands(slab, CLASSES)
