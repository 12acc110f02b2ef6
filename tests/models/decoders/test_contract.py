"""What every decoder of conf/model/decoder promises, on the features of several kinds of encoders."""

import copy
import re
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from medseg.errors import InputError
from medseg.factory.axes import ndims_of
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Feature
from medseg.models.network import ModelSpec
from medseg.models.smp.decoder import Smp
from tests.small import small

CONF = Path(__file__).parents[3] / "conf" / "model" / "decoder"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
FLAT = {name for name in NAMES if 3 not in ndims_of("model/decoder", name)}
"""Decoders for images only."""
K = 3
ENCODERS = {  # image, features
    "convolutions": ((32, 64), [Feature(c, (s, s)) for c, s in ((5, 2), (6, 4), (8, 8), (12, 16))]),
    "windows": ((32, 64), [Feature(c, (s, s)) for c, s in ((6, 4), (8, 8), (12, 16), (16, 32))]),
    "transformer": ((32, 48), [Feature(8, (16, 16), tokens=True, prefix=2)] * 4),
    "tokens of 14": ((42, 70), [Feature(8, (14, 14), tokens=True)] * 4),
    "volumes": ((4, 16, 24), [Feature(c, s) for c, s in ((5, (1, 2, 2)), (6, (2, 4, 4)), (8, (2, 8, 8)))]),
    "transformer of volumes": ((8, 16, 24), [Feature(8, (4, 8, 8), tokens=True, prefix=1)] * 3),
}


def spec(shape: tuple[int, ...]) -> ModelSpec:
    return ModelSpec(
        in_channels=2, out_channels=K, patch_shape=shape, spacing=(1.0,) * len(shape), kernels=(), strides=()
    )  # fmt: skip


def draw(shape: tuple[int, ...], features: list[Feature], batch: int = 2, seed: int = 0) -> tuple[list, torch.Tensor]:
    """Noise as an encoder would give it, and an image."""
    generator = torch.Generator().manual_seed(seed)
    given = []
    for f in features:
        grid = [s // d for s, d in zip(shape, f.stride, strict=True)]
        cells = torch.Size(grid).numel()
        size = (f.prefix + cells, f.channels) if f.tokens else (f.channels, *grid)
        given.append(torch.randn(batch, *size, generator=generator))
    return given, torch.randn(batch, 2, *shape, generator=generator)


def build(name: str, shape: tuple[int, ...], features: list[Feature], **changed) -> Decoder:
    cfg = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), small("model/decoder", name)["settings"], changed)
    torch.manual_seed(0)
    return instantiate(cfg, _convert_="all")(spec(shape), features)


def first(logits) -> torch.Tensor:
    return logits[0] if isinstance(logits, list) else logits


