"""Whole networks of transformers, beside transformers' own forward pass on weights in its own format."""

import json
import pickle

import pytest
import torch
import transformers
from hydra.utils import instantiate
from omegaconf import OmegaConf
from transformers import AutoConfig

from medseg.errors import InputError
from medseg.factory.network import _made
from medseg.models.huggingface.mask2former import HfMask2Former
from medseg.models.huggingface.oneformer import TASK, HfOneFormer
from medseg.models.huggingface.segformer import HfSegformer
from medseg.models.huggingface.upernet import HfUperNet
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from tests.models.test_contract import CONF
from tests.small import small

NETWORKS = {
    "segformer": HfSegformer, "upernet": HfUperNet, "mask2former": HfMask2Former, "oneformer": HfOneFormer
}  # fmt: skip
RGB = tuple(Channel(name) for name in "RGB")
K = 3


@pytest.fixture(autouse=True)
def _quiet():
    transformers.logging.disable_progress_bar()


def spec(channels=RGB, classes=K):
    return ModelSpec(len(channels), classes, (32, 64), (1.0, 1.0), (), (), channels)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def shake(net):
    """Every parameter at random, so that each of them shows in the logits."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def upstream(kind):
    described = small("model", f"hf_{kind}")["settings"]["config"]
    within = described.get("backbone_config")
    if within is not None:
        within["out_features"] = ["stage1", "stage2", "stage3", "stage4"]
        within.setdefault("model_type", "convnext" if kind == "upernet" else "swin")
    if kind == "upernet":
        described["use_auxiliary_head"] = True
    config = AutoConfig.for_model(kind, num_labels=K, **described)
    return shake(getattr(transformers, NETWORKS[kind].source)(config))


def expected(kind, net, image):
    """Shares of classes by transformers' own forward pass and the published inference, at its resolution."""
    with torch.no_grad():
        if kind in ("segformer", "upernet"):
            return net(image).logits
        task = torch.tensor([[*TASK, *[0] * (77 - len(TASK))]]).expand(len(image), -1)
        told = net(image, **({"task_inputs": task} if kind == "oneformer" else {}))
        classes, masks = told.class_queries_logits.softmax(-1)[..., :-1], told.masks_queries_logits.sigmoid()
        return torch.einsum("bqc,bqhw->bchw", classes, masks).log()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """By kind: a folder as transformers writes it, and the network."""
    made = {}

    def folder(kind):
        if kind not in made:
            path, net = tmp_path_factory.mktemp(kind), upstream(kind)
            net.save_pretrained(path)
            made[kind] = (path, net)
        return made[kind]

    return folder


def loaded(kind, path, channels=RGB, classes=K, **settings):
    network = NETWORKS[kind](spec(channels, classes), weights=str(path), **settings).eval()
    return network, network.initialise()


@pytest.mark.parametrize("kind", NETWORKS)
def test_logits_are_those_of_transformers(kind, folders):
    path, net = folders(kind)
    network, report = loaded(kind, path)
    image = noise(2, 3, 32, 64)
    assert report.share == 1
    assert {row.how for row in report.rows if not row.counts and row.name.startswith(network.head)} == {"copied"}
    with torch.no_grad():
        logits = network.compute(image)
        torch.testing.assert_close(logits, expected(kind, net, image), rtol=1e-4, atol=1e-4)
        assert network(image).shape == (2, K, 32, 64)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("bands", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 13))])
