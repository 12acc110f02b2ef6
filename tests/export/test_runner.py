"""The runner computes what medseg computes, with numpy alone."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

from medseg import formats
from medseg.data.preprocessing.normalise import Normalisation, normalise
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.errors import InputError
from medseg.export import description, runner
from medseg.facts import CaseFacts, Fact
from medseg.geometry.grid import Grid
from medseg.geometry.resample import ANISOTROPIC, resample_image, resample_label
from medseg.inference.postprocess import PostProcess
from medseg.inference.predictor import Predictor, Tiling
from medseg.inference.sliding_window import gaussian_weight, sliding_window, window_starts
from medseg.labels import LabelTable
from medseg.sample import Channel, DataSpec, Sample
from medseg.sensors.formula import Formula

TABLE = LabelTable.declare({"background": 0, "left": 4, "right": 9}, pairs=[["left", "right"]])
REGIONS = LabelTable.declare(
    {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "centre": 3}, regions_class_order=[1, 2, 3]
)
OBLIQUE = np.array([[-0.9, 0.2, 0.1, 4], [0.1, 0.3, -2.6, 7], [0.2, 1.1, 0.5, -3], [0, 0, 0, 1.0]])
SEEDS = st.integers(0, 10_000)


def own_grid(grid: Grid) -> runner.Grid:
    return runner.Grid(grid.shape, grid.affine, "mm")


@pytest.mark.parametrize("order", [0, 1, 3])
@given(seed=SEEDS)
def test_resampling_is_that_of_scipy(order: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = tuple(rng.integers(1, 12, 3).tolist()), tuple(rng.integers(1, 14, 3).tolist())
    grid = Grid.regular(old, rng.choice([1.0, 1.2, 3.7], 3).tolist())
    image = rng.normal(scale=100, size=(2, *old)).astype(np.float32)
    expected = resample_image(image, grid, new, order=order)
    np.testing.assert_allclose(runner.resample(image, own_grid(grid), new, order, 3.0), expected, atol=2e-4)


def test_a_grid_is_that_of_medseg() -> None:
    grid = Grid((5, 6, 7), OBLIQUE)
    own, (axes, flips) = own_grid(grid), grid.canonical()
    assert own.canonical() == (axes, flips)
    turned, own_turned = grid.reorient(axes, flips), own.reorient(axes, flips)
    np.testing.assert_allclose(own_turned.affine, turned.affine)
    np.testing.assert_allclose(own_turned.resampled((1, 2, 0.5)).affine, turned.resampled((1, 2, 0.5)).affine)
    assert own_turned.resampled((1, 2, 0.5)).shape == turned.resampled((1, 2, 0.5)).shape
    moved = Grid(grid.shape, OBLIQUE + np.array([[0, 0, 0, 1], *[[0, 0, 0, 0]] * 3]))
    assert own.offset_from(own_grid(moved)) == pytest.approx(grid.offset_from(moved))


@pytest.mark.parametrize("scheme", ["zscore", "ct", "standard", "percentile", "unit_range", "rgb", "none"])
@pytest.mark.parametrize("share", [1.0, 0.6, 0.0])
def test_normalisation_is_that_of_medseg(scheme: str, share: float) -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (1, 7, 8)).astype(np.float32)
    counted = rng.random((7, 8)) < share
    rule = Normalisation(scheme, 100.0, 30.0, 20.0, 220.0)
    stored = json.loads(json.dumps(description._rule(rule)))
    np.testing.assert_array_equal(runner.normalise(image, counted, [stored]), normalise(image, counted, [rule]))


@pytest.mark.parametrize("value", [None, "", "NA", 54, "54.5", "F", "X", "a;b", ["b", "c"], [], "; ", " a ; zz"])
def test_facts_are_encoded_as_medseg_does(value: Any) -> None:
    facts = [Fact("x", "number", mean=50.0, std=8.0), Fact("x", "word", ("F", "M")), Fact("x", "tags", ("a", "b"))]
    for fact in facts:
        try:
            expected = CaseFacts.of({"x": value}, (fact,)).encoded.tolist()
        except InputError:
            with pytest.raises(runner.Refusal, match=r"facts: x is .* expected a number"):
                runner.encoded(fact.to_dict(), value)
        else:
            assert np.array(runner.encoded(fact.to_dict(), value), np.float32).tolist() == expected


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    cells = np.random.default_rng(0).normal(5, 3, 100).astype(np.float32)
    pooled = runner.Statistics.pooled([runner.Statistics.of(part) for part in (cells[:30], cells[:0], cells[30:])])
    whole = runner.Statistics.of(cells)
    assert vars(pooled) == pytest.approx(vars(whole))


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("ndim", [1, 2, 3])
@given(seed=SEEDS)
def test_components_are_those_of_scipy(corners: bool, ndim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 9, ndim)) < rng.choice([0.3, 0.5, 0.7])
    parts, _ = ndimage.label(mask, ndimage.generate_binary_structure(ndim, ndim if corners else 1))
    found = runner.components(mask.astype(np.uint8), corners=corners)
    np.testing.assert_array_equal(found, parts)  # both count in the order of first cells


STEPS: list[list[dict[str, Any]]] = [
    [{"step": "keep_largest", "classes": ["left"]}],
    [{"step": "keep_largest", "classes": "all"}],
    [{"step": "remove_small", "classes": ["left", "right"], "size": 3, "unit": "px"}],
    [{"step": "remove_small", "classes": "all", "size": 7.5, "unit": "mm3"}],
    [{"step": "fill_holes", "classes": ["right"]}],
    [{"step": "fill_holes", "classes": "all"}, {"step": "sieve", "size": 4, "unit": "px"}],
]


@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: "_".join(s["step"] for s in steps))
@given(seed=SEEDS)
def test_post_processing_is_that_of_medseg(steps: list[dict[str, Any]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid.regular(rng.integers(1, 8, 3).tolist(), (1, 1, 2.5))
    index = rng.choice(3, grid.shape, p=[0.5, 0.3, 0.2]).astype(np.int16)
    index[rng.random(grid.shape) < 0.05] = -1
    post = PostProcess.from_list(steps, TABLE)
    stored = json.loads(json.dumps([description._step(step, TABLE) for step in post.steps]))
    expected = post(index, grid, TABLE)
    np.testing.assert_array_equal(runner.post_process(index, stored, own_grid(grid), 3), expected)


def test_a_region_is_filled_and_removed_as_in_medseg() -> None:
    index = np.random.default_rng(3).integers(0, 4, (9, 9)).astype(np.int16)
    steps = [{"step": "keep_largest", "classes": ["core"]}, {"step": "fill_holes", "classes": ["whole"]}]
    post, grid = PostProcess.from_list(steps, REGIONS), Grid.regular((9, 9), (1, 1))
    stored = [description._step(step, REGIONS) for step in post.steps]
    expected = post(index, grid, REGIONS)
    np.testing.assert_array_equal(runner.post_process(index, stored, own_grid(grid), 4), expected)


def test_a_size_in_another_unit_is_one_line() -> None:
    steps = [{"step": "sieve", "size": 4, "unit": "m2"}]
    with pytest.raises(runner.Refusal, match="a size in m2, the image has cells in mm"):
        runner.post_process(np.zeros((2, 2), np.int16), steps, own_grid(Grid.regular((2, 2), (1, 1))), 3)


@pytest.mark.parametrize("text", ["(B8 - B12) / (B8 + B12)", "clip(sqrt(abs(B8)), 1, 2.5) ** 2 * -B12"])
def test_a_formula_is_that_of_medseg(text: str) -> None:
    rng = np.random.default_rng(0)
    bands = {name: rng.integers(-2, 3, 50).astype(np.float32) for name in ("B8", "B12")}
    bands["B8"][7] = np.nan
    program = json.loads(json.dumps(description._channel(Channel("index", formula=text))))["program"]
    np.testing.assert_array_equal(runner.evaluate(program, bands), Formula.parse(text)(bands))


# Windows


class Places(nn.Module):
    """Logits that depend on where a cell lies in its window, so that blending and mirrors matter."""

    def forward(self, image: Tensor) -> Tensor:
        ramp = torch.linspace(0, 1, image.shape[2]).reshape(-1, *[1] * (image.ndim - 3))
        return torch.cat([image[:, :1] * ramp, image[:, -1:], ramp - image[:, :1]], dim=1)


def by_numpy(network: nn.Module) -> runner.Network:
    return lambda image: network(torch.from_numpy(image)).numpy()


BLENDING = {"sigma": 0.125, "least": 1e-3}


def test_weights_are_those_of_medseg() -> None:
    np.testing.assert_allclose(runner.gaussian_weight((5, 8), BLENDING), gaussian_weight((5, 8)).numpy(), rtol=1e-6)
    assert runner.window_starts(11, 4, 0.5) == window_starts(11, 4, 0.5)


@pytest.mark.parametrize("shape", [(17, 9), (3, 20), (8, 8), (9, 5, 11)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_blended_rows_are_those_of_medseg(shape: tuple[int, ...], batch_size: int) -> None:
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    window = (6, 4, 4)[: len(shape)]
    expected = sliding_window(torch.from_numpy(image), Places(), window=window, batch_size=batch_size)
    tiling = {"window": window, "overlap": 0.5, "batch_size": batch_size, "flip_axes": [], "swap": None}
    valid = np.ones(shape, dtype=bool)
    strip = runner.Strip(lambda a, b: (image[:, a:b], valid[a:b]), shape, skip=False)
    settings = {"tiling": tiling, "blending": BLENDING}
    rows = list(runner.blended_rows(strip, shape, by_numpy(Places()), settings, 3))
    assert [first for first, _ in rows] == np.cumsum([0, *(r.shape[1] for _, r in rows)])[:-1].tolist()
    np.testing.assert_allclose(np.concatenate([r for _, r in rows], axis=1), expected.numpy(), atol=1e-5)


# Cases


def both(
    sample: Sample, table: LabelTable, prepare: Preprocess, tiling: Tiling, temperature: float = 1.0
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Index and probabilities of medseg and of the runner, with the same network."""
    spec = DataSpec((Channel("a"), Channel("b")), table, sample.grid.ndim)
    ours = Predictor(Places(), prepare=prepare, tiling=tiling, spec=spec).index_and_prob(sample, temperature)
    member = {
        "preprocessing": description._preprocessing(prepare),
        "tiling": description._tiling(tiling),
        "blending": BLENDING,
        "resampling": {"image": 3, "valid": 1, "logits": 1, "anisotropic": 3.0},
    }
    own = runner.Predictor.__new__(runner.Predictor)
    own.settings = {"postprocessing": []}
    own.labels = json.loads(json.dumps(description._labels(table)))
    own.regions, own.n_outputs = own.labels["regions"], 3
    own.members = [runner.Member(member, own.regions, 3, by_numpy(Places()), temperature)]
    case = runner.Case(sample.image, sample.valid, own_grid(sample.grid))
    return ours, own.index_and_prob(case)


