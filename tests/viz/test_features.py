import numpy as np
import pytest
import torch

from medseg.viz.false_colour import stretched
from medseg.viz.features import pca_map, similarity

RNG = np.random.default_rng(0)


def drawn(*shape):
    """Channels of very different spread, mixed, so that the components stand in a clear order."""
    mix = np.linalg.qr(RNG.normal(size=(shape[0], shape[0])))[0]
    wide = RNG.normal(size=shape) * (3.0 ** -np.arange(shape[0])).reshape(-1, *[1] * (len(shape) - 1))
    return np.tensordot(mix, wide, axes=1).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 12, 9), (5, 6, 5, 4)])
def test_components_are_the_eigenvectors_of_the_covariance(shape):
    feature = drawn(*shape)
    rows = feature.reshape(shape[0], -1).astype(np.float64)
    axes = np.linalg.eigh(np.cov(rows))[1][:, ::-1].T[:3]
    axes *= np.array([np.sign(a[np.abs(a).argmax()]) for a in axes])[:, None]
    every = np.ones(shape[1:], dtype=bool)
    expected = [stretched((a @ (rows - rows.mean(axis=1, keepdims=True))).reshape(shape[1:]), every) for a in axes]
    colours = pca_map(feature)
    assert colours.shape == (*shape[1:], 3)
    assert colours.dtype == np.float32
    np.testing.assert_allclose(np.moveaxis(colours, -1, 0), expected, atol=1e-5)
    assert colours.min() == 0
    assert colours.max() == 1


def test_offset_and_scale_of_the_features_change_nothing():
    feature = drawn(6, 7, 8)
    np.testing.assert_allclose(pca_map(3 * feature + 10), pca_map(feature), atol=1e-4)


def test_two_kinds_of_places_get_two_colours():
    feature = np.zeros((16, 4, 6), dtype=np.float32)
    feature[3, :, 3:] = 5
    colours = pca_map(feature)
    np.testing.assert_allclose(colours[..., 0], np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0), atol=1e-6)
    assert not colours[..., 1:].any()  # one component is all there is; rounding is not shown as a second one


@pytest.mark.parametrize("feature", [np.ones((4, 3, 3)), np.zeros((4, 3, 3)), np.ones((1, 1, 1))])
def test_places_that_are_all_alike_are_black(feature):
    assert not pca_map(feature.astype(np.float32)).any()


def test_similarity_is_the_cosine():
    feature = np.array([[3, 4, 0, -3], [4, 3, 0, -4]], dtype=np.float32)
    np.testing.assert_allclose(similarity(feature, [0]), [1, 24 / 25, 0, -1], atol=1e-7)


@pytest.mark.parametrize("shape,at", [((5, 6, 7), (2, 3)), ((5, 3, 4, 2), (0, 2, 1))])
def test_similarity_equals_torch(shape, at):
    feature = drawn(*shape)
    tensor = torch.from_numpy(feature)
    chosen = tensor[(slice(None), *at)].reshape(-1, *[1] * len(at))
    expected = torch.cosine_similarity(tensor, chosen.expand_as(tensor), dim=0)
    np.testing.assert_allclose(similarity(feature, at), expected, atol=1e-6)
    assert similarity(feature, at)[at] == pytest.approx(1)
    np.testing.assert_array_equal(similarity(feature, [np.int64(i) for i in at]), similarity(feature, at))


def test_a_place_outside_is_refused():
    with pytest.raises(IndexError):
        similarity(drawn(2, 3, 3), (3, 0))
