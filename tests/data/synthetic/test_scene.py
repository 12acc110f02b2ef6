import numpy as np
import pytest
from rasterio.crs import CRS
from scipy.ndimage import label as components
from scipy.ndimage import uniform_filter

from medseg.data.synthetic.scene import BANDS, IGNORE_VALUE, LABELS, NODATA, draw_scene
from medseg.geometry.grid import Grid

Drawn = tuple[np.ndarray, np.ndarray, Grid]
SMALL = (48, 64)


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return [draw_scene(0, number) for number in range(6)]


def has_data(image: np.ndarray) -> np.ndarray:
    return (image != NODATA).all(axis=0)


def test_a_scene_is_a_function_of_seed_and_number() -> None:
    one, again = draw_scene(0, 3, SMALL), draw_scene(0, 3, SMALL)
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    assert one[2].to_dict() == again[2].to_dict()
    for other in (draw_scene(1, 3, SMALL), draw_scene(0, 4, SMALL)):
        assert one[2].to_dict() != other[2].to_dict()
        assert one[0].shape != other[0].shape or (one[0] != other[0]).any()


def test_every_class_is_there_and_some_borders_are_not_labelled(drawn: list[Drawn]) -> None:
    counts = np.stack([np.bincount(label[label != IGNORE_VALUE], minlength=6) for _, label, _ in drawn])
    assert counts.shape[1] == len(LABELS)
    share = counts / counts.sum(axis=1, keepdims=True)
    assert share.min() > 0.003
    assert (share.mean(axis=0) > 0.02).all()
    assert share.max() < 0.6
    for image, label, _ in drawn:
        uncertain = (label == IGNORE_VALUE) & has_data(image)
        assert 0.003 < uncertain.mean() < 0.08


def test_grids_are_those_of_sentinel_2(drawn: list[Drawn]) -> None:
    grids = [grid for _, _, grid in drawn]
    assert len({grid.shape for grid in grids}) > 4
    assert len({grid.frame for grid in grids}) > 1
    for (image, label, _), grid in zip(drawn, grids, strict=True):
        assert (image.shape, label.shape) == ((len(BANDS), *grid.shape), grid.shape)
        assert all(abs(n - m) <= 0.2 * m + 1 for n, m in zip(grid.shape, (320, 384), strict=True))
        assert grid.spacing == (10, 10)
        crs = CRS.from_wkt(grid.frame)
        assert crs.to_epsg() in (*range(32601, 32661), *range(32701, 32761))
        west, north = grid.to_world([[-0.5, -0.5]])[0]
        assert (west % 10, north % 10) == (0, 0)
        east, south = grid.to_world([np.array(grid.shape) - 0.5])[0]
        assert 166_000 < west < east < 834_000
        assert 0 < south < north < 10_000_000


def test_nodata_is_a_slanted_collar_and_some_clouds(drawn: list[Drawn]) -> None:
    missing = [~has_data(image) for image, _, _ in drawn]
    for (image, _, _), gap in zip(drawn, missing, strict=True):
        assert (image[:, gap] == NODATA).all()  # in every band or in none
        assert gap.mean() < 0.3
    assert max(gap.mean() for gap in missing) > 0.03
    clouds = [gap & (label != IGNORE_VALUE) for (_, label, _), gap in zip(drawn, missing, strict=True)]
    assert any(cloud.sum() > 300 for cloud in clouds)  # the ground below them has a label
    slants = []
    for (_, label, _), gap in zip(drawn, missing, strict=True):
        collar, n = components(gap & (label == IGNORE_VALUE))
        touching = [k for k in range(1, n + 1) if (collar[:, 0] == k).sum() > 20]
        slants += [np.ptp((collar == k).sum(axis=1)[collar[:, 0] == k]) for k in touching]
    assert max(slants) > 5


def test_light_and_haze_differ_between_scenes(drawn: list[Drawn]) -> None:
    woods = [
        np.median(image[:, (label == LABELS["forest"]) & has_data(image)], axis=1) / 10_000 for image, label, _ in drawn
    ]
    blue, _, red, nir, _, _ = np.array(woods).T
    assert blue.max() / blue.min() > 1.3
    assert nir.max() / nir.min() > 1.15
    assert ((nir > 0.15) & (nir < 0.6)).all()
    assert (nir > 3 * red).all()


def test_spectra_are_plausible(drawn: list[Drawn]) -> None:
    for image, label, _ in drawn:
        cells = {n: image[:, (label == value) & has_data(image)].astype(float) for n, value in LABELS.items()}
        nbr = {n: np.median((c[3] - c[5]) / (c[3] + c[5])) for n, c in cells.items()}
        ndwi = {n: np.median((c[1] - c[3]) / (c[1] + c[3])) for n, c in cells.items()}
        assert nbr["burned"] < -0.05 < 0.4 < nbr["forest"]
        assert max(ndwi, key=lambda name: ndwi[name]) == "water"
        assert ndwi["water"] > 0 > ndwi["crop"]


def features(drawn: list[Drawn], *, context: bool) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of the bands ``[n, f]``, with mean and scatter of 9 x 9 cells around if asked for; and labels."""
    rows, labels = [], []
    for image, label, _ in drawn:
        bands = np.log(np.maximum(image, 1).astype(float))
        columns = list(bands)
        for band in bands if context else ():
            mean = uniform_filter(band, 9)
            columns += [mean, np.log(uniform_filter(band**2, 9) - mean**2 + 1e-4)]
        at = has_data(image) & (label != IGNORE_VALUE)
        rows.append(np.stack(columns)[:, at].T)
        labels.append(label[at])
    return np.concatenate(rows), np.concatenate(labels)


def nearest_mean(cells: np.ndarray, label: np.ndarray) -> np.ndarray:
    scaled = cells / cells.std(axis=0)
    means = np.stack([scaled[label == k].mean(axis=0) for k in range(6)])
    return ((scaled[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)


def gaussian(cells: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The most likely of six normal distributions."""
    scores = []
    for k in range(6):
        rows = cells[label == k]
        away, spread = cells - rows.mean(axis=0), np.cov(rows.T)
        scores.append(-(away @ np.linalg.inv(spread) * away).sum(axis=1) - np.linalg.slogdet(spread)[1])
    return np.stack(scores).argmax(axis=0)


def mean_iou(pred: np.ndarray, label: np.ndarray) -> float:
    matrix = np.bincount(label.astype(int) * 6 + pred, minlength=36).reshape(6, 6)
    hits = matrix.diagonal()
    return float((hits / (matrix.sum(axis=0) + matrix.sum(axis=1) - hits)).mean())


def test_cells_alone_do_not_tell_the_classes(drawn: list[Drawn]) -> None:
    """Even fitted to the scenes on which they are judged; what lies around a cell helps a good deal."""
    alone, label = features(drawn, context=False)
    around, _ = features(drawn, context=True)
    assert 0.25 < mean_iou(nearest_mean(alone, label), label) < 0.5
    assert mean_iou(gaussian(alone, label), label) < 0.7
    assert mean_iou(gaussian(around, label), label) > mean_iou(gaussian(alone, label), label) + 0.1