@pytest.mark.parametrize("table", [TABLE, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize(("masked", "temperature"), [(False, 1.0), (True, 2.5)])
def test_an_oblique_volume_is_that_of_medseg(table: LabelTable, masked: bool, temperature: float) -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(2, 1, (2, 12, 14, 7)).astype(np.float32)
    image[:, :3], image[:, :, -2:], image[:, 6, 6, 3] = 0, 0, 0
    valid = np.ones(image.shape[1:], dtype=bool)
    valid[5, 5:9] = False
    image[:, ~valid] = 0
    sample = Sample(image, None, valid, Grid(valid.shape, OBLIQUE), "c", "c")
    prepare = Preprocess((1.0, 1.5, 1.5), (Normalisation("zscore"), Normalisation("ct", 2, 1, 0, 4)), masked)
    tiling = Tiling((8, 6, 6), flip_axes=(0, 2), lateral_axis=0, swap=(0, 2, 1))
    (index, prob), (own_index, own_prob) = both(sample, table, prepare, tiling, temperature)
    np.testing.assert_allclose(own_prob, prob, atol=2e-5)
    ranked = np.sort(prob if table is TABLE else np.abs(prob - 0.5), axis=0)
    clear = ranked[-1] - ranked[-2] > 1e-4 if table is TABLE else ranked[0] > 1e-4
    assert clear.mean() > 0.9  # in the mirrors' plane the two sides are equally likely
    np.testing.assert_array_equal(own_index[clear], index[clear])
    assert len(np.unique(index)) > 2


def test_an_image_on_its_own_cells_is_that_of_medseg() -> None:
    image = np.random.default_rng(2).normal(2, 1, (2, 15, 11)).astype(np.float32)
    sample = Sample(image, None, np.ones((15, 11), bool), Grid.regular((15, 11), (1, 1)), "c", "c")
    prepare = Preprocess(None, (Normalisation("unit_range"), Normalisation("standard", 2, 3)))
    (index, prob), (own_index, own_prob) = both(sample, TABLE, prepare, Tiling((6, 6), batch_size=2))
    np.testing.assert_allclose(own_prob, prob, atol=2e-6)
    np.testing.assert_array_equal(own_index, index)


def test_rows_of_several_members_are_given_in_step() -> None:
    shape, everywhere = (1, 10, 2), np.ones((10, 2), bool)
    logits = np.arange(20.0).reshape(shape)
    parts = [
        iter([(a, logits[:, a:b], everywhere[a:b]) for a, b in zip(cuts, [*cuts[1:], 10], strict=True)])
        for cuts in ([0, 4, 7], [0, 1, 2, 8])
    ]
    rows = list(runner.in_step(parts, 10))
    assert [first for first, _, _ in rows] == [0, 1, 2, 4, 7, 8]
    for member in (0, 1):
        np.testing.assert_array_equal(np.concatenate([one[member] for _, one, _ in rows], axis=1), logits)


# Files


SETTINGS: dict[str, Any] = {
    "ndim": 3,
    "channels": [{"name": "T1"}, {"name": "T2"}],
    "reading": {"nonfinite": "error", "grid_tolerance": 0.01},
}


def volume(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def test_channels_of_a_case_are_found_by_their_names(tmp_path: Path) -> None:
    files = [volume(tmp_path / f"{n}.nii.gz", np.zeros((2, 2, 2), np.float32)) for n in ("a_0000", "a_0001", "b")]
    assert runner.find_cases([tmp_path], SETTINGS) == [("a", files[:2]), ("b", files[2:])]
    assert runner.find_cases([files[1]], SETTINGS) == [("a", files[:2])]
    assert runner.find_cases(files[::-1], SETTINGS) == [("b", files[::-1])]


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.nii.gz", "no such file"), ("x.txt", "no image of the kinds .nii.gz, .nii"), (".", "hol")],
)
def test_input_of_another_kind_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(runner.Refusal, match=message):
        runner.find_cases([tmp_path / name], SETTINGS)


def test_volumes_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    cells = np.ones((3, 4, 5), np.float32)
    one = volume(tmp_path / "a.nii", cells)
    moved = volume(tmp_path / "b.nii", cells, OBLIQUE @ np.array([[1, 0, 0, 1], *np.eye(4)[1:]]))
    with pytest.raises(runner.Refusal, match=r"got 1 channels, expected 2 \['T1', 'T2'\]"):
        runner.read_volume([one], SETTINGS)
    with pytest.raises(runner.Refusal, match="different grids, up to 1 voxels apart"):
        runner.read_volume([one, moved], SETTINGS)
    broken = volume(tmp_path / "c.nii", np.where(np.arange(60).reshape(3, 4, 5) == 7, np.nan, 1).astype(np.float32))
    with pytest.raises(runner.Refusal, match="1 NaN or infinite values"):
        runner.read_volume([one, broken], SETTINGS)
    masked = runner.read_volume([one, broken], {**SETTINGS, "reading": {"nonfinite": "mask", "grid_tolerance": 0.01}})
    assert (~masked.valid).sum() == 1
    (tmp_path / "d.nii").write_bytes(b"no header")
    with pytest.raises(runner.Refusal, match=r"d\.nii: cannot be read"):
        runner.read_volume([tmp_path / "d.nii"], SETTINGS)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4)])
