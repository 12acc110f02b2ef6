"""Encoders of transformers, beside transformers' own forward pass on weights in its own format."""

import copy
import json
import pickle
import shutil

import pytest
import torch
import transformers
from transformers import AutoConfig

from medseg.errors import InputError
from medseg.models.decoders.linear import Linear
from medseg.models.encoder_decoder import EncoderDecoder
from medseg.models.encoders.encoder import check_features
from medseg.models.huggingface.encoder import Transformers
from medseg.models.huggingface.features import FAMILIES
from medseg.models.huggingface.sizes import ALIASES, SIZES
from medseg.models.network import ModelSpec
from medseg.sample import Channel

PLAIN = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
MLP = {**PLAIN, "intermediate_size": 32, "image_size": 48, "patch_size": 16}
PYRAMID = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}
SWIN = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
TINY = {
    "dinov2": {**PLAIN, "image_size": 42, "patch_size": 14},
    "dinov2_with_registers": {**PLAIN, "image_size": 42, "patch_size": 14, "use_swiglu_ffn": True},
    "dinov3_vit": {**MLP, "num_register_tokens": 2},
    "dinov3_convnext": PYRAMID,
    "sam_vision_model": {**PLAIN, "image_size": 64, "window_size": 3, "global_attn_indexes": [1, 3], "mlp_dim": 32},
    "sam2_hiera_det_model": {
        "hidden_size": 8, "embed_dim_per_stage": [8, 16, 24, 32], "blocks_per_stage": [1, 1, 2, 1],
        "num_attention_heads_per_stage": [1, 1, 2, 2], "global_attention_blocks": [3],
    },
    "cvt": {"embed_dim": [8, 12, 16], "num_heads": [1, 1, 2], "depth": [1, 2, 3]},
    "vit": MLP,
    "clip_vision_model": MLP,
    "siglip_vision_model": MLP,
    "beit": {**MLP, "use_relative_position_bias": True},
    "vitdet": {**PLAIN, "image_size": 48, "pretrain_image_size": 48, "window_size": 2, "window_block_indices": [0, 2]},
    "swin": SWIN,
    "swinv2": SWIN,
    "convnext": PYRAMID,
    "convnextv2": PYRAMID,
    "segformer": {**PYRAMID, "num_attention_heads": [1, 1, 2, 2]},
    "pvt_v2": {**PYRAMID, "num_attention_heads": [1, 1, 2, 2]},
    "focalnet": {"embed_dim": 8, "depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32]},
    "resnet": {**PYRAMID, "embedding_size": 8},
}  # fmt: skip
RGB = tuple(Channel(name) for name in "RGB")
PREPARED = {
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.2, 0.1],
    "rescale_factor": 1 / 255,
}
STAGES = {"focalnet": ["stem", "stage1", "stage2", "stage4"], "vitdet": ["stage1", "stage2", "stage3", "stage4"]}
"""Of backbones: those that give features, where they are not stage1 to stage4."""


@pytest.fixture(autouse=True)
def _quiet():
    transformers.logging.disable_progress_bar()


def spec(channels=RGB, shape=(96, 128)):
    return ModelSpec(len(channels), 3, shape, (1.0, 1.0), (), (), channels)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shake(net):
    """Every parameter and running statistic at random, so that each of them shows in the features."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(1 + 0.1 * drawn.abs() if name.endswith("running_var") else tensor + 0.2 * drawn)
    return net.eval()


def upstream(family, **changes):
    config = AutoConfig.for_model(family, **TINY[family], **changes)
    name = FAMILIES[family].network
    if name.endswith("Backbone"):
        config.out_features = STAGES.get(family, ["stage1", "stage2", "stage3", "stage4"])
    return shake(getattr(transformers, name)(config))


def expected(family, net, image):
    """Features by transformers' own forward pass."""
    with torch.no_grad():
        if hasattr(net, "out_features"):
            return list(net(image).feature_maps)
        if family == "sam2_hiera_det_model":
            return [f.permute(0, 3, 1, 2) for f in net(image).intermediate_hidden_states]
        free = family in ("vit", "clip_vision_model", "siglip_vision_model", "beit")
        states = net(
            image, output_hidden_states=True, **({"interpolate_pos_encoding": True} if free else {})
        ).hidden_states
        if family in ("cvt", "segformer"):
            return list(states)
        states = states[1:]  # after each of four blocks
        if family == "sam_vision_model":
            return [f.permute(0, 3, 1, 2) for f in states]
        norm = {"dinov2": "layernorm", "dinov2_with_registers": "layernorm", "dinov3_vit": "norm"}.get(family)
        return [getattr(net, norm)(f) for f in states] if norm else states