@pytest.fixture(
    scope="module",
    params=[(n, e) for n in NAMES for e in ENCODERS if len(ENCODERS[e][0]) == 2 or n not in FLAT],
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def case(request: pytest.FixtureRequest):
    """A decoder, what it is given, and the image; shared by the tests, which copy what they change."""
    name, encoder = request.param
    shape, features = ENCODERS[encoder]
    return build(name, shape, features).eval(), *draw(shape, features)


@pytest.fixture(scope="module")
def logits(case):
    decoder, given, image = case
    with torch.no_grad():
        return decoder(given, image)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_builds_as_written(name):
    shape, features = ENCODERS["windows"]
    assert re.match(r"# \S.{10,110}\n_target_", (CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    with torch.device("meta"):
        cfg = OmegaConf.load(CONF / f"{name}.yaml")
        assert isinstance(instantiate(cfg, _convert_="all")(spec(shape), features), Decoder)


def test_logits_cover_the_image_and_cases_do_not_mix(case, logits):
    decoder, given, image = case
    assert logits.shape[:2] == (2, K)
    if not isinstance(decoder, Smp):  # whose levels are whole multiples of the coarsest, which may be rounded up
        assert all(n <= s for n, s in zip(logits.shape[2:], image.shape[2:], strict=True))
    assert logits.isfinite().all()
    assert logits.std() > 0
    with torch.no_grad():
        alone = decoder([t[1:] for t in given], image[1:])
    torch.testing.assert_close(alone, logits[1:], rtol=1e-4, atol=1e-5)


def test_every_feature_counts_and_tokens_without_a_place_only_where_told(case, logits, request):
    decoder, given, image = case
    name, encoder = request.node.callspec.params["case"]
    for i, feature in enumerate(ENCODERS[encoder][1]):
        changed = [t.clone() for t in given]
        changed[i][:, feature.prefix :].mul_(-1.0) if feature.tokens else changed[i].mul_(-1.0)
        with torch.no_grad():
            assert not torch.allclose(decoder(changed, image), logits), f"feature {i}"
        if feature.prefix:
            changed = [t.clone() for t in given]
            changed[i][:, : feature.prefix] += 1.0
            with torch.no_grad():
                assert torch.equal(decoder(changed, image), logits) == (name != "dpt")


def test_training_reaches_every_parameter(case):
    decoder, given, image = case
    trained = copy.deepcopy(decoder).train()
    found = trained(given, image)
    levels = found if isinstance(found, list) else [found]
    assert all(level.shape[:2] == (2, K) for level in levels)
    sizes = [level[0, 0].numel() for level in levels]
    assert sizes == sorted(set(sizes), reverse=True) or isinstance(found, list)
    idle = without_gradient(trained, levels)
    if idle:  # normalising over the batch takes out the bias before it, so try the running statistics as well
        for module in trained.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
                module.bias.data.add_(1.0)  # nor shall a ReLU of few channels be closed by chance
        again = trained(given, image)
        idle &= without_gradient(trained, again if isinstance(again, list) else [again])
    assert idle == set()


def without_gradient(decoder, levels):
    decoder.zero_grad()
    sum(level.square().mean() for level in levels).backward()
    return {n for n, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}


def test_training_takes_a_single_case_or_says_how(case, request):
    decoder, given, image = case
    trained, one = copy.deepcopy(decoder).train(), ([t[:1] for t in given], image[:1])
    if request.node.callspec.params["case"][0] == "upernet":  # which pools to a single cell
        with pytest.raises(
            InputError, match=r"UPerNet: got a batch of 1 image .* plan\.batch_size=2 or model\.decoder\.norm="
        ):
            trained(*one)
    else:
        assert first(trained(*one)).isfinite().all()


@pytest.mark.parametrize("name", ["dpt", "ocr", "segformer", "unet", "upernet"])
@pytest.mark.parametrize("encoder", ["windows", "transformer of volumes"])
def test_groups_of_channels_take_a_single_case(name, encoder):
    shape, features = ENCODERS[encoder]
    given, image = draw(shape, features, batch=1)
    assert first(build(name, shape, features, norm="group").train()(given, image)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoder", ["windows", "transformer of volumes"])
def test_learns_a_batch(name, encoder):
    if encoder == "transformer of volumes" and name in FLAT:
        encoder = "transformer"
    shape, features = ENCODERS[encoder]
    given, image = draw(shape, features)
    blocks = torch.eye(K)[torch.randint(K, (2, *(2,) * len(shape)), generator=torch.Generator().manual_seed(1))]
    blocks = blocks.movedim(-1, 1)  # the class of each quadrant or octant, which all features show through noise
    for feature, tensor in zip(features, given, strict=True):
        grid = [s // d for s, d in zip(shape, feature.stride, strict=True)]
        shown = 2 * torch.nn.functional.interpolate(blocks, grid)
        if feature.tokens:
            tensor[:, feature.prefix :, :K] += shown.flatten(2).transpose(1, 2)
        else:
            tensor[:, :K] += shown
    decoder = build(name, shape, features).train()
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=2e-2 if name == "unet" else 1e-2)
    losses = []
    for _ in range(40 if name == "unet" else 15):
        found = first(decoder(given, image))
        label = torch.nn.functional.interpolate(blocks, found.shape[2:]).argmax(1)
        loss = torch.nn.functional.cross_entropy(found, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_stays_close(name):
    shape, features = ENCODERS["transformer"]
    decoder, (given, image) = build(name, shape, features).eval(), draw(shape, features)
    with torch.no_grad():
        full = decoder(given, image)
        with torch.autocast("cpu", torch.bfloat16):
            half = decoder(given, image)
    assert (half.float() - full).square().mean().sqrt() < 0.05 * full.std()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"linear", "dpt"}))
def test_features_that_make_no_pyramid_are_refused(name):
    with pytest.raises(InputError, match="expected each coarser than the one before") as caught:
        build(name, (32, 32), [Feature(4, (8, 8)), Feature(4, (4, 4))])
    assert "\n" not in str(caught.value)
