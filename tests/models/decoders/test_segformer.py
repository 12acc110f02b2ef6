import pytest
import torch
from torch.nn.functional import interpolate
from transformers import SegformerConfig
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from medseg.errors import InputError
from medseg.models.decoders.segformer import SegFormer
from medseg.models.encoders.encoder import Feature
from tests.models.decoders.copying import copy_in_order, scramble
from tests.models.decoders.test_contract import K, draw, spec

PYRAMID = [Feature(c, (s, s)) for c, s in ((6, 4), (8, 8), (12, 16), (16, 32))]


def test_logits_are_those_of_transformers():
    sizes = [f.channels for f in PYRAMID]
    config = SegformerConfig(hidden_sizes=sizes, decoder_hidden_size=8, num_labels=K)
    theirs = scramble(SegformerDecodeHead(config)).eval()
    ours = SegFormer(spec((64, 96)), PYRAMID, channels=8).eval()
    copy_in_order(
        [
            (ours.project, theirs.linear_projections),
            (ours.fuse[0], theirs.linear_fuse),
            (ours.fuse[1], theirs.batch_norm),
            (ours.head, theirs.classifier),
        ]
    )
    given, image = draw((64, 96), PYRAMID)
    with torch.no_grad():
        torch.testing.assert_close(ours(given, image), theirs(given), rtol=1e-4, atol=1e-4)


def test_volumes_by_a_few_lines_of_their_own():
    features = [Feature(3, (1, 2, 2)), Feature(4, (2, 4, 4))]
    decoder = scramble(SegFormer(spec((4, 8, 12)), features, channels=5, norm="group")).eval()
    given, image = draw((4, 8, 12), features)
    with torch.no_grad():
        fine, coarse = (
            torch.einsum("oi,bixyz->boxyz", p.weight[:, :, 0, 0, 0], g) + p.bias[:, None, None, None]
            for p, g in zip(decoder.project, given, strict=True)
        )
        stacked = torch.cat((interpolate(coarse, scale_factor=2, mode="trilinear"), fine), dim=1)
        mixed = torch.einsum("oi,bixyz->boxyz", decoder.fuse[0].weight[:, :, 0, 0, 0], stacked)
        found = decoder.fuse[1](mixed).clamp_min(0)
        expected = torch.einsum("oi,bixyz->boxyz", decoder.head.weight[:, :, 0, 0, 0], found)
        expected += decoder.head.bias[:, None, None, None]
        torch.testing.assert_close(decoder(given, image), expected)


@pytest.mark.parametrize("settings", [{"channels": 0}, {"dropout": -0.1}, {"norm": "instance"}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=r"model\.decoder\.\w+=.*: expected"):
        SegFormer(spec((64, 96)), PYRAMID, **settings)
