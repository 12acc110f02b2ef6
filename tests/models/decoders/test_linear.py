import pytest
import torch

from medseg.errors import InputError
from medseg.models.decoders.linear import Linear
from medseg.models.encoders.encoder import Feature
from tests.models.decoders.test_contract import K, draw, spec

PYRAMID = [Feature(3, (4, 4)), Feature(5, (8, 8))]


def logits_by_hand(decoder, feature):
    scaled = feature * decoder.norm.weight[:, None, None] / (1 + 1e-5) ** 0.5 + decoder.norm.bias[:, None, None]
    flat = decoder.head.weight[:, :, 0, 0] @ scaled.flatten(2) + decoder.head.bias[:, None]
    return flat.unflatten(2, feature.shape[2:])


@pytest.mark.parametrize("level", [0, -1])
def test_logits_are_a_matrix_product(level):
    decoder = Linear(spec((16, 24)), PYRAMID, level=level).eval()
    with torch.no_grad():
        decoder.norm.weight.uniform_(1, 2)
        decoder.norm.bias.uniform_(-1, 1)
        given, image = draw((16, 24), PYRAMID)
        torch.testing.assert_close(decoder(given, image), logits_by_hand(decoder, given[level]))


def test_all_features_are_brought_to_the_finest():
    decoder = Linear(spec((16, 24)), PYRAMID, level="all").eval()
    given, image = draw((16, 24), PYRAMID)
    with torch.no_grad():
        coarse = torch.nn.functional.interpolate(given[1], scale_factor=2, mode="bilinear")
        torch.testing.assert_close(decoder(given, image), logits_by_hand(decoder, torch.cat((given[0], coarse), 1)))


def test_tokens_are_read_in_row_major_order_without_those_that_have_no_place():
    feature = Feature(4, (8, 8), tokens=True, prefix=3)
    decoder = Linear(spec((16, 24)), [feature]).eval()
    (tokens,), image = draw((16, 24), [feature])
    with torch.no_grad():
        found = decoder([tokens], image)
        assert found.shape == (2, K, 2, 3)
        expected = logits_by_hand(decoder, tokens[:, 3 + 4, :, None, None])  # row 1, column 1
    torch.testing.assert_close(found[:, :, 1, 1], expected[:, :, 0, 0])


def test_all_of_a_pyramid_and_the_last_of_one_resolution_are_read_unless_it_is_said():
    same = [Feature(3, (8, 8), tokens=True)] * 3
    assert list(Linear(spec((16, 24)), PYRAMID).levels) == [0, 1]
    assert list(Linear(spec((16, 24)), same).levels) == [-1]


@pytest.mark.parametrize("level", [2, -3, "every"])
def test_level_that_is_not_there_is_refused(level):
    with pytest.raises(InputError, match=rf"model.decoder.level={level}: the encoder has 2 features; expected -2 to 1"):
        Linear(spec((16, 24)), PYRAMID, level=level)


def test_a_single_cell_is_not_normalised_over_a_batch_of_one():
    decoder = Linear(spec((8, 8)), PYRAMID, level=-1).train()
    with pytest.raises(
        InputError, match=r"decoder Linear: got a batch of 1 image of shape \(8, 8\) .* plan.batch_size=2$"
    ):
        decoder(*draw((8, 8), PYRAMID, batch=1))
