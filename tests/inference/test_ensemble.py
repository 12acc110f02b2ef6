from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.inference import ensemble, tiling
from medseg.inference.ensemble import Ensemble
from medseg.inference.postprocess import PostProcess
from medseg.inference.predictor import Predictor
from medseg.inference.tiling import Tiling
from medseg.labels import LabelTable
from medseg.sample import Channel, DataSpec, Sample

TABLE = LabelTable.declare({"background": 0, "left": 4, "right": 300})
TURNED = np.diag([-1.0, -1, 1, 1])[:, [1, 2, 0, 3]]


class Noisy(nn.Module):
    """Logits of the values around each cell."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv3d(1, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return 5 * self.layer(image)


def member(
    seed: int, spacing: Sequence[float] | None = (1.0, 1.0, 1.0), window: Sequence[int] = (6, 6, 6), **spec: Any
) -> Predictor[Preprocess]:
    facts = {"channels": (Channel("ct"),), "labels": TABLE, "ndim": 3} | spec
    prepare = Preprocess(None if spacing is None else tuple(spacing), (Normalisation("none"),))
    return Predictor(Noisy(seed), prepare=prepare, tiling=Tiling(tuple(window)), spec=DataSpec(**facts))


def case(shape: tuple[int, ...] = (12, 10, 14), affine: np.ndarray | None = None) -> Sample:
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    image[:, 0], image[:, :, -2:] = 0, 0
    grid = Grid.regular(shape, (1, 1.5, 2)) if affine is None else Grid(shape, affine)
    return Sample(image, None, np.ones(shape, bool), grid, "a", "a")


@pytest.mark.parametrize("affine", [None, TURNED])
def test_probabilities_are_the_mean_of_members_of_other_spacing_and_window(affine: np.ndarray | None) -> None:
    members = [member(0), member(1, (1.4, 2.0, 1.1), (8, 4, 6))]
    sample = case(affine=affine)
    index, prob = Ensemble(members).index_and_prob(sample)
    mean = np.mean([one.index_and_prob(sample)[1] for one in members], axis=0)
    np.testing.assert_allclose(prob, mean, atol=1e-6)
    np.testing.assert_array_equal(index, mean.argmax(0))
    assert any((one.index(sample) != index).any() for one in members)


def test_one_member_is_the_predictor_itself() -> None:
    one = member(0, (1.3, 1.3, 1.3))
    for own, alone in zip(Ensemble([one]).index_and_prob(case()), one.index_and_prob(case()), strict=True):
        np.testing.assert_array_equal(own, alone)


def test_members_run_one_after_another_where_their_sums_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [member(0), member(1, (1.4, 2.0, 1.1))]
    in_step = Ensemble(members).index_and_prob(case())
    monkeypatch.setattr(ensemble, "MOST_BLEND_BYTES", 0)
    spooled, spool = [], ensemble.spooled_rows
    monkeypatch.setattr(ensemble, "spooled_rows", lambda rows: spooled.append(rows) or spool(rows))
    for own, expected in zip(Ensemble(members).index_and_prob(case()), in_step, strict=True):
        np.testing.assert_array_equal(own, expected)
    assert len(spooled) == 2


def test_rows_follow_the_axis_that_takes_least_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    one, sample = member(0, (1.3, 1.3, 1.3), (4, 6, 8)), case((10, 9, 24))
    index, prob = one.index_and_prob(sample)
    monkeypatch.setattr(tiling, "_SMALL_BLEND", 0)
    assert one.logits(sample).axis == 2
    along = one.index_and_prob(sample)
    np.testing.assert_allclose(along[1], prob, atol=1e-5)
    assert (along[0] != index).mean() < 0.01


def test_a_member_that_crops_lies_beside_one_that_does_not() -> None:
    """Only members that resample crop; what they leave out is background for certain."""
    members = [member(0), member(1, None)]
    sample = case()
    _, prob = Ensemble(members).index_and_prob(sample)
    np.testing.assert_allclose(prob, np.mean([one.index_and_prob(sample)[1] for one in members], axis=0), atol=1e-6)


def test_members_that_turn_the_axes_and_others_are_refused() -> None:
    with pytest.raises(InputError, match=r"case a: some members resample volumes and others \(plan.spacing=null\)"):
        Ensemble([member(0), member(1, None)]).index(case(affine=TURNED))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"channels": (Channel("mr"),)}, r"member 2 of 2 has channels \['mr'\], expected \['ct'\]"),
        ({"labels": LabelTable.declare(["background", "left", "heart"])}, r"has classes .*'heart'.*'right'"),
        ({"labels": LabelTable.declare({"background": 0, "left": 1, "right": 300})}, r"has values .*1,.*4"),
    ],
)  # fmt: skip
def test_members_of_other_channels_or_classes_are_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ensemble([member(0), member(1, **spec)])


def test_classes_are_post_processed_and_probabilities_are_not() -> None:
    steps = [{"step": "keep_largest", "classes": ["left", "right"]}]
    plain, members = Ensemble([member(0), member(1)]), [member(0), member(1)]
    changed = Ensemble(members, postprocess=PostProcess.from_list(steps, TABLE))
    index, prob = plain.index_and_prob(case())
    processed, same = changed.index_and_prob(case())
    np.testing.assert_array_equal(same, prob)
    np.testing.assert_array_equal(processed, PostProcess.from_list(steps, TABLE)(index, case().grid, TABLE))
    assert (processed != index).any()
    sample = replace(case(), valid=np.zeros(case().valid.shape, bool))
    assert not changed.index(sample).any()
