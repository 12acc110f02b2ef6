"""What every network of conf/model promises, in two and (but for those of ``FLAT``) in three dimensions."""

import copy
import pickle
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.factory.axes import ndims_of, options_for
from medseg.hydra_app.compose import compose
from medseg.models.network import ModelSpec, Network
from tests.models.meta import parameters_on_meta
from tests.small import small

CONF = Path(__file__).parents[2] / "conf" / "model"
BUILT_ON = {path.stem: OmegaConf.load(path).get("defaults", [None])[0] for path in CONF.glob("*.yaml")}
NAMES = sorted(name for name, other in BUILT_ON.items() if other not in BUILT_ON)
SIZES = {name: other for name, other in BUILT_ON.items() if other in BUILT_ON}  # the same networks, larger or smaller
FLAT = {name for name in NAMES if 3 not in ndims_of("model", name)}
"""Networks for images only; encoder_decoder with the encoder that its yaml has."""
K = 3


def spec(ndim: int, in_channels: int = 5) -> ModelSpec:
    kernels = ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    strides = ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    return ModelSpec(
        in_channels=in_channels,
        out_channels=K,
        patch_shape={2: (32, 64), 3: (32, 16, 32)}[ndim],
        spacing=(3.0, 1.0, 1.0)[:ndim],
        kernels=tuple(k[:ndim] for k in kernels),
        strides=tuple(s[:ndim] for s in strides),
    )


@cache
def load(name: str) -> DictConfig:
    return compose("train", [f"model={name}"]).model


def settings(name: str) -> dict[str, Any]:
    """Settings of a network, and of the encoder and decoder that its yaml chooses, for tests."""
    chosen = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml")).get("defaults", [])
    parts = {key: option for entry in chosen if isinstance(entry, dict) for key, option in entry.items()}
    return small("model", name)["settings"] | {
        key: small(f"model/{key}", option)["settings"] for key, option in parts.items()
    }


def build(name: str, about: ModelSpec, *, shrunk: bool = True) -> Network:
    cfg = load(name)
    changed = OmegaConf.merge(cfg, settings(name) if shrunk else {})
    torch.manual_seed(0)
    return instantiate(changed)(about)