def test_other_bands_respond_alike_to_an_image_that_is_equal_in_all(kind, bands, folders):
    path, net = folders(kind)
    network, report = loaded(kind, path, tuple(Channel(f"B{i}") for i in range(bands)), adapt="mean")
    assert report.share == 1
    grey = noise(1, 1, 32, 64)
    with torch.no_grad():
        given = network.compute(grey.expand(-1, bands, -1, -1))
    torch.testing.assert_close(given, expected(kind, net, grey.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_last_layer_stays_random_for_other_classes_and_does_not_count(kind, folders):
    path, net = folders(kind)
    network, report = loaded(kind, path, classes=7)
    assert report.share == 1
    assert {row.how for row in report.rows if row.name.startswith(network.head)} == {"random"}
    head = f"{network.head}."
    theirs, ours = net.state_dict(), network.net.state_dict()
    assert all(torch.equal(t, theirs[name]) for name, t in ours.items() if not name.startswith(head))
    with torch.no_grad():
        assert network(noise(1, 3, 32, 32)).shape == (1, 7, 32, 32)


def test_encoder_alone_is_taken_under_a_smaller_share(tmp_path):
    config = small("model", "hf_mask2former")["settings"]["config"]
    swin = AutoConfig.for_model("swin", **config["backbone_config"])
    swin.out_features = ["stage1", "stage2", "stage3", "stage4"]
    encoder = shake(transformers.SwinBackbone(swin))
    encoder.save_pretrained(tmp_path)
    given = {"size": "swin_tiny", "config": config}
    network, before = HfMask2Former(spec(), weights=str(tmp_path), **given), None
    before = {name: t.clone() for name, t in network.state_dict().items()}
    with pytest.raises(InputError, match=r"model\.least_share") as caught:
        network.initialise()
    assert "model.encoder" not in str(caught.value)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    network, report = loaded("mask2former", tmp_path, least_share=0.1, **given)
    assert 0.1 < report.share < 0.9
    image = noise(1, 3, 32, 64)
    with torch.no_grad():
        ours = network.net.model.pixel_level_module.encoder(image).feature_maps
        torch.testing.assert_close(list(ours), list(encoder(image).feature_maps), rtol=1e-4, atol=1e-4)


def test_folder_of_another_network_is_refused(folders):
    path, _ = folders("segformer")
    with pytest.raises(InputError, match=r"got a network of type segformer, for model expected one of upernet"):
        HfUperNet(spec(), weights=str(path))


def test_configuration_keeps_what_the_folder_told(folders):
    path, _ = folders("segformer")
    cfg = OmegaConf.merge(OmegaConf.load(CONF / "hf_segformer.yaml"), {"weights": str(path)})
    OmegaConf.set_struct(cfg, True)
    network = _made(spec(), cfg)
    assert json.loads(json.dumps(OmegaConf.to_container(cfg)))["config"]["model_type"] == "segformer"
    cfg.weights = "/gone"
    again = instantiate(cfg)(spec())
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}


def test_queries_survive_pickling_after_use():
    network = HfMask2Former(spec(), config=small("model", "hf_mask2former")["settings"]["config"]).eval()
    image = noise(1, 3, 32, 32)
    with torch.no_grad():
        given = network(image)
        torch.testing.assert_close(pickle.loads(pickle.dumps(network))(image), given, rtol=0, atol=0)


@pytest.mark.parametrize(
    "network, settings, told",
    [
        (HfUperNet, {"size": "swin_tiny", "config": {"pool_scale": [1]}}, "model.config.pool_scale is no setting"),
        (HfUperNet, {"size": "vit_base"}, "model.size=vit_base: expected a size of upernet, convnext_tiny"),
        (HfMask2Former, {"config": {"backbone_config": {"model_type": "dinov2"}}}, "got an encoder of type dinov2"),
        (HfMask2Former, {"config": {"backbone_config": {"embed": 8}}}, "backbone_config.embed is no setting of swin"),
        (HfOneFormer, {"config": {"num_attention_heads": 7}}, "model.config does not make a oneformer"),
        (HfOneFormer, {"config": {"hidden_dim": 128}}, "hidden_dim=128, OneFormer needs them equal"),
        (HfSegformer, {"weights": "/no/such"}, "model.weights=/no/such: no such file or folder"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(network, settings, told):
    with pytest.raises(InputError) as caught:
        network(spec(), **settings)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
