import pytest
import torch
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerSinePositionEmbedding,
    Mask2FormerTransformerModule,
)

from medseg.errors import InputError
from medseg.models.decoders.mask_transformer import MaskTransformer, sum_queries
from medseg.models.decoders.queries import Queries, sine_positions
from medseg.models.encoders.encoder import Feature
from tests.models.decoders.copying import copy_in_order, scramble
from tests.models.decoders.test_contract import K, draw, spec

PYRAMID = [Feature(c, (s, s)) for c, s in ((6, 4), (8, 8), (12, 16))]
SMALL = {"channels": 8, "queries": 4, "layers": 2, "heads": 2, "feedforward": 8}


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def test_logits_of_cells_are_the_literal_sum_over_queries():
    classes, masks = 3 * noise(2, 5, K + 1), 3 * noise(2, 5, 3, 4, 2)
    share = classes.double().softmax(2)[..., :K]
    expected = torch.einsum("bqk,bqxyz->bkxyz", share, masks.double().sigmoid()).log()
    torch.testing.assert_close(sum_queries(classes, masks), expected.float())


def test_cells_that_no_query_claims_keep_finite_logits_and_gradients():
    classes, masks = noise(1, 2, K + 1).requires_grad_(), torch.full((1, 2, 1), -1e4).requires_grad_()
    logits = sum_queries(classes, masks)
    share = classes.detach().double().softmax(2)[..., :K].sum(1).log()
    torch.testing.assert_close(logits[..., 0].double(), share - 1e4)
    logits.sum().backward()
    assert classes.grad.isfinite().all()
    torch.testing.assert_close(masks.grad.sum(), torch.tensor(float(K)))


def test_a_class_that_no_query_means_keeps_a_finite_logit():
    classes = torch.tensor([[[500.0, 0.0, 0.0]]]).requires_grad_()
    logits = sum_queries(classes, torch.zeros(1, 1, 1))
    assert logits.isfinite().all()
    logits.sum().backward()
    assert classes.grad.isfinite().all()


def test_queries_are_those_of_transformers():
    config = Mask2FormerConfig(
        hidden_dim=16, mask_feature_size=16, num_attention_heads=2, dim_feedforward=24, num_queries=5,
        decoder_layers=5, dropout=0.0,
    )  # fmt: skip
    theirs = scramble(Mask2FormerTransformerModule(16, config)).eval()
    ours = Queries(16, 5, 3, layers=4, heads=2, feedforward=24, masked=True, dropout=0.0).eval()
    decoder = theirs.decoder
    pairs = [(ours.norm, decoder.layernorm), (ours.mask, decoder.mask_predictor.mask_embedder)]
    for layer, other in zip(ours.layers, decoder.layers, strict=True):
        pairs += [(layer.cross, other.cross_attn), (layer.own.out_proj, other.self_attn.out_proj)]
        pairs += [(layer.feedforward[0], other.fc1), (layer.feedforward[3], other.fc2)]
        norms = (other.cross_attn_layer_norm, other.self_attn_layer_norm, other.final_layer_norm)
        pairs += list(zip(layer.norms, norms, strict=True))
        parts = [getattr(other.self_attn, f"{name}_proj") for name in "qkv"]
        with torch.no_grad():
            layer.own.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            layer.own.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    copy_in_order(pairs)
    with torch.no_grad():
        ours.start.copy_(theirs.queries_features.weight)
        ours.place.copy_(theirs.queries_embedder.weight)
        ours.level.copy_(theirs.level_embed.weight)
        levels, cells = [noise(2, 16, 2, 3), noise(2, 16, 4, 6), noise(2, 16, 8, 12)], noise(2, 16, 16, 24)
        expected = theirs(levels, cells)
        queries, masks = ours(levels, cells)
    assert ours.block(masks, (4, 6)).float().mean() > 0.05  # so that masked attention is put to the test
    torch.testing.assert_close(queries, expected.intermediate_hidden_states[-1].transpose(0, 1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(masks, expected.masks_queries_logits[-1], rtol=1e-3, atol=1e-3)


def test_positions_are_those_of_transformers_and_serve_volumes():
    theirs = Mask2FormerSinePositionEmbedding(8, normalize=True)((1, 16, 5, 7), "cpu", torch.float32)
    torch.testing.assert_close(sine_positions((5, 7), 16), theirs[0].flatten(1).T, rtol=1e-4, atol=1e-4)
    found = sine_positions((2, 3, 4), 16).reshape(2, 3, 4, 16)
    torch.testing.assert_close(found[1, 2, :, 8:12], sine_positions((4, 1), 8)[:, :4])
    assert not found[..., 12:].any()
    assert len({tuple(row.tolist()) for row in found.reshape(-1, 16)}) == 24


def test_queries_look_at_their_own_mask_unless_it_is_empty():
    queries = Queries(8, 2, 1, layers=1, heads=2, feedforward=8, masked=True, dropout=0.0)
    masks = torch.tensor([[[[1.0, -1.0]], [[-1.0, -2.0]]]])
    assert queries.block(masks, (1, 2)).tolist() == 2 * [[[False, True], [False, False]]]


def test_without_masks_all_cells_are_attended_to():
    given, image = draw((16, 32), PYRAMID)
    torch.manual_seed(0)
    masked = MaskTransformer(spec((16, 32)), PYRAMID, **SMALL).eval()
    free = MaskTransformer(spec((16, 32)), PYRAMID, **SMALL, masked=False).eval()
    free.load_state_dict(masked.state_dict())
    with torch.no_grad():
        assert not torch.equal(masked(given, image), free(given, image))


def test_classes_permute_and_none_of_them_does_not():
    decoder = MaskTransformer(spec((16, 32)), PYRAMID, **SMALL).eval()
    given, image = draw((16, 32), PYRAMID)
    with torch.no_grad():
        before = decoder(given, image)
        decoder.classes.weight.copy_(decoder.classes.weight[[2, 0, 1, 3]])
        decoder.classes.bias.copy_(decoder.classes.bias[[2, 0, 1, 3]])
        torch.testing.assert_close(decoder(given, image), before[:, [2, 0, 1]])


@pytest.mark.parametrize(("n", "layers", "attended"), [(1, 3, 1), (2, 3, 2), (3, 2, 2), (3, 5, 3)])
def test_levels_are_attended_to_in_turn_from_the_coarsest(n, layers, attended):
    decoder = MaskTransformer(spec((16, 32)), PYRAMID[:n], **(SMALL | {"layers": layers})).train()
    assert len(decoder.queries.level) == attended
    decoder(*draw((16, 32), PYRAMID[:n])).sum().backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"queries": 0}, "model.decoder.queries=0: expected 1 or more"),
        ({"layers": 0}, "model.decoder.layers=0: expected 1 or more"),
        ({"channels": 9}, "model.decoder.channels=9: expected a multiple of model.decoder.heads=2, 4 or more"),
        ({"channels": 2}, "model.decoder.channels=2: expected a multiple of model.decoder.heads=2, 4 or more"),
        ({"dropout": 2.0}, "model.decoder.dropout=2.0: expected 0 or more and less than 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        MaskTransformer(spec((16, 32)), PYRAMID, **(SMALL | settings))
