import pytest
import torch
from transformers import UperNetConfig
from transformers.models.upernet.modeling_upernet import UperNetHead

from medseg.errors import InputError
from medseg.models.decoders.upernet import UPerNet
from medseg.models.encoders.encoder import Feature
from tests.models.decoders.copying import copy_in_order, scramble
from tests.models.decoders.test_contract import K, draw, spec

PYRAMID = [Feature(c, (s, s)) for c, s in ((6, 4), (8, 8), (12, 16))]


def test_logits_are_those_of_transformers():
    config = UperNetConfig(hidden_size=8, num_labels=K, pool_scales=[1, 2, 3])
    theirs = scramble(UperNetHead(config, [f.channels for f in PYRAMID])).eval()
    ours = UPerNet(spec((48, 80)), PYRAMID, channels=8, pool=[1, 2, 3]).eval()
    copy_in_order(
        [
            (ours.pools, theirs.psp_modules),
            (ours.context, theirs.bottleneck),
            (ours.lateral, theirs.lateral_convs),
            (ours.smooth, theirs.fpn_convs),
            (ours.fuse, theirs.fpn_bottleneck),
            (ours.head, theirs.classifier),
        ]
    )
    given, image = draw((48, 80), PYRAMID)
    with torch.no_grad():
        torch.testing.assert_close(ours(given, image), theirs(given), rtol=1e-4, atol=1e-4)


def test_a_single_feature_is_enough():
    given, image = draw((48, 80), PYRAMID[2:])
    with torch.no_grad():
        assert UPerNet(spec((48, 80)), PYRAMID[2:], channels=8).eval()(given, image).shape == (2, K, 3, 5)


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"channels": 0}, "model.decoder.channels=0: expected 1 or more"),
        ({"pool": []}, r"model.decoder.pool=\[\]: expected one size or more"),
        ({"pool": [1, 0]}, r"model.decoder.pool=\[1, 0\]: expected one size or more, of 1 cell or more"),
        ({"dropout": 1.0}, "model.decoder.dropout=1.0: expected 0 or more and less than 1"),
        ({"norm": "layer"}, "model.decoder.norm=layer: expected batch or group"),
    ],
)
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        UPerNet(spec((48, 80)), PYRAMID, **settings)