def test_a_volume_is_written_byte_by_byte_as_by_medseg(tmp_path: Path, kind: Any, shape: tuple[int, ...]) -> None:
    image = kind(np.ones(shape, np.float32), OBLIQUE)
    image.set_qform(np.diag([1, 2, 3, 1]), code=2)
    image.to_filename(tmp_path / "like.nii.gz")
    cells = np.arange(np.prod(shape), dtype=np.uint8).reshape((*shape, 1)[:3])
    grid = formats.open(tmp_path / "like.nii.gz").grid
    formats.write(tmp_path / "ours.nii.gz", cells, grid, like=tmp_path / "like.nii.gz")
    runner.write_volume(tmp_path / "own.nii.gz", cells, tmp_path / "like.nii.gz")
    assert (tmp_path / "own.nii.gz").read_bytes() == (tmp_path / "ours.nii.gz").read_bytes()
    np.testing.assert_allclose(runner._volume_grid(nib.load(tmp_path / "like.nii.gz"), shape).affine, grid.affine)


def test_a_folder_that_is_no_predictor_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(runner.Refusal, match=r"predictor\.json: not a file that can be read"):
        runner.Predictor(tmp_path)
    (tmp_path / "predictor.json").write_text('{"format": 99}')
    with pytest.raises(runner.Refusal, match="format 99, expected 1"):
        runner.Predictor(tmp_path)
    with pytest.raises(runner.Refusal, match=r"network\.onnx: no such file"):
        runner.load_network(tmp_path / "network.onnx")
    (tmp_path / "network.onnx").write_bytes(b"no network")
    with pytest.raises(runner.Refusal, match="not a network that onnxruntime runs"):
        runner.load_network(tmp_path / "network.onnx")


