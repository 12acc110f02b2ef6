"""Transforms of time series: space alike on every date, light of each its own, dates and bands that go."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from medseg.errors import InputError
from medseg.hydra_app.compose import compose as composed
from medseg.labels import IGNORE
from medseg.sample import Batch
from medseg.transforms.compose import Compose, fold, unfold
from medseg.transforms.dates import DateDrop
from medseg.transforms.filters import Blur
from medseg.transforms.intensity import Brightness, Contrast, Gamma, Noise
from medseg.transforms.mix import CutMix
from medseg.transforms.spatial import Elastic, Mirror, Rotation, Scale, Spatial
from medseg.transforms.spectral import ChannelDropout, Gain, Haze
from medseg.transforms.transform import PatchSpec, Transform
from medseg.transforms.turns import RandomRotate90

B, T, C = 3, 4, 2
SPACE = (20, 24)
Make = Callable[..., Batch]


@pytest.fixture
def series(make_batch: Make) -> Batch:
    """Three series of four dates; the first lacks its last date, the second has a hole on one date."""
    flat = make_batch(SPACE, b=B, c=T * C)
    image, present = flat.image.unflatten(1, (T, C)), flat.present.unflatten(1, (T, C)).clone()
    present[0, -1] = False
    image = image * present[..., None, None]
    image[1, 2, :, 3:8, 4:9] = 0
    days = 18000 + torch.arange(T).repeat(B, 1) * 30
    return replace(flat, image=image, present=present, days=days * present.any(2))


def spatial(**changed: Any) -> Spatial:
    settings: dict[str, Any] = {"rotation": Rotation(p=1), "scale": Scale(p=1), "elastic": Elastic(p=1)}
    return Spatial(patch_shape=(16, 16), spacing=(1.0, 1.0), **(settings | changed))


def compose(*transforms: Transform, space: Spatial | None = None, wavelengths: tuple[float, ...] = ()) -> Compose:
    still = spatial(rotation=Rotation(p=0), scale=Scale(p=0), elastic=Elastic(p=0), mirror=Mirror(p=0))
    return Compose(space or still, {str(i): t for i, t in enumerate(transforms)}, wavelengths, T)


def test_folding_is_undone(series: Batch) -> None:
    flat = fold(series)
    assert flat.image.shape == (B, T * C, *SPACE)
    assert torch.equal(flat.image[:, 3], series.image[:, 1, 1])
    back = unfold(flat, series.days)
    for name, value in vars(series).items():
        found = getattr(back, name)
        assert torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value


@pytest.mark.parametrize("turns", [None, RandomRotate90()])
def test_space_changes_alike_on_every_date(turns: RandomRotate90 | None, series: Batch) -> None:
    transform = compose(*([turns] if turns else []), space=spatial())
    found = transform(series)
    assert found.image.shape == (B, T, C, 16, 16)
    for date in range(T):
        single = replace(series, image=series.image[:, date], present=series.present[:, date], days=None)
        alone = Compose(spatial(), {"0": turns} if turns else {})(single)
        torch.testing.assert_close(found.image[:, date], alone.image)
        assert torch.equal(found.label, alone.label)


@pytest.mark.parametrize(
    "transform",
    [Noise(p=1, low=0.05), Brightness(p=1), Contrast(p=1), Gamma(p=1), Gain(p=1), Blur(p=1, channel_p=1),
     Haze(p=1, wavelengths_nm=(500.0, 800.0))],
    ids=lambda t: type(t).__name__,
)  # fmt: skip
def test_every_date_has_a_light_of_its_own(transform: Transform, series: Batch) -> None:
    whole = compose(transform, wavelengths=(500.0, 800.0))
    params = whole.draw(series)["0"]
    assert {value.shape[:2] for value in params.values()} == {(B, T)}
    for value in params.values():
        flat = value.reshape(B, T, -1)
        assert (np.ptp(flat, axis=1) > 0).any()
    found = whole(series)
    hole = found.image[1, 2, :, 1:6, :5]  # of the centre crop
    assert (hole == 0).all()
    assert (found.image[0, -1] == 0).all()
    assert torch.equal(found.label, series.label[:, 2:18, 4:20])


def test_statistics_of_light_leave_out_cells_without_data(series: Batch) -> None:
    params = {"factor": np.full((B, T, C), 1.5)}
    found = Contrast(p=1).apply(series, params)
    seen = (series.image[1, 2] != 0).all(0)
    cells = series.image[1, 2, 0][seen]
    expected = ((cells - cells.mean()) * 1.5 + cells.mean()).clamp(cells.min(), cells.max())
    torch.testing.assert_close(found.image[1, 2, 0][seen], expected)


def test_dropped_bands_go_on_every_date(series: Batch) -> None:
    found = compose(ChannelDropout(p=1, most=1))(series)
    gone = ~found.present & series.present
    assert gone[2].any(1).all()
    assert (gone[2] == gone[2][:1]).all()
    assert gone[2, 0].sum() == 1
    assert (found.image[~found.present] == 0).all()


@pytest.mark.parametrize(("most", "largest"), [(1, 1), (2, 2), (0.5, 2), (9, 3)])
def test_dates_go_and_one_stays(most: float, largest: int, series: Batch) -> None:
    transform, left = compose(DateDrop(p=1, most=most)), []
    for step in range(40):
        batch = replace(series, key=torch.tensor([[0, step, i] for i in range(B)]))
        found = transform(batch)
        assert found.days is not None
        dates = found.present.all(2)
        assert torch.equal(dates, found.present.any(2))
        assert not (dates & ~series.present.any(2)).any()
        assert (found.image[~dates] == 0).all()
        assert torch.equal(found.days, batch.days * dates)
        left.append(dates.sum(1))
    counts = torch.stack(left)
    assert sorted(set((T - counts[:, 1]).tolist())) == list(range(1, largest + 1))
    assert counts.min() >= 1


def test_nothing_goes_where_nothing_was_chosen(series: Batch) -> None:
    found = compose(DateDrop(p=0))(series)
    assert torch.equal(found.present, series.present)


def test_what_is_drawn_does_not_depend_on_neighbours(series: Batch) -> None:
    transform = compose(Gain(p=1), DateDrop(p=1), ChannelDropout(p=1), space=spatial())
    whole, last = (
        transform(series),
        transform(
            replace(series, **{n: v[2:] for n, v in vars(series).items() if isinstance(v, (torch.Tensor, tuple))})
        ),
    )
    for name in ("image", "present", "days", "label"):
        assert torch.equal(getattr(last, name), getattr(whole, name)[2:])


def test_what_a_series_cannot_bear_is_told() -> None:
    spec = PatchSpec((16, 16), (1.0, 1.0), None)
    with pytest.raises(InputError, match="the data has no dates; switch it off"):
        DateDrop(p=0.5).bind(spec)
    with pytest.raises(InputError, match="the days of two series differ"):
        CutMix(p=0.5).bind(replace(spec, dates=3))
    with pytest.raises(InputError, match=r"transform.date_drop: got most=1.5, expected a whole number of dates"):
        DateDrop(p=0.5, most=1.5)
    assert DateDrop().bind(spec) == DateDrop()


@pytest.mark.parametrize("option", ["scene", "image", "nnunet", "light", "none"])
def test_every_set_of_transforms_takes_series(option: str, series: Batch) -> None:
    cfg = composed("train", [f"transform={option}"])
    made = instantiate(cfg.transform, patch_shape=(16, 16), spacing=(1.0, 1.0), wavelengths_nm=[500.0, 800.0], dates=T)
    found = made(series)
    assert found.image.shape == (B, T, C, 16, 16)
    assert found.image.isfinite().all()
    assert (found.label[~found.valid] == IGNORE).all() or found.valid.all()
    assert torch.equal(found.days, series.days)
    assert len(made.record(series)) == B
