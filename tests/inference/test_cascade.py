from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.data.preprocessing.normalise import CLASSES, Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.geometry.grid import Grid
from medseg.inference.cascade import CascadedPredictor
from medseg.inference.ensemble import Ensemble
from medseg.inference.predictor import Predictor
from medseg.inference.tiling import Tiling
from medseg.labels import LabelTable
from medseg.models.class_channel import ClassIndicators
from medseg.sample import Channel, DataSpec, Sample

TABLE = LabelTable.declare({"background": 0, "left": 4, "right": 300}, pairs=[["left", "right"]])
SPEC = DataSpec((Channel("ct"),), TABLE, 3)
SIDES: dict[str, object] = {
    "flip_axes": (0, 1), "lateral_axis": 0, "swap": TABLE.mirror_outputs(), "mirror_classes": TABLE.mirror(),
}  # fmt: skip


class Layer(nn.Module):
    """Random logits of the values around each cell; keeps what it saw."""

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv3d(channels, 3, 3, padding=1)
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        logits: Tensor = 5 * self.layer(image)
        return logits


class Copies(nn.Module):
    """Logits that are the classes of the first stage."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([0.5 + 0 * image[:, :1], image[:, 1:]], 1)


def first(spacing: Sequence[float] = (2.0, 2.0, 2.0), seed: int = 0) -> Predictor[Preprocess]:
    return Predictor(
        Layer(1, seed),
        prepare=Preprocess(tuple(spacing), (Normalisation("zscore"),)),
        tiling=Tiling((6, 6, 6)),
        spec=SPEC,
    )


def second(
    network: nn.Module, before: Predictor[Preprocess], spacing: Sequence[float] = (1.0, 1.5, 2.0), **tiling: object
):
    network.register_forward_pre_hook(ClassIndicators(2, 2))
    prepare = Preprocess(tuple(spacing), (Normalisation("zscore"), Normalisation(CLASSES)))
    tiles = Tiling((8, 8, 8), **tiling)  # type: ignore[arg-type]
    return CascadedPredictor(network, first=before, prepare=prepare, tiling=tiles, spec=SPEC)


def case(shape: tuple[int, ...] = (12, 10, 14)) -> Sample:
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return Sample(image, None, np.ones(shape, bool), Grid.regular(shape, (1, 1.5, 2)), "a", "a")


def test_the_second_network_sees_the_classes_of_the_first() -> None:
    sample, before = case(), first()
    found = second(Copies(), before).index(sample)
    np.testing.assert_array_equal(found, before.index(sample))
    assert len(np.unique(found)) == 3
    assert sample.image.shape[0] == 1


def test_classes_stay_whole_at_another_spacing() -> None:
    network = Layer(3, 1)
    second(network, first(), spacing=(0.7, 0.9, 1.1)).index(case())
    indicators = torch.cat([seen[:, 1:] for seen in network.seen])
    assert set(indicators.unique().tolist()) == {0.0, 1.0}
    assert (indicators.sum(1) <= 1).all()
    assert indicators.sum() > 0


def test_it_is_a_member_like_any_other() -> None:
    sample = case()
    members = [second(Layer(3, 1), first()), first(seed=5)]
    mean = np.mean([one.index_and_prob(sample)[1] for one in members], axis=0)
    np.testing.assert_allclose(Ensemble(members).index_and_prob(sample)[1], mean, atol=1e-6)


@pytest.mark.parametrize("flips", [{}, SIDES])
def test_a_mirror_across_the_body_exchanges_the_sides_that_the_network_sees(flips: dict[str, object]) -> None:
    sample, before = case(), first()
    found = second(Copies(), before, **flips).index(sample)
    np.testing.assert_array_equal(
        found, before.index(sample), "the first stage says left, and so does the mirror image"
    )


def test_arrays_are_predicted_without_the_further_channel() -> None:
    sample = case()
    predictor = second(Copies(), first())
    labels = predictor(sample.image, sample.grid)
    assert set(np.unique(labels).tolist()) == {0, 4, 300}


def test_a_channel_that_the_case_lacks_is_0_in_both_networks() -> None:
    sample = case()
    image = np.concatenate([np.zeros_like(sample.image), sample.image])
    lacking = Sample(image, None, sample.valid, sample.grid, "a", "a", present=np.array([False, True]))
    rules = (Normalisation("standard", mean=3), Normalisation("zscore"))
    both = DataSpec((Channel("t1"), Channel("t2")), TABLE, 3)
    low, high = Layer(2, 0), Layer(4, 1)
    before = Predictor(low, prepare=Preprocess((2.0, 2.0, 2.0), rules), tiling=Tiling((6, 6, 6)), spec=both)
    high.register_forward_pre_hook(ClassIndicators(3, 2))
    prepare = Preprocess((1.0, 1.5, 2.0), (*rules, Normalisation(CLASSES)))
    predictor = CascadedPredictor(high, first=before, prepare=prepare, tiling=Tiling((8, 8, 8)), spec=both)
    predictor.index(lacking)
    for network in (low, high):
        assert network.seen
        assert all((seen[:, 0] == 0).all() and seen[:, 1].any() for seen in network.seen)
    assert any(seen[:, 2:].any() for seen in high.seen)
