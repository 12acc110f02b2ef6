import pytest
import torch
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead

from medseg.errors import InputError
from medseg.models.decoders.dpt import DPT
from medseg.models.encoders.encoder import Feature
from tests.models.decoders.copying import copy_in_order, scramble
from tests.models.decoders.test_contract import K, draw, spec

TOKENS = [Feature(6, (16, 16), tokens=True, prefix=2)] * 4
CHANNELS = [4, 5, 6, 7]


@pytest.mark.parametrize("readout", ["project", "ignore"])
def test_logits_are_those_of_smp(readout):
    theirs = DPTDecoder([6] * 4, [16] * 4, True, "cat" if readout == "project" else "ignore", CHANNELS, 8)
    scramble(theirs).eval()
    head = scramble(DPTSegmentationHead(8, K, upsampling=1)).eval()
    ours = DPT(spec((32, 96)), TOKENS, channels=CHANNELS, fusion_channels=8, readout=readout).eval()
    pairs = [(ours.reassemble, theirs.reassemble_blocks), (ours.smooth, head.head[:3]), (ours.head, head.head[4])]
    for fuse, other in zip(ours.fuse, theirs.fusion_blocks, strict=True):
        pairs += [(fuse.before, other.residual_conv_block1), (fuse.after, other.residual_conv_block2)]
        pairs += [(fuse.project, other.project)]
    if readout == "project":
        pairs += [(ours.readout, theirs.projection_blocks)]
    copy_in_order(pairs)
    given, image = draw((32, 96), TOKENS)
    grids = [t[:, 2:].transpose(1, 2).reshape(2, 6, 2, 6) for t in given]
    with torch.no_grad():
        expected = head(theirs(grids, [t[:, :2] for t in given]))
        found = ours(given, image)
    assert found.shape == (2, K, 16, 48)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(
    "shape, features, expected",
    [
        ((42, 70), [Feature(4, (14, 14), tokens=True)] * 4, (24, 40)),  # 3 x 5 tokens, 4 times, then 2 times finer
        ((32, 48), [Feature(4, (4, 4))] * 3, (32, 48)),  # no level finer than 2 cells of the image
        ((32, 48), [Feature(4, (2, 2)), Feature(4, (4, 4)), Feature(4, (32, 16))], (32, 48)),
        ((32, 48), [Feature(4, (1, 1)), Feature(4, (4, 4))], (32, 48)),  # never beyond the image
        ((32, 48), [Feature(4, (8, 8))], (8, 12)),
        ((4, 32, 48), [Feature(4, (1, 16, 16), tokens=True)] * 4, (4, 16, 24)),
    ],
)
def test_resolution_of_the_logits(shape, features, expected):
    decoder = DPT(spec(shape), features, channels=[4], fusion_channels=4).eval()
    with torch.no_grad():
        assert decoder(*draw(shape, features)).shape[2:] == expected


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"readout": "cat"}, "model.decoder.readout=cat: expected project or ignore"),
        ({"channels": []}, r"model.decoder.channels=\[\]: expected one width or more"),
        ({"fusion_channels": 0}, "model.decoder.fusion_channels=0: expected 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        DPT(spec((32, 96)), TOKENS, **settings)
