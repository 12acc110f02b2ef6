"""EncoderDecoder with encoders and decoders drawn up here: what it verifies, drops, refuses and gives."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.decoders.decoder import Decoder
from medseg.models.decoders.linear import Linear
from medseg.models.encoder_decoder import EncoderDecoder
from medseg.models.encoders.encoder import Encoder, Feature, check_features
from medseg.models.network import ModelSpec

CONV = {2: nn.Conv2d, 3: nn.Conv3d}


def spec(patch: tuple[int, ...] = (16, 24)) -> ModelSpec:
    return ModelSpec(
        in_channels=2, out_channels=3, patch_shape=patch, spacing=(1.0,) * len(patch), kernels=(), strides=()
    )


class Steps(Encoder):
    """Halves the image at each of its steps; what it declares may be made to be wrong."""

    def __init__(
        self, spec: ModelSpec, *, depth: int = 3, norm: bool = False, wrong: int = 0, fixed: Sequence[int] | None = None
    ) -> None:
        ndim = spec.ndim
        features = [Feature(4 + (wrong if i == 0 else 0), (2 ** (i + 1),) * ndim) for i in range(depth)]
        super().__init__(spec, features, (2**depth,) * ndim, fixed_shape=fixed)
        widths = [spec.in_channels, *(4 for _ in range(depth))]
        self.steps = nn.ModuleList(CONV[ndim](a, b, 2, 2) for a, b in pairwise(widths))
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.register_buffer("offset", torch.zeros(1), persistent=False)

    @property
    def trunk(self) -> nn.Module:
        return self.steps

    @property
    def stem(self) -> str:
        return "0.weight"

    def forward(self, image: Tensor) -> list[Tensor]:
        given = []
        for step in self.steps:
            image = step(image) + self.offset
            given.append(image)
        given[-1] = self.norm(given[-1])
        return given


class Levels(Decoder):
    """Logits of every level in training, of the finest after it."""

    def __init__(self, spec: ModelSpec, features: Sequence[Feature], *, k: int = 3) -> None:
        super().__init__(spec, features, layout="pyramid")
        self.heads = nn.ModuleList(CONV[spec.ndim](f.channels, k, 1) for f in self.neck.features)

    def decode(self, grids: Sequence[Tensor], image: Tensor) -> Any:
        logits = [head(grid) for head, grid in zip(self.heads, grids, strict=True)]
        return logits if self.training else logits[0]


def build(about: ModelSpec, decoder: Any = Linear, **settings: Any) -> EncoderDecoder:
    torch.manual_seed(0)
    return EncoderDecoder(about, encoder=partial(Steps, **settings), decoder=decoder)


@pytest.mark.parametrize("patch", [(16, 24), (8, 16, 24)])
def test_logits_are_of_the_image_and_further_levels_of_their_own(patch: tuple[int, ...]) -> None:
    net = build(spec(patch), Levels)
    image = torch.randn(1, 2, *patch)
    assert net.eval()(image).shape == (1, 3, *patch)
    shapes = [tuple(level.shape[2:]) for level in net.train()(image)]
    assert shapes == [patch, tuple(n // 4 for n in patch), tuple(n // 8 for n in patch)]


def test_encode_and_decode_make_forward() -> None:
    net = build(spec()).eval()
    image = torch.randn(2, 2, 16, 24)
    features = net.encode(image)
    assert [tuple(f.shape[1:]) for f in features] == [(4, 8, 12), (4, 4, 6), (4, 2, 3)]
    assert torch.equal(net.decode(features, image), net(image))


def test_enlarged_logits_are_those_of_linear_interpolation() -> None:
    net = build(spec(), partial(Linear, level=0)).eval()
    image = torch.randn(1, 2, 16, 24)
    logits = net(image)
    small = net.decoder(net.encode(image), image)
    inner = 0.75 * small[..., 0, 0] + 0.25 * small[..., 0, 1]  # the second cell lies a quarter on from the first
    torch.testing.assert_close(logits[..., 0, 1], inner)


def test_steps_that_no_logit_depends_on_are_dropped() -> None:
    whole, cut = build(spec()), build(spec(), partial(Linear, level=0))
    assert len([n for n, _ in whole.named_parameters() if "steps" in n]) == 6
    assert [n for n, _ in cut.named_parameters() if "steps" in n] == ["encoder.steps.0.weight", "encoder.steps.0.bias"]
    image = torch.randn(2, 2, 16, 24)
    cut.train()(image).sum().backward()
    assert all(p.grad is not None for p in cut.parameters() if p.requires_grad)


def test_heads_of_training_only_stay() -> None:
    net = build(spec(), Levels)
    assert sum(p.requires_grad for p in net.decoder.heads.parameters()) == 6


def test_what_can_not_be_taken_out_is_frozen() -> None:
    class Demanding(nn.Conv2d):
        def forward(self, image: Tensor, twice: bool = False) -> Tensor:
            return super().forward(image) * (2 if twice else 1)

    class Twice(Steps):
        def __init__(self, about: ModelSpec) -> None:
            super().__init__(about)
            self.steps = nn.ModuleList(Demanding(a, 4, 2, 2) for a in (2, 4, 4))

        def forward(self, image: Tensor) -> list[Tensor]:
            given = []
            for step in self.steps:
                image = step(image, twice=True)
                given.append(image)
            return given

    net = EncoderDecoder(spec(), encoder=Twice, decoder=partial(Linear, level=0))
    trained = {n for n, p in net.named_parameters() if p.requires_grad and n.startswith("encoder")}
    assert trained == {"encoder.steps.0.weight", "encoder.steps.0.bias"}
    assert net.eval()(torch.randn(1, 2, 16, 24)).shape == (1, 3, 16, 24)


@pytest.mark.parametrize("patch, size", [((4, 16), "8,16"), ((16, 7), "16,8")])
def test_an_encoder_too_deep_for_the_patch_says_the_size_to_use(patch: tuple[int, ...], size: str) -> None:
    with pytest.raises(
        InputError, match=rf"too deep for the patch: .* \(8, 8\), .*set plan\.patch=\[{size}\] or larger"
    ):
        build(spec(patch))


def test_a_patch_between_multiples_is_rounded_up() -> None:
    assert build(spec((9, 16))).nearest((9, 16)) == (16, 16)


def test_an_encoder_of_one_shape_refuses_a_larger_patch() -> None:
    assert build(spec((8, 8)), fixed=(16, 16)).fixed_shape == (16, 16)
    with pytest.raises(
        InputError, match=r"takes images of \(16, 16\) only, the patch is \(16, 24\); set plan.patch=\[16,16"
    ):
        build(spec((16, 24)), fixed=(16, 16))


def test_features_are_held_to_what_is_declared() -> None:
    with pytest.raises(
        InputError, match=r"Steps: feature 0 .* has the shape \(1, 4, 8, 12\), declared is \(1, 5, 8, 12\)"
    ):
        build(spec(), wrong=1)
    encoder = Steps(spec())
    encoder.features = encoder.features[:2]
    with pytest.raises(InputError, match="got 3 features, 2 are declared"):
        check_features(encoder, 2, (16, 24))


def test_logits_of_another_number_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"decoder Levels: got logits of shape \(2, 4, 16, 24\), expected \(2, 3, 16, 24"
    ):
        build(spec(), partial(Levels, k=4))


def test_verifying_changes_nothing_and_draws_nothing() -> None:
    torch.manual_seed(3)
    plain, state = Steps(spec(), norm=True), torch.get_rng_state()
    check_features(plain, 2, (16, 24))
    assert plain.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(p.is_meta for p in plain.parameters())


def test_a_batch_of_one_cell_is_refused_in_training_only() -> None:
    net = build(spec((8, 8)), norm=True)
    with pytest.raises(InputError, match=r"a batch of 1 image of shape \(8, 8\) .* plan\.batch_size=2"):
        net(torch.randn(1, 2, 8, 8))
    assert net(torch.randn(2, 2, 8, 8)).shape == (2, 3, 8, 8)
    assert net.eval()(torch.randn(1, 2, 8, 8)).shape == (1, 3, 8, 8)


def test_it_is_verified_on_the_meta_device_as_well() -> None:
    with torch.device("meta"):
        net = build(spec(), partial(Linear, level=0))
    assert all(p.is_meta for p in net.parameters())
