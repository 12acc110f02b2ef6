import pytest
import torch
from torch import nn

from medseg.errors import InputError
from medseg.models.decoders.unet import UNet, crop
from medseg.models.encoders.encoder import Feature
from tests.models.decoders.test_contract import K, draw, spec

FLAT = [Feature(c, (s, s)) for c, s in ((3, 2), (4, 8), (5, 16))]
DEEP = [Feature(f.channels, (1, *f.stride)) for f in FLAT]


@pytest.mark.parametrize("upsampling", ["transposed", "linear"])
@pytest.mark.parametrize("norm", ["instance", "batch", "group"])
def test_images_are_volumes_of_depth_one(upsampling, norm):
    flat = UNet(spec((32, 48)), FLAT, base_features=4, upsampling=upsampling, norm=norm).eval()
    deep = UNet(spec((1, 32, 48)), DEEP, base_features=4, upsampling=upsampling, norm=norm).eval()
    with torch.no_grad():
        for name, target in deep.state_dict().items():
            source = flat.state_dict()[name]
            if target.ndim == 5:  # of a kernel of three, the middle meets the only slice
                target[:, :, target.shape[2] // 2] = source
            else:
                target.copy_(source)
        given, image = draw((32, 48), FLAT)
        found = deep([t[:, :, None] for t in given], image[:, :, None])
        torch.testing.assert_close(found[:, :, 0], flat(given, image))


def test_images_are_normalised_over_the_batch_and_volumes_each_alone():
    kinds = [
        {type(m) for m in UNet(spec(shape), features, base_features=4).modules() if "Norm" in type(m).__name__}
        for shape, features in (((32, 48), FLAT), ((1, 32, 48), DEEP))
    ]
    assert kinds == [{nn.BatchNorm2d}, {nn.InstanceNorm3d}]


def test_logits_step_by_step():
    decoder = UNet(spec((32, 48)), FLAT[:2], base_features=4, deep_supervision=False).eval()
    given, image = draw((32, 48), FLAT[:2])
    assert [(up.kernel_size, up.stride) for up in decoder.up] == [((2, 2), (2, 2)), ((4, 4), (4, 4))]
    with torch.no_grad():
        middle = decoder.blocks[1](torch.cat((decoder.up[1](given[1]), given[0]), dim=1))
        finest = decoder.blocks[0](torch.cat((decoder.up[0](middle), decoder.from_image(image)), dim=1))
        assert middle.shape[1] == 8
        torch.testing.assert_close(decoder(given, image), decoder.heads[0](finest))


@pytest.mark.parametrize(
    "shape, features, settings, shapes",
    [
        ((32, 48), FLAT, {}, [(32, 48), (16, 24), (4, 6)]),
        ((32, 48), FLAT, {"image_skip": False}, [(16, 24), (4, 6)]),
        ((32, 48), [Feature(3, (1, 1)), *FLAT], {}, [(32, 48), (16, 24), (4, 6)]),
        ((2, 8, 12), [Feature(3, (1, 2, 2)), Feature(3, (2, 4, 4))], {}, [(2, 8, 12), (2, 4, 6)]),
        ((42, 70), [Feature(3, (14, 14), tokens=True)] * 4, {}, [(42, 70), (12, 20), (6, 10), (3, 5)]),
        ((32, 48), FLAT[2:], {}, [(32, 48)]),
    ],
)
def test_training_gives_logits_of_every_level(shape, features, settings, shapes):
    decoder = UNet(spec(shape), features, base_features=2, **settings).train()
    assert [tuple(level.shape[2:]) for level in decoder(*draw(shape, features))] == shapes
    alone = UNet(spec(shape), features, base_features=2, deep_supervision=False, **settings).train()
    assert alone(*draw(shape, features)).shape == (2, K, *shapes[0])


def test_image_is_read_only_where_the_encoder_has_no_feature_of_its_resolution():
    assert UNet(spec((32, 48)), [Feature(3, (1, 1)), *FLAT], base_features=2).from_image is None
    assert UNet(spec((32, 48)), FLAT, base_features=2, image_skip=False).from_image is None
    assert isinstance(UNet(spec((32, 48)), FLAT, base_features=2).from_image, nn.Module)


def test_what_reaches_beyond_the_image_is_cut_from_the_far_end():
    grid = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert crop(grid, (3, 4))[0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_widths_double_up_to_their_bound():
    decoder = UNet(spec((32, 48)), FLAT, base_features=6, max_features=16)
    assert [head.in_channels for head in decoder.heads] == [6, 12, 16]


@pytest.mark.parametrize(
    "features, settings, told",
    [
        (FLAT, {"base_features": 0}, "model.decoder.base_features=0: expected 1 or more"),
        (FLAT, {"blocks": 0}, "model.decoder.blocks=0: expected 1 or more"),
        (FLAT, {"kernel": 2}, "model.decoder.kernel=2: expected an odd number"),
        (FLAT, {"upsampling": "nearest"}, "model.decoder.upsampling=nearest: expected transposed or linear"),
        (FLAT[:1], {"image_skip": False}, "got a single feature .* model.decoder.image_skip=true"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(features, settings, told):
    with pytest.raises(InputError, match=told) as caught:
        UNet(spec((32, 48)), features, **settings)
    assert "\n" not in str(caught.value)
