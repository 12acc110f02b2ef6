from dataclasses import replace

import pytest
import torch

from medseg.errors import InputError
from medseg.transforms.class_channel import ClassChannel
from medseg.transforms.compose import Compose, build_compose
from medseg.transforms.first_stage import FirstStageErrors
from medseg.transforms.intensity import Brightness, Noise
from medseg.transforms.mix import CutMix
from medseg.transforms.spatial import Mirror, Rotation, Scale
from medseg.transforms.turns import RandomRotate90

SHAPE = (12, 10, 8)
SIDES = (0, 2, 1)


def with_label_as_channel(batch):
    """The second channel holds the label, as if a first stage had found it."""
    return replace(batch, image=torch.cat([batch.image[:, :1], batch.label[:, None].float()], 1))


def compose(classes: int = 2, **settings) -> Compose:
    return build_compose(
        patch_shape=SHAPE, spacing=(1.0, 1.0, 1.0), lateral_axis=0, mirror_classes=SIDES, classes=classes, **settings
    )


def blocks(batch):
    """Labels of large cubes, so that few cells lie at a border."""
    label = torch.zeros_like(batch.label)
    label[:, 2:8, 1:7], label[:, 8:16, 5:, 3:9] = 1, 2
    return replace(batch, label=label)


def test_class_numbers_move_as_the_label_does(make_batch):
    batch = with_label_as_channel(blocks(make_batch((18, 15, 12), b=6, c=2)))
    made = compose(rotation=Rotation(p=0.7), scale=Scale(p=0.7), mirror=Mirror(p=0.5))(batch)
    numbers = made.image[:, -1]
    assert set(numbers.unique().tolist()) == {0.0, 1.0, 2.0}
    assert (numbers == made.label)[made.valid].float().mean() > 0.995  # the others tie between classes
    assert (numbers[~made.valid] == 0).all()


def test_a_mirror_across_the_body_exchanges_the_sides_of_class_numbers_exactly(make_batch):
    batch = with_label_as_channel(make_batch(SHAPE, b=8, c=2))
    made = compose(mirror=Mirror(p=0.5))
    flipped = made.draw(batch)["spatial"]["flip"][:, 0]
    assert flipped.any()
    assert not flipped.all()
    result = made(batch)
    assert torch.equal(result.image[:, -1].long(), result.label)


def test_intensity_changes_do_not_see_the_class_numbers(make_batch):
    batch = with_label_as_channel(make_batch(SHAPE, b=4, c=2))
    changes = {"noise": Noise(p=1.0), "brightness": Brightness(p=1.0)}
    changed = compose(**changes)(batch)
    alone = compose(0, **changes)(replace(batch, image=batch.image[:, :1], present=batch.present[:, :1]))
    assert torch.equal(changed.image[:, :1], alone.image), "the same draws as without the channel"
    assert torch.equal(changed.image[:, 1].long(), batch.label)


def test_errors_of_the_first_stage_change_the_numbers_alone(make_batch):
    batch = with_label_as_channel(blocks(make_batch(SHAPE, b=4, c=2)))
    made = compose(first_stage=FirstStageErrors(p=1.0, radius=2))
    changed = made(batch)
    assert not torch.equal(changed.image[:, 1], batch.image[:, 1])
    assert torch.equal(changed.image[:, 0], batch.image[:, 0])
    assert torch.equal(changed.label, batch.label)
    assert torch.equal(made(batch).image, changed.image), "a function of the key alone"
    assert set(made.record(batch)[0]["first_stage"]) == {"operation", "radius", "classes", "removed"}
    assert "first_stage" not in compose(0, first_stage=FirstStageErrors(p=1.0)).draw(make_batch(SHAPE))


def test_numbers_become_indicators_and_come_back(make_batch):
    batch = with_label_as_channel(make_batch(SHAPE, b=2, c=2))
    channel = ClassChannel(2)
    indicated = channel.indicated(batch)
    assert indicated.image.shape[1] == 3
    assert torch.equal(indicated.image[:, 1:].sum(1) > 0, batch.label > 0)
    quantities, numbers = channel.split(indicated)
    assert torch.equal(numbers, batch.label)
    back = channel.joined(quantities, numbers)
    assert torch.equal(back.image, batch.image)
    assert torch.equal(back.present, batch.present)


@pytest.mark.parametrize("moving", [CutMix(p=0.5), RandomRotate90(p=0.5)])
def test_what_moves_cells_of_the_image_alone_is_refused(moving):
    with pytest.raises(InputError, match=r"transform\.mine: moves cells of the image, .* transform\.mine=null"):
        compose(mine=moving)
    compose(0, mine=moving)
