import numpy as np
import pytest
from scipy import ndimage

from medseg.errors import InputError
from medseg.topology import matching
from medseg.topology.betti import betti_numbers
from medseg.topology.matching import match_features

installed = pytest.mark.skipif(matching.find_spec("topolosses") is None, reason="topolosses is not installed")


def drawn(*rows):
    return np.array([[cell == "#" for cell in row] for row in rows]).astype(float)


LEFT = drawn("........", ".##.....", ".##.....", "........")
RIGHT = drawn("........", ".....##.", ".....##.", "........")
RING = drawn("........", ".####...", ".#..#...", ".####...")
NONE = np.zeros((4, 8))


@installed
@pytest.mark.parametrize(
    ("pred", "label", "shared", "false", "missed"),
    [
        (LEFT, LEFT, 1, 0, 0),
        (LEFT, RIGHT, 0, 1, 1),  # a component elsewhere
        (LEFT + RIGHT, LEFT, 1, 1, 0),
        (RIGHT, LEFT + RIGHT, 1, 0, 1),
        (LEFT, NONE, 0, 1, 0),
        (NONE, LEFT, 0, 0, 1),
        (NONE, NONE, 0, 0, 0),
        (RING, RING, 2, 0, 0),  # a component and its hole
        (RING, LEFT, 1, 1, 0),
        (np.roll(RING, 3, axis=1), RING, 1, 1, 1),  # the rings touch, their holes do not
    ],
)
def test_drawn_shapes_are_matched_by_hand(pred, label, shared, false, missed):
    result = match_features(pred, label)
    assert (len(result.shared.birth), len(result.false.birth), len(result.missed.birth)) == (shared, false, missed)
    assert sum(result.unmatched) == false + missed
    swapped = match_features(label, pred)
    assert (len(swapped.false.birth), len(swapped.missed.birth)) == (missed, false)


@installed
def test_dimensions_of_drawn_volumes():
    shell = np.zeros((6, 6, 6))
    shell[1:5, 1:5, 1:5] = 1
    solid = shell.copy()
    shell[2:4, 2:4, 2:4] = 0
    drilled = solid.copy()
    drilled[2, 2, :] = 0
    assert match_features(shell, solid).unmatched == (0, 0, 1)
    assert match_features(drilled, solid).unmatched == (0, 1, 0)
    assert match_features(np.zeros((6, 6, 6)), shell).unmatched == (1, 0, 1)


@installed
@pytest.mark.parametrize("shape", [(14, 15), (8, 7, 9)])
def test_features_are_those_of_gudhi(shape):
    gudhi = pytest.importorskip("gudhi")
    rng = np.random.default_rng(0)
    pred, label = rng.random(shape), (rng.random(shape) > 0.6).astype(float)
    result = match_features(pred, label)
    for image, own in ((pred, (result.shared, result.false)), (label, (result.shared_label, result.missed))):
        ours = sorted(
            (image[tuple(birth)], image[tuple(death)] if death[0] >= 0 else 0.0)
            for features in own
            for birth, death in zip(features.birth, features.death, strict=True)
        )
        complex_ = gudhi.CubicalComplex(vertices=1 - image)
        complex_.compute_persistence()
        bars = np.concatenate(
            [complex_.persistence_intervals_in_dimension(d).reshape(-1, 2) for d in range(len(shape))]
        )
        bars[~np.isfinite(bars)] = 1.0  # the first component, which ends where the plate begins
        np.testing.assert_allclose(ours, sorted(map(tuple, 1 - bars[bars[:, 0] < bars[:, 1]])), atol=1e-12)


@installed
@pytest.mark.parametrize("shape", [(24, 20), (10, 11, 12)])
def test_against_nothing_as_many_as_betti_numbers(shape):
    mask = ndimage.gaussian_filter(np.random.default_rng(1).random(shape), 0.8) > 0.5
    assert match_features(mask.astype(float), np.zeros(shape)).unmatched == betti_numbers(mask)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(matching, "find_spec", lambda name: None)
    matching.compiled.cache_clear()
    with pytest.raises(InputError, match=r".*needs topolosses, not installed here; pip install 'medseg\[topology\]'"):
        match_features(LEFT, RIGHT)
    matching.compiled.cache_clear()
