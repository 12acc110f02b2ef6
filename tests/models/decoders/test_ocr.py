import pytest
import torch

from medseg.errors import InputError
from medseg.losses.deep_supervision import level_weights
from medseg.models.decoders.ocr import OCR, attention, region_means
from medseg.models.encoders.encoder import Feature
from tests.models.decoders.copying import scramble
from tests.models.decoders.test_contract import K, draw, spec

PYRAMID = [Feature(c, (s, s)) for c, s in ((6, 4), (8, 8))]


def build(**settings):
    return scramble(OCR(spec((16, 24)), PYRAMID, channels=8, key_channels=4, **settings)).eval()


def test_mean_of_a_region_known_for_sure_is_that_of_its_cells():
    cells = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    label = torch.randint(K, (2, 3, 4), generator=torch.Generator().manual_seed(1))
    sure = 1e4 * torch.nn.functional.one_hot(label, K).movedim(-1, 1).float()
    found = region_means(cells, sure)
    for b in range(2):
        for k in range(K):
            torch.testing.assert_close(found[b, :, k], cells[b][:, label[b] == k].mean(1))


def test_mean_of_an_undecided_region_is_that_of_all_cells():
    cells = torch.randn(2, 5, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    found = region_means(cells, torch.full((2, 1, 3, 4, 2), -7.0))
    torch.testing.assert_close(found[..., 0], cells.mean((2, 3, 4)))


def test_attention_is_shared_out_among_the_regions():
    query, key = torch.randn(2, 4, 30), torch.randn(2, 4, K)
    found = attention(query, key)
    torch.testing.assert_close(found.sum(2), torch.ones(2, 30))
    scores = torch.tensor([(query[1, :, 7] * key[1, :, k]).sum() / 2 for k in range(K)])
    torch.testing.assert_close(found[1, 7], scores.exp() / scores.exp().sum())


def test_logits_by_the_published_steps():
    decoder, (given, image) = build(), draw((16, 24), PYRAMID)
    with torch.no_grad():
        weight = torch.cat([p.weight for p in decoder.project], dim=1)  # one linear map of the concatenation
        enlarged = torch.nn.functional.interpolate(given[1], scale_factor=2, mode="bilinear")
        merged = torch.nn.functional.conv2d(torch.cat((given[0], enlarged), dim=1), weight)
        regions = decoder.regions(merged).flatten(2).softmax(2)
        cells = decoder.cells(merged)
        means = torch.einsum("bkn,bcn->bck", regions, cells.flatten(2))[..., None]
        query, key, value = decoder.query(cells).flatten(2), decoder.key(means), decoder.value(means)
        relation = (torch.einsum("bcn,bck->bnk", query, key[..., 0]) / 4**0.5).softmax(2)
        context = torch.einsum("bnk,bck->bcn", relation, value[..., 0]).reshape(2, 4, 4, 6)
        expected = decoder.head(decoder.fuse(torch.cat((decoder.context(context), cells), dim=1)))
        torch.testing.assert_close(decoder(given, image), expected, rtol=1e-4, atol=1e-4)


def test_classes_permute():
    decoder, (given, image) = build(), draw((16, 24), PYRAMID)
    with torch.no_grad():
        before = decoder(given, image)
        for head in (decoder.head, decoder.regions[1]):
            head.weight.copy_(head.weight[[2, 0, 1]])
            head.bias.copy_(head.bias[[2, 0, 1]])
        torch.testing.assert_close(decoder(given, image), before[:, [2, 0, 1]], rtol=1e-4, atol=1e-4)


def test_regions_are_supervised_in_training_with_half_the_weight():
    decoder, (given, image) = build().train(), draw((16, 24), PYRAMID)
    logits, regional, coarse = decoder(given, image)
    assert logits.shape == regional.shape == (2, K, 4, 6)
    torch.testing.assert_close(coarse, torch.nn.functional.avg_pool2d(regional, 2))
    assert level_weights(3) == pytest.approx((2 / 3, 1 / 3, 0))


def test_without_supervision_the_regions_still_learn():
    decoder, (given, image) = build(auxiliary=False).train(), draw((16, 24), PYRAMID)
    decoder(given, image).square().mean().backward()
    assert decoder.regions[1].bias is None
    assert decoder.regions[1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("settings", [{"channels": 0}, {"key_channels": 0}, {"dropout": 1.5}, {"norm": "none"}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=r"model\.decoder\.\w+=.*: expected"):
        OCR(spec((16, 24)), PYRAMID, **settings)
