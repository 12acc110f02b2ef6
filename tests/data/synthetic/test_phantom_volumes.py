from pathlib import Path

import numpy as np
import pytest

from medseg.data.synthetic import phantom_volumes
from medseg.data.synthetic.phantom_volumes import LABELS, PhantomVolumes, draw_case
from medseg.errors import InputError
from medseg.geometry.grid import Grid

SMALL = {"n_cases": 2, "n_test": 1, "shape": (12, 14, 10)}
Drawn = tuple[np.ndarray, np.ndarray, Grid]


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return [draw_case(0, number) for number in range(10)]


def test_a_case_is_a_function_of_seed_and_number(drawn: list[Drawn]) -> None:
    again = draw_case(0, 3)
    for one, other in zip(drawn[3][:2], again[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert again[2].to_dict() == drawn[3][2].to_dict()
    small = [draw_case(seed, number, (12, 14, 10))[2].affine for seed, number in ((0, 0), (0, 1), (1, 0))]
    assert not np.allclose(small[0], small[1])
    assert not np.allclose(small[0], small[2])


def test_every_organ_is_whole_and_large_enough(drawn: list[Drawn]) -> None:
    counts = np.stack([np.bincount(label.ravel(), minlength=len(LABELS)) for _, label, _ in drawn])
    assert counts.shape[1] == len(LABELS)
    assert (counts[:, 1:] >= 300).all()
    assert (counts[:, 0] > 0.8 * counts.sum(axis=1)).all()


def test_left_and_right_are_told_by_the_affine_only(drawn: list[Drawn]) -> None:
    """In RAS the left kidney lies at smaller x in every case, but not at the smaller index."""
    by_index, brighter = [], []
    for image, label, grid in drawn:
        left, right = (np.argwhere(label == LABELS[f"{side} kidney"]) for side in ("left", "right"))
        assert grid.to_world(left)[:, 0].mean() < grid.to_world(right)[:, 0].mean() - 20
        by_index.append(bool(left[:, 0].mean() < right[:, 0].mean()))
        brighter.append(np.log(np.median(image[tuple(left.T)]) / np.median(image[tuple(right.T)])))
    assert len(set(by_index)) == 2
    assert abs(np.mean(brighter)) < np.std(brighter)  # they differ by the bias field, so neither side is brighter


def test_grids_vary_and_are_anisotropic_and_oblique(drawn: list[Drawn]) -> None:
    grids = [grid for _, _, grid in drawn]
    assert len({g.shape for g in grids}) > 5
    for grid in grids:
        assert all(abs(n - m) <= 0.1 * m for n, m in zip(grid.shape, (48, 56, 40), strict=True))
        assert max(grid.spacing) / min(grid.spacing) > 1.2
        turned = np.abs(grid.affine[:3, :3] / grid.spacing)
        assert 1e-4 < 1 - np.diag(turned).min() < 0.05


def best_window_dice(image: np.ndarray, target: np.ndarray, n_bins: int = 48) -> float:
    """Best Dice of ``low <= image < high`` over all pairs of quantiles of the image."""
    edges = np.quantile(image, np.linspace(0, 1, n_bins + 1)[1:-1])
    bins = np.searchsorted(edges, image, side="right")
    cells, hits = (
        np.concatenate([[0], np.cumsum(np.bincount(b.ravel(), minlength=n_bins))]) for b in (bins, bins[target])
    )
    low, high = np.triu_indices(n_bins + 1, 1)
    return float((2 * (hits[high] - hits[low]) / (cells[high] - cells[low] + hits[-1])).max())


def test_no_intensity_window_finds_the_organs(drawn: list[Drawn]) -> None:
    """Windows fitted to each case and class with its own label; 1 for a class that intensity tells."""
    ramp = np.arange(960.0).reshape(8, 12, 10)
    assert best_window_dice(ramp, (ramp >= 100) & (ramp < 300)) == 1
    dice = [[best_window_dice(image, label == k) for k in range(1, 6)] for image, label, _ in drawn]
    assert np.mean(dice) < 0.3
    assert np.mean(dice, axis=0).max() < 0.6


def test_it_is_an_nnunet_dataset(tmp_path: Path) -> None:
    dataset = PhantomVolumes(tmp_path / "cache", **SMALL)
    assert [c.id for c in dataset.cases()] == ["phantom_000", "phantom_001"]
    assert [c.id for c in dataset.test_cases()] == ["phantom_002"]
    assert dataset.spec.labels.names == tuple(LABELS)
    assert dataset.spec.labels.pairs == ((3, 4),)
    assert dataset.normalisation == ("zscore",)
    for number, case in enumerate([*dataset.cases(), *dataset.test_cases()]):
        image, label, grid = draw_case(0, number, SMALL["shape"])
        sample = dataset.read(case)
        np.testing.assert_array_equal(sample.image[0], image)
        np.testing.assert_array_equal(sample.label, label)
        assert sample.grid.offset_from(grid) < 1e-4


def test_it_is_drawn_once_for_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = PhantomVolumes(tmp_path, **SMALL)
    assert not first.folder.exists()
    cases = first.cases()
    monkeypatch.setattr(phantom_volumes, "draw_case", None)
    assert PhantomVolumes(tmp_path, **SMALL).cases() == cases
    others = [PhantomVolumes(tmp_path, **SMALL | change).folder for change in ({"seed": 1}, {"n_test": 2})]
    assert len({first.folder, *others}) == 3


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int, number: int, shape: object) -> Drawn:
        if number == 1:
            raise KeyboardInterrupt
        return draw_case(seed, number, SMALL["shape"])

    monkeypatch.setattr(phantom_volumes, "draw_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        PhantomVolumes(tmp_path, **SMALL).cases()
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_draw_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(seed: int, number: int, shape: object) -> Drawn:
        monkeypatch.setattr(phantom_volumes, "draw_case", draw_case)
        PhantomVolumes(tmp_path, **SMALL).cases()  # the other process, done before this one
        return draw_case(seed, number, SMALL["shape"])

    monkeypatch.setattr(phantom_volumes, "draw_case", overtaken)
    dataset = PhantomVolumes(tmp_path, **SMALL)
    assert len(dataset.cases()) == 2
    assert list(tmp_path.iterdir()) == [dataset.folder]


@pytest.mark.parametrize("change", [{"n_cases": 1}, {"n_test": -1}, {"shape": (12, 14)}, {"shape": (12, 14, 4)}])
def test_impossible_settings_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"phantom_volumes: got n_cases=.*expected at least 2 cases"):
        PhantomVolumes(tmp_path, **SMALL | change)
