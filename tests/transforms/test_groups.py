"""Image groups that are taken away in training."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from medseg.errors import InputError
from medseg.factory.instantiate import instantiate
from medseg.hydra_app.compose import compose
from medseg.sample import Batch
from medseg.transforms.compose import Compose, build_compose
from medseg.transforms.groups import GroupDrop
from medseg.transforms.transform import PatchSpec

GROUPS = (("s1",), ("s1",), ("s2",), ("s1", "s2"), ("dem",))


def bound(**settings: Any) -> GroupDrop:
    return GroupDrop(**settings).bind(PatchSpec((8, 8), (1.0, 1.0), None, groups=GROUPS))


def batch_of(b: int, present: torch.Tensor | None = None) -> Batch:
    there = torch.ones(b, len(GROUPS), dtype=torch.bool) if present is None else present
    image = torch.ones(b, len(GROUPS), 8, 8) * there[:, :, None, None]
    key = torch.stack([torch.tensor([0, 0, i]) for i in range(b)])
    label = torch.zeros(b, 8, 8, dtype=torch.int64)
    return Batch(image, label, torch.ones(b, 8, 8, dtype=torch.bool), there, key, ("a",) * b)


def generators(b: int) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(b)]


def test_a_group_goes_with_all_that_is_read_from_it() -> None:
    drop, batch = bound(p=1.0), batch_of(60)
    changed = drop.apply(batch, drop.draw(generators(60), batch.image.shape))
    rows = {tuple(row) for row in changed.present.tolist()}
    assert rows == {
        (False, False, True, False, True),
        (True, True, False, False, True),
        (True, True, True, True, False),
    }
    assert torch.equal(changed.image.amax((2, 3)), changed.present.float())
    assert batch.present.all()


@given(
    st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6), st.sampled_from([1, 2, 9, 0.5])
)
def test_one_group_that_is_there_stays(there: list[list[bool]], most: float) -> None:
    names = ("s1", "s2", "dem")
    of_groups = torch.tensor(there)
    present = torch.stack([of_groups[:, [names.index(g) for g in own]].all(1) for own in GROUPS], 1)
    drop, batch = bound(p=1.0, most=most), batch_of(len(there), present)
    changed = drop.apply(batch, drop.draw(generators(len(there)), batch.image.shape))
    assert not (changed.present & ~present).any()
    single = [i for i, own in enumerate(GROUPS) if len(own) == 1]
    assert torch.equal(changed.present[:, single].any(1), present[:, single].any(1))


def test_without_probability_nothing_goes_and_nothing_is_needed() -> None:
    batch = batch_of(3)
    for drop in (bound(), GroupDrop().bind(PatchSpec((8, 8), (1.0, 1.0), None))):
        assert drop.apply(batch, drop.draw(generators(3), batch.image.shape)) is batch
    assert not bound(p=0.5).draw(generators(40), batch.image.shape)["share"].all()


@pytest.mark.parametrize("settings", [{"most": 0}, {"most": 1.5}, {"p": 2.0}])
def test_settings_that_drop_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"transform\.group_drop: got "):
        GroupDrop(**settings)


@pytest.mark.parametrize("groups", [(), ((), ()), (("s1",), ("s1",))])
def test_images_have_two_groups_at_least(groups: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(InputError, match=r"group_drop: got p=0\.2 with images of fewer than two groups; name them"):
        GroupDrop(p=0.2).bind(PatchSpec((8, 8), (1.0, 1.0), None, groups=groups))


def every(name: str) -> Compose:
    """A preset with each of its transforms on in each sample."""
    parts = {
        key: part for key, part in compose("train", [f"transform={name}"]).transform.items() if OmegaConf.is_dict(part)
    }
    parts = {key: part for key, part in parts.items() if not re.search("drop|first_stage", key)}
    words = [f"transform.{key}.{p}=1" for key, part in parts.items() for p in ("p", "channel_p") if p in part]
    cfg = compose("train", [f"transform={name}", "data=phantom_scenes", *words])
    waves = [500.0 + i for i in range(len(GROUPS))]
    made: Compose = instantiate(
        cfg.transform, patch_shape=[8, 8], spacing=[10.0, 10.0], wavelengths_nm=waves, groups=[list(g) for g in GROUPS]
    )
    return made


@pytest.mark.parametrize("name", ["scene", "image", "nnunet", "light"])
def test_absent_channels_stay_exactly_0_through_every_change(name: str) -> None:
    made = every(name)
    assert any("Noise" in type(t).__name__ for t in made.transforms.values())
    rng = torch.Generator().manual_seed(0)
    present = torch.rand(12, len(GROUPS), generator=rng) < 0.6
    present[:, 0] = True
    image = torch.randn(12, len(GROUPS), *made.window_shape, generator=rng) * present[:, :, None, None]
    key = torch.stack([torch.tensor([0, 0, i]) for i in range(12)])
    label = torch.zeros(12, *made.window_shape, dtype=torch.int64)
    valid = torch.ones(12, *made.window_shape, dtype=torch.bool)
    changed = made(Batch(image, label, valid, present, key, ("a",) * 12))
    assert not changed.present[~present].any()
    assert (changed.image[~changed.present] == 0).all()
    shown = changed.image.flatten(2).abs().amax(2) > 0
    assert torch.equal(shown, changed.present & (changed.valid.flatten(1).any(1))[:, None])


def test_groups_reach_the_transform() -> None:
    made = build_compose(patch_shape=(8, 8), spacing=(1, 1), groups=[["a"], ["b"]], drop=GroupDrop(p=1.0))
    drop = made.transforms["drop"]
    assert isinstance(drop, GroupDrop)
    assert drop.groups == (("a",), ("b",))