def image_of(family, channels=3, batch=2):
    """Not square, nor of the size that positions were learnt for, but for SAM's own forward pass."""
    shape = {"dinov2": (28, 56), "dinov2_with_registers": (28, 56), "sam_vision_model": (64, 64)}.get(family, (32, 64))
    return noise(batch, channels, *shape)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """By family: a folder as transformers writes it, and the network."""
    made = {}

    def folder(family):
        if family not in made:
            path = tmp_path_factory.mktemp(family)
            net = upstream(family)
            net.save_pretrained(path)
            (path / "preprocessor_config.json").write_text(json.dumps(PREPARED))
            made[family] = (path, net)
        return made[family]

    return folder


def loaded(path, channels=RGB, **settings):
    encoder = Transformers(spec(channels), weights=str(path), **settings).eval()
    return encoder, encoder.initialise()


def test_every_family_has_sizes_and_is_tested():
    assert set(FAMILIES) == set(SIZES) == set(TINY)
    assert set(ALIASES.values()) <= set(FAMILIES)


@pytest.mark.parametrize("family", TINY)
def test_features_are_those_of_transformers(family, folders):
    path, net = folders(family)
    encoder, report = loaded(path)
    image = image_of(family)
    assert report.share == 1
    with torch.no_grad():
        given = encoder(image)
    wanted = expected(family, net, image)
    assert len(given) == len(wanted) == len(encoder.features)
    for ours, theirs in zip(given, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    check_features(encoder, 3, image.shape[2:])


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("bands", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 13))])
def test_other_bands_respond_alike_to_an_image_that_is_equal_in_all(family, bands, folders):
    path, net = folders(family)
    channels = tuple(Channel(f"B{i}") for i in range(bands))
    encoder, report = loaded(path, channels, adapt="mean")
    assert report.share == 1
    assert len(report.channels) == bands
    grey = image_of(family, channels=1)
    with torch.no_grad():
        given = encoder(grey.expand(-1, bands, -1, -1))
    for ours, theirs in zip(given, expected(family, net, grey.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", TINY)
def test_any_multiple_of_the_divisor_and_every_parameter_counts(family):
    torch.manual_seed(0)
    encoder = Transformers(spec(), family=family, config=TINY[family])
    for shape in ((1, 1), (3, 2)):
        check_features(encoder, 3, [s * d for s, d in zip(shape, encoder.divisor, strict=True)])
    shake(encoder).train()
    sum(f.square().mean() for f in encoder(image_of(family))).backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("family", ["dinov2", "swin", "dinov3_convnext"])
def test_survives_copying_and_pickling(family):
    encoder = Transformers(spec(), family=family, config=TINY[family]).eval()
    image = image_of(family)
    with torch.no_grad():
        given = [
            encoder(image),
            copy.deepcopy(encoder)(image),
            pickle.loads(pickle.dumps(encoder))(image),
            encoder(image),
        ]
    for other in given[1:]:
        torch.testing.assert_close(other, given[0], rtol=0, atol=0)


def test_tokens_without_a_place_are_declared():
    for family, prefix in {"dinov2": 1, "dinov2_with_registers": 5, "dinov3_vit": 3, "siglip_vision_model": 0}.items():
        encoder = Transformers(spec(), family=family, config=TINY[family])
        assert {(f.tokens, f.prefix) for f in encoder.features} == {(True, prefix)}


def test_blocks_behind_the_last_index_are_left_out(folders):
    path, net = folders("dinov2")
    encoder, report = loaded(path, indices=[0, 2])
    assert len(encoder.net.encoder.layer) == 3
    assert report.share == 1
    image = image_of("dinov2")
    with torch.no_grad():
        states = net(image, output_hidden_states=True).hidden_states
        torch.testing.assert_close(encoder(image)[1], net.layernorm(states[3]), rtol=1e-4, atol=1e-4)


def test_four_depths_are_evenly_spaced():
    encoder = Transformers(spec(), family="vit", config={**MLP, "num_hidden_layers": 12})
    assert encoder.indices == (2, 5, 8, 11)


def test_rebuilds_from_what_it_settled_where_the_folder_is_gone(folders, tmp_path):
    path, _ = folders("dinov3_vit")
    shutil.copytree(path, tmp_path / "model")
    given = {"weights": str(tmp_path / "model"), "config": {"pos_embed_rescale": None}}
    encoder = Transformers(spec(), **given)
    shutil.rmtree(tmp_path / "model")
    settled = json.loads(json.dumps(dict(encoder.settled)))
    assert settled["config"]["model_type"] == "dinov3_vit"
    assert settled["config"]["pos_embed_rescale"] is None
    again = Transformers(spec(), **{**given, **settled})
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in encoder.state_dict().items()}
    with pytest.raises(InputError, match="no such file or folder"):
        Transformers(spec(), **given)


def test_segmenter_hands_on_what_the_encoder_settled():
    network = EncoderDecoder(
        spec(), encoder=lambda f: Transformers(f, family="dinov2", config=TINY["dinov2"]), decoder=Linear
    )
    assert network.settled["encoder"]["config"]["hidden_size"] == 16


SAM2 = {"model_type": "sam2_hiera_det_model", **TINY["sam2_hiera_det_model"]}
LARGER = {
    "upernet": ("UperNetForSemanticSegmentation", {
        "backbone_config": {**SWIN, "model_type": "swin", "out_features": ["stage1", "stage2", "stage3", "stage4"]},
        "hidden_size": 8, "use_auxiliary_head": False,
    }, "swin", "backbone"),
    "sam2_vision_model": (
        "Sam2VisionModel", {"backbone_config": SAM2, "backbone_channel_list": [32, 24, 16, 8], "fpn_hidden_size": 8},
        "sam2_hiera_det_model", "backbone",
    ),
    "clip": ("CLIPModel", {
        "vision_config": {"model_type": "clip_vision_model", **MLP},
        "text_config": {**PLAIN, "intermediate_size": 16, "vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2},
    }, "clip_vision_model", "vision_model"),
}  # fmt: skip
"""By ``model_type`` of a larger network: its class and settings, the family of the encoder in it, and where that is."""


@pytest.mark.parametrize("kind", LARGER)
def test_encoder_within_a_larger_network(kind, tmp_path):
    network, settings, family, place = LARGER[kind]
    net = shake(getattr(transformers, network)(AutoConfig.for_model(kind, **copy.deepcopy(settings))))
    net.save_pretrained(tmp_path)
    encoder, report = loaded(tmp_path)
    assert report.share == 1
    assert any(row.how == "unexpected" for row in report.rows)
    image = image_of(family)
    with torch.no_grad():
        given = encoder(image)
    for ours, theirs in zip(given, expected(family, net.get_submodule(place), image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_classifier_with_names_of_old_in_a_file_alone(tmp_path):
    config = AutoConfig.for_model("dinov2", **TINY["dinov2"], use_swiglu_ffn=True)
    net = shake(transformers.Dinov2ForImageClassification(config))
    net.save_pretrained(tmp_path)
    file = (tmp_path / "model.safetensors").rename(tmp_path / "weights.safetensors")
    (tmp_path / "config.json").unlink()
    channels = tuple(Channel(name) for name in ("R", "G", "B", "NIR"))
    described = {**TINY["dinov2"], "use_swiglu_ffn": True}
    encoder, report = loaded(file, channels, family="dinov2", config=described, adapt="zero")
    assert report.share == 1
    image = image_of("dinov2")
    with torch.no_grad():
        given = encoder(torch.cat((image, noise(2, 1, 28, 56)), dim=1))
    for ours, theirs in zip(given, expected("dinov2", net.dinov2, image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_weights_of_a_trained_encoder_of_ours(folders, tmp_path):
    path, _ = folders("swin")
    channels = tuple(Channel(f"B{i}") for i in range(4))
    first, _ = loaded(path, channels)
    state = {f"network.encoder.{name}": t for name, t in first.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    second, report = loaded(tmp_path / "last.ckpt", channels, family="swin", config=SWIN)
    assert report.share == 1
    torch.testing.assert_close(second.state_dict(), first.state_dict(), rtol=0, atol=0)


def test_statistics_are_read_beside_the_weights(folders):
    path, _ = folders("vit")
    found = Transformers(spec(), weights=str(path)).fetch(str(path))
    assert found.mean == (0.5, 0.4, 0.3)
    assert found.scale == pytest.approx(255)
    assert [c.name for c in found.channels] == ["R", "G", "B"]


def test_hub_gives_description_and_weights(folders, monkeypatch):
    path, net = folders("convnext")
    asked = []

    def download(repository, file, revision=None):
        asked.append(file)
        assert repository == "owner/name"
        return str(path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("medseg.weights.hub._reach", lambda *_: None)
    encoder = Transformers(spec(), weights="hf-hub:owner/name").eval()
    assert "model.safetensors" not in asked
    assert encoder.initialise().share == 1
    image = image_of("convnext")
    with torch.no_grad():
        torch.testing.assert_close(encoder(image), expected("convnext", net, image), rtol=1e-4, atol=1e-4)


def test_hub_without_network_names_the_file_option(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(*_, **__):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(InputError, match=r"owner/name can't be reached; .*=FILE, or its whole folder") as caught:
        Transformers(spec(), weights="hf-hub:owner/name")
    assert "\n" not in str(caught.value)
    Transformers(spec(), weights="hf-hub:owner/name", config={"model_type": "convnext", **PYRAMID})


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"family": "dino2"}, "model.encoder.family=dino2 is unknown; the nearest are dinov2"),
        ({"family": "swin", "size": "giant"}, "model.encoder.size=giant: expected a size of swin, tiny, small, base"),
        ({"family": "dinov2", "config": {"hidden_sise": 8}}, "hidden_sise is no setting of dinov2; the nearest"),
        ({"family": "dinov2", "config": {"hidden_size": "wide"}}, "model.encoder.config does not make a dinov2: "),
        ({"family": "sam", "config": {"hidden_size": 30}}, "model.encoder.config does not make a sam_vision_model: "),
        ({"config": {"model_type": "bert"}}, "got a network of type bert, for model.encoder expected one of dinov2"),
        ({"family": "swin", "indices": [4]}, "model.encoder.indices="),
        ({"weights": "/no/such/folder"}, "model.encoder.weights=/no/such/folder: no such file or folder"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(settings, told):
    with pytest.raises(InputError) as caught:
        Transformers(spec(), **settings)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_family_that_contradicts_the_folder_is_refused(folders):
    path, _ = folders("vit")
    with pytest.raises(
        InputError, match=r"family=swin, but model\.encoder\.weights=.* are of vit; leave the family out"
    ):
        Transformers(spec(), family="swin", weights=str(path))


def test_volumes_are_refused():
    with pytest.raises(InputError, match="the data has 3; choose a network for volumes"):
        Transformers(ModelSpec(1, 2, (32, 32, 32), (1.0,) * 3, (), ()))
