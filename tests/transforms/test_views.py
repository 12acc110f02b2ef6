"""Two views of one patch, and the map that carries values of the weak one onto the strong one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import IGNORE
from medseg.sample import Batch
from medseg.transforms.compose import Compose, build_compose
from medseg.transforms.intensity import Noise
from medseg.transforms.mix import CutMix
from medseg.transforms.spatial import Elastic, Mirror, Rotation, Scale
from medseg.transforms.turns import RandomRotate90
from medseg.transforms.views import Views, strong_key

AFFINE: dict[str, Any] = {"rotation": Rotation(p=0.7), "scale": Scale(p=0.7, low=0.8), "mirror": Mirror()}
N = 6


def made(shape: Sequence[int], spacing: Sequence[float] | None = None, **settings: Any) -> Compose:
    return build_compose(patch_shape=shape, spacing=spacing or [1.0] * len(shape), **({"window_limit": 4.0} | settings))


def windows(views: Views, image: Tensor | None = None, n: int = N) -> Batch:
    """Windows of a linear function of the place, which linear interpolation gives exactly."""
    shape = views.window_shape
    axes = torch.meshgrid(*[torch.linspace(0, 1, size) for size in shape], indexing="ij")
    slope = 0.2 * sum((a + 1) * axis for a, axis in enumerate(axes))
    image = torch.stack([slope, *axes]).expand(n, -1, *shape).clone() if image is None else image
    return Batch(
        image=image,
        label=torch.full((n, *shape), IGNORE, dtype=torch.int16),
        valid=torch.ones(n, *shape, dtype=torch.bool),
        present=torch.ones(n, image.shape[1], dtype=torch.bool),
        key=torch.tensor([[5, 7, i] for i in range(n)]),
        cases=("a",) * n,
    )


@pytest.mark.parametrize(
    "shape, spacing, settings",
    [
        ((24, 30), None, AFFINE),
        ((24, 24), (1.0, 1.2), AFFINE | {"turns": RandomRotate90(stretch=1.3)}),
        ((12, 14, 16), None, AFFINE),
        ((6, 16, 18), (5.0, 1.0, 1.0), AFFINE),
        ((16, 16, 16), None, AFFINE | {"turns": RandomRotate90()}),
        ((24, 24), None, AFFINE | {"turns": RandomRotate90(), "elastic": Elastic(p=0.8, high=2.0)}),
    ],
)
def test_values_of_the_weak_view_lie_where_the_strong_view_shows_them(
    shape: tuple[int, ...], spacing: Sequence[float] | None, settings: dict[str, Any]
) -> None:
    both = made(shape, spacing, **settings)
    views = Views(both, both)
    weak = views(windows(views))
    assert weak.strong is not None
    carried, mask = weak.strong.carry(weak.image)
    strong = weak.strong.batch
    assert not torch.equal(weak.image, strong.image)
    shown = mask[:, None].expand_as(carried)
    assert 0.3 < float(mask.float().mean()) < 1, "some cells of the strong view have no source"
    torch.testing.assert_close(carried[shown], strong.image[shown], rtol=0, atol=1e-5)
    assert not carried[~shown].any()


def test_mirrors_and_turns_copy_probabilities_and_exchange_sides() -> None:
    mirror_classes = (0, 2, 1, 3)
    both = made((8, 8), mirror=Mirror(), turns=RandomRotate90(), lateral_axis=0, mirror_classes=mirror_classes)
    views = Views(both, both, mirror_classes)
    given = windows(views, n=16)
    given.label = torch.from_numpy(np.random.default_rng(0).integers(-1, 4, given.label.shape).astype(np.int16))
    weak = views(given)
    assert weak.strong is not None
    probability = torch.nn.functional.one_hot(weak.label.clamp(min=0), 4).movedim(-1, 1).float()
    carried, mask = weak.strong.carry(probability)
    label = weak.strong.batch.label
    assert mask.all()
    assert any(not torch.equal(a, b) for a, b in zip(weak.label, label, strict=True))
    counted = label != IGNORE
    assert torch.equal(carried.argmax(1)[counted], label[counted])
    without = replace(weak.strong.carry, mirror_outputs=None)  # type: ignore[type-var]
    assert not torch.equal(without(probability)[0], carried), "some sample shows left and right exchanged"


def test_cells_without_data_have_no_value() -> None:
    views = Views(made((8, 8), mirror=Mirror()), made((8, 8), rotation=Rotation(p=1.0)))
    given = windows(views)
    given.valid[:, : given.valid.shape[1] // 2] = False
    given.image[~given.valid[:, None].expand_as(given.image)] = float("nan")
    weak = views(given)
    assert weak.strong is not None
    carried, mask = weak.strong.carry(weak.image)
    assert torch.isfinite(carried).all()
    assert mask.any()
    assert not (mask & ~weak.strong.batch.valid).any()
    torch.testing.assert_close(
        carried.movedim(1, -1)[mask], weak.strong.batch.image.movedim(1, -1)[mask], rtol=0, atol=1e-5
    )


def test_views_are_functions_of_the_key() -> None:
    views = Views(made((12, 12), **AFFINE), made((12, 12), **AFFINE, noise=Noise(p=1.0)))
    whole = windows(views)
    alone = replace(
        whole, image=whole.image[2:3], label=whole.label[2:3], valid=whole.valid[2:3], present=whole.present[2:3],
        key=whole.key[2:3], cases=("a",),
    )  # fmt: skip
    first, second, one = views(whole), views(whole), views(alone)
    assert first.strong is not None
    assert second.strong is not None
    assert one.strong is not None
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.strong.batch.image, second.strong.batch.image)
    assert torch.equal(first.image[2:3], one.image)
    assert torch.equal(first.strong.batch.image[2:3], one.strong.batch.image)
    keys = strong_key(whole.key)
    assert torch.equal(keys[:, 1:], whole.key[:, 1:])
    assert (keys[:, 0] >= 0).all()
    assert len(set(keys[:, 0].tolist())) == N


def test_the_weak_view_is_the_spatial_part_drawn_as_before() -> None:
    with_noise = made((12, 12), **AFFINE, noise=Noise(p=1.0), turns=RandomRotate90(), elastic=Elastic(p=1.0))
    without = made((12, 12), **AFFINE, noise=None, turns=RandomRotate90())
    views = Views(with_noise, with_noise)
    given = windows(views)
    assert torch.equal(views(given).image, without(given).image)


def test_pasted_patches_are_refused() -> None:
    with pytest.raises(InputError, match=r"^transform\.cutmix: pastes parts .* by cutmix: null$"):
        Views(made((8, 8)), made((8, 8), cutmix=CutMix(p=0.5)))
    Views(made((8, 8), cutmix=CutMix(p=0.5)), made((8, 8), cutmix=CutMix(p=0.0)))


def test_values_of_another_shape_are_refused() -> None:
    views = Views(made((8, 8)), made((8, 8)))
    weak = views(windows(views))
    assert weak.strong is not None
    with pytest.raises(ValueError, match=r"got values of \(4, 4\) cells"):
        weak.strong.carry(torch.zeros(N, 2, 4, 4))