def image_for(network: Network, batch: int = 1) -> torch.Tensor:
    """Noise of the smallest shape that is not cubic."""
    least = network.nearest([1] * len(network.divisor))
    shape = network.fixed_shape or (*network.divisor[:-1], 2 * network.divisor[-1])
    shape = network.fixed_shape or tuple(max(pair) for pair in zip(least, shape, strict=True))
    return torch.randn(batch, network.in_channels, *shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(
    scope="module",
    params=[(n, d) for n in NAMES for d in (2, 3) if d == 2 or n not in FLAT],
    ids=lambda p: f"{p[0]}-{p[1]}d",
)
def network(request: pytest.FixtureRequest) -> Network:
    """Shared by the tests of this module, which copy it before they change it."""
    name, ndim = request.param
    return build(name, spec(ndim)).eval()


@pytest.fixture(scope="module")
def image(network: Network) -> torch.Tensor:
    return image_for(network)


@pytest.fixture(scope="module")
def logits(network: Network, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(image)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_builds_as_written(name):
    about = spec(2)
    with parameters_on_meta():
        network = build(name, about, shrunk=False)
    assert isinstance(network, Network)
    assert len(network.divisor) == about.ndim


@pytest.mark.parametrize("name", NAMES)
def test_yaml_begins_with_one_line_about_itself(name):
    parts_named = r"(defaults:\n(  - .+\n)+\n)?"
    assert re.match(rf"# \S.{{10,110}}\n{parts_named}_target_", (CONF / f"{name}.yaml").read_text(encoding="utf-8"))


def test_the_kernel_that_takes_the_image_is_one_of_its_tensors(network):
    stem, tensors = network.stem_kernel or (), network.state_dict()
    for name in [stem] if isinstance(stem, str) else stem:
        assert tensors[name].shape[1] == network.in_channels


def test_evaluation_gives_one_tensor_of_logits(image, logits):
    assert logits.shape == (1, K, *image.shape[2:])
    assert logits.isfinite().all()
    assert logits.std() > 0


def test_evaluation_neither_reads_nor_moves_the_random_state(network, image, logits):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with torch.no_grad():
        again = network(image)
    torch.testing.assert_close(again, logits, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_cases_of_a_batch_do_not_mix(network, image, logits):
    with torch.no_grad():
        both = network(torch.cat((image.flip(-1), image)))
    torch.testing.assert_close(both[1:], logits, rtol=1e-4, atol=1e-4)


def test_training_reaches_every_parameter(network):
    trained, image = copy.deepcopy(network).train(), image_for(network, batch=2)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # zero starts, as of residual blocks, hide what lies before them in the first step
        for parameter in trained.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    found = trained(image)
    levels = found if isinstance(found, list) else [found]
    assert levels[0].shape == (2, K, *image.shape[2:])
    sizes = [level[0, 0].numel() for level in levels]
    assert sizes == sorted(set(sizes), reverse=True)
    idle = without_gradient(trained, levels)
    if idle:  # normalising over the batch takes out the bias before it, so try the running statistics as well
        for module in trained.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
                module.bias.data.add_(1.0)  # nor shall a ReLU of a single channel be closed by chance
        idle &= without_gradient(trained, [trained(image)])
    assert idle == set()


def without_gradient(network, levels):
    network.zero_grad()
    sum(level.square().mean() for level in levels).backward()
    return {n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}


def test_training_takes_a_single_case_or_asks_for_two(network, image, request):
    trained, (name, _) = copy.deepcopy(network).train(), request.node.callspec.params["network"]
    if small("model", name)["least_batch"] > 1:
        with pytest.raises(InputError, match=r"a batch of 1 image of shape .* plan\.batch_size=2"):
            trained(image)
        image = torch.cat((image, image.flip(-1)))
    found = trained(image)
    assert (found[0] if isinstance(found, list) else found).isfinite().all()


def test_state_makes_another_network_equal(network, image, logits, request):
    name, ndim = request.node.callspec.params["network"]
    torch.manual_seed(3)
    other = instantiate(OmegaConf.merge(load(name), settings(name)))(spec(ndim)).eval()
    with torch.no_grad():
        assert not torch.equal(other(image), logits)
        other.load_state_dict(network.state_dict())
        torch.testing.assert_close(other(image), logits, rtol=0, atol=0)


def test_survives_pickling(network, image, logits):
    with torch.no_grad():
        torch.testing.assert_close(pickle.loads(pickle.dumps(network))(image), logits, rtol=0, atol=0)


def test_bfloat16_stays_close(network, image, logits):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = network(image)
    # 8 bits of mantissa through some tens of layers: about a percent of the spread, measured below 0.013
    assert (half.float() - logits).square().mean().sqrt() < 0.03 * logits.std()


def test_wrong_shape_names_one_that_fits(network, image):
    wrong = image[..., :-1]
    if set(network.divisor) == {1}:  # takes any shape
        assert network(wrong).shape[2:] == wrong.shape[2:]
        return
    with pytest.raises(InputError, match=re.escape(str(tuple(wrong.shape[2:])))) as caught:
        network(wrong)
    remedy = [int(n) for n in re.search(r"pad to \(([\d, ]+)\)", str(caught.value)).group(1).split(",")]
    assert remedy == list(image.shape[2:])
    network.check(image.new_zeros(1, network.in_channels, *remedy))


def test_wrong_channels_and_axes_are_refused(network, image):
    with pytest.raises(InputError, match="image of 4 channels"):
        network(image[:, :4])
    with pytest.raises(InputError, match=f"and {image.ndim - 1} spatial axes"):
        network(image[..., None])


@pytest.mark.parametrize("in_channels", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 13))])
@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_channels(name, in_channels):
    network = build(name, spec(2, in_channels=in_channels)).eval()
    image = image_for(network)
    with torch.no_grad():
        logits = network(image)
        assert logits.shape == (1, K, *image.shape[2:])
        without = [network(image.index_fill(1, torch.tensor(i), 0.0)) for i in (0, in_channels - 1)]
    assert not any(torch.allclose(logits, other) for other in without)  # first and last channel matter


@pytest.mark.parametrize("name", sorted(FLAT))
def test_networks_for_images_refuse_volumes(name):
    with pytest.raises(
        InputError, match="takes images of 2 spatial axes, the data has 3; choose a network for volumes"
    ):
        build(name, spec(3))


def test_networks_for_volumes_are_those_that_build_with_three_axes():
    assert set(options_for("model", 3)) == set(NAMES) - FLAT
    assert {"unet", "swin_unetr"} <= set(options_for("model", 3))
    assert {"smp_unet", "encoder_decoder"} <= FLAT


def test_networks_that_split_give_the_same_logits_in_two_steps(network, image, logits):
    if not hasattr(network, "encode"):
        assert not hasattr(network, "decode")
        return
    with torch.no_grad():
        features = network.encode(image)
        assert isinstance(features, list)
        assert {len(feature) for feature in features} == {len(image)}
        torch.testing.assert_close(network.decode(features, image), logits, rtol=0, atol=0)
    with pytest.raises(InputError, match="pad to"):
        network.encode(image[..., :-1])