def test_a_normalisation_of_the_users_own_is_one_line() -> None:
    with pytest.raises(InputError, match=r"normalisation mine\.Log is a class of yours"):
        description._rule(Normalisation("mine.Log"))


@pytest.mark.parametrize("spacing", [(0.7, 1.3, 1.1), (2.0, 0.9, 1.7), (1.0, 1.0, 6.0)])
def test_class_numbers_are_resampled_as_labels_are(spacing: tuple[float, ...]) -> None:
    blocks = np.kron(np.random.default_rng(1).integers(0, 5, (4, 3, 5)), np.ones((3, 4, 2), int)).astype(np.int16)
    grid = Grid.regular(blocks.shape, (1.0, 1.2, 1.5))
    shape = grid.resampled(spacing).shape
    own = runner.Grid(grid.shape, grid.affine, "mm")
    found = runner.resample_classes(blocks.astype(np.float32), own, shape, ANISOTROPIC)
    np.testing.assert_array_equal(found, resample_label(blocks, grid, shape))


def test_class_numbers_change_sides_in_a_mirror_image_across_the_body() -> None:
    seen = []

    def network(image: np.ndarray) -> np.ndarray:
        seen.append(image)
        return np.zeros((1, 3, *image.shape[2:]), np.float32)

    tiling = {"flip_axes": [0, 1], "lateral_axis": 0, "swap": [0, 2, 1], "mirror_classes": [0, 2, 1]}
    numbers = np.array([[0.0, 1.0], [2.0, 0.0]], np.float32)
    runner.mirrored(network, tiling)(np.stack([np.full((2, 2), 9.0, np.float32), numbers])[None])
    swapped = np.array([[0.0, 2.0], [1.0, 0.0]])
    expected = [numbers, swapped[::-1], numbers[:, ::-1], swapped[::-1, ::-1]]
    for image, own in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(image[0, -1], own)
        assert (image[0, 0] == 9).all()
