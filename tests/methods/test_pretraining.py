"""Learning without labels: what the loss depends on, and that it can be learned."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medseg.errors import InputError
from medseg.labels import IGNORE
from medseg.methods.mae import Mae
from medseg.methods.masking import hidden_blocks, spread
from medseg.methods.pretraining import Pretraining, diagonal, mean_where
from medseg.methods.rotation import Rotation, turn, turns
from medseg.methods.simmim import SimMim
from medseg.methods.spark import Spark, sparse
from medseg.models.decoders.linear import Linear
from medseg.models.encoder_decoder import EncoderDecoder
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.network import ModelSpec
from medseg.models.unet import UNet
from medseg.sample import Batch
from tests import tiny_checkpoint

CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Conv(Encoder):
    """Two strided stages."""

    def __init__(self, spec: ModelSpec) -> None:
        ndim = spec.ndim
        super().__init__(spec, [Feature(8, (2,) * ndim), Feature(16, (4,) * ndim)], (4,) * ndim)
        self.one = nn.Sequential(CONV[ndim](spec.in_channels, 8, 3, 2, 1), NORM[ndim](8), nn.ReLU())
        self.two = nn.Sequential(CONV[ndim](8, 16, 3, 2, 1), NORM[ndim](16), nn.ReLU())

    @property
    def trunk(self) -> nn.Module:
        return self

    @property
    def stem(self) -> str:
        return "one.0.weight"

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        fine = self.one(image)
        return [fine, self.two(fine)]


class Plain(Encoder):
    """A transformer of one layer on patches of 4 cells, with a class token."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, [Feature(16, (4,) * spec.ndim, tokens=True, prefix=1)], (4,) * spec.ndim)
        self.cut = CONV[spec.ndim](spec.in_channels, 16, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 16, 16) * 0.1)
        self.first = nn.Parameter(torch.zeros(1, 1, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)

    @property
    def trunk(self) -> nn.Module:
        return self

    @property
    def stem(self) -> str:
        return "cut.weight"

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        return self.cut(image).flatten(2).transpose(1, 2) + self.place

    def attend(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([self.first.expand(len(tokens), -1, -1), tokens], dim=1))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [self.attend(self.embed(image))]


def spec(ndim: int, channels: int = 2) -> ModelSpec:
    ones, twos = (1,) * ndim, (2,) * ndim
    return ModelSpec(channels, channels, (16,) * ndim, (1.0,) * ndim, ((3,) * ndim,) * 2, (ones, twos))


def shared() -> dict[str, Any]:
    adam = partial(torch.optim.AdamW, lr=1e-2)
    return {
        "optimizer": adam,
        "schedule": lambda p: 1.0,
        "seed": 0,
        "steps_per_epoch": 10,
        "metadata": tiny_checkpoint.metadata(),
    }


def segmenter(encoder: Any, ndim: int) -> EncoderDecoder:
    level: Any = "all" if encoder is Conv else -1
    return EncoderDecoder(spec(ndim), encoder=encoder, decoder=partial(Linear, level=level))


METHODS: dict[str, Any] = {
    "mae of a network": lambda ndim: Mae(
        UNet(spec(ndim), base_features=8), patch=(16,) * ndim, mask_patch_size=4, **shared()
    ),
    "mae of a transformer": lambda ndim: Mae(
        segmenter(Plain, 2), patch=(16, 16), decoder_embed_dim=32, decoder_depth=1, **shared()
    ),
    "simmim": lambda ndim: SimMim(segmenter(Conv, ndim), patch=(16,) * ndim, **shared()),
    "simmim of tokens": lambda ndim: SimMim(segmenter(Plain, 2), patch=(16, 16), **shared()),
    "spark": lambda ndim: Spark(segmenter(Conv, ndim), patch=(16,) * ndim, **shared()),
    "rotation": lambda ndim: Rotation(segmenter(Conv, ndim), patch=(16,) * ndim, **shared()),
}
FLAT = {"mae of a transformer", "simmim of tokens"}
CASES = [(name, ndim) for name in METHODS for ndim in (2, 3) if not (name in FLAT and ndim == 3)]


def build(name: str, ndim: int) -> Pretraining:
    torch.manual_seed(0)
    method: Pretraining = METHODS[name](ndim)
    return method


def batch(ndim: int, n: int = 2, seed: int = 0) -> Batch:
    """Stripes along the last axis, brighter towards the end of the first: cells tell of their neighbours."""
    shape = (16,) * ndim
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.arange(s) for s in shape], indexing="ij")
    image = np.stack([[np.sin(axes[-1] + rng.random() * 6), axes[0] / 16] for _ in range(n)]).astype(np.float32)
    cells = torch.from_numpy(image)
    return Batch(
        image=cells,
        label=torch.full((n, *shape), IGNORE),
        valid=torch.ones((n, *shape), dtype=torch.bool),
        present=torch.ones((n, 2), dtype=torch.bool),
        key=torch.tensor([[0, 0, i] for i in range(n)]),
        cases=("a",) * n,
    )


@pytest.mark.parametrize(("name", "ndim"), CASES)
def test_one_batch_is_learned_and_every_parameter_that_learns_has_a_gradient(name: str, ndim: int) -> None:
    method, given = build(name, ndim), batch(ndim)
    optimizer = method.configure_optimizers()
    first = method.losses(given)[0].item()
    for _ in range(60):
        optimizer.zero_grad()
        method.losses(given)[0].backward()
        optimizer.step()
    lacking = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert not [n for n in lacking if "heads" not in n], lacking  # deep supervision's coarse heads are not used
    assert method.losses(given)[0].item() < 0.7 * first


@pytest.mark.parametrize(("name", "ndim"), [case for case in CASES if case[0] != "rotation"])
def test_what_is_hidden_is_not_seen(name: str, ndim: int) -> None:
    method, given = build(name, ndim).eval(), batch(ndim)
    hidden = spread(hidden_blocks(given.key, method.grid, method.mask_ratio), given.image.shape[2:])[:, None]  # type: ignore[arg-type]
    other = replace(given, image=torch.where(hidden, given.image + 5, given.image))
    with torch.no_grad():
        (_, seen), (_, again) = method.losses(given), method.losses(other)
    torch.testing.assert_close(seen.pred, again.pred)
    torch.testing.assert_close(seen.masked, again.masked)


@pytest.mark.parametrize(("name", "ndim"), [case for case in CASES if case[0] not in ("rotation", "spark")])
def test_only_hidden_valid_cells_count(name: str, ndim: int) -> None:
    method, given = build(name, ndim).eval(), batch(ndim)
    hidden = spread(hidden_blocks(given.key, method.grid, method.mask_ratio), given.image.shape[2:])  # type: ignore[arg-type]
    invalid = given.valid.clone()
    invalid[:, 0] = False
    with torch.no_grad():
        _, seen = method.losses(given)
        loss, _ = method.losses(replace(given, valid=invalid))
        whole = [method.losses(replace(given, image=i[None], valid=v[None], key=k[None], present=given.present[:1],
                                       label=given.label[:1], cases=("a",)))[1].pred
                 for i, v, k in zip(given.image, given.valid, given.key, strict=True)]  # fmt: skip
    guessed = torch.stack([g for g in whole if g is not None])
    error = (guessed - given.image) ** 2 if name.startswith("mae") else (guessed - given.image).abs()
    counted = (hidden & invalid)[:, None].expand_as(error)
    torch.testing.assert_close(loss, error[counted].mean(), rtol=1e-4, atol=1e-5)
    assert seen.pred is not None


def test_sparse_convolution_equals_that_of_visible_cells_alone() -> None:
    """What stands in hidden cells, and how many of them there are, does not matter to visible ones far from them."""
    torch.manual_seed(0)
    encoder = Conv(spec(2)).train()
    visible = torch.zeros(1, 4, 4, dtype=torch.bool)
    visible[:, :2] = True
    image = torch.randn(1, 2, 16, 16)
    image[:, :, 8:] = 0  # hidden
    with sparse(encoder, visible), torch.no_grad():
        fine, coarse = encoder(image)
    assert float(fine[:, :, 4:].abs().max()) == 0
    assert float(coarse[:, :, 2:].abs().max()) == 0
    torch.manual_seed(0)
    alone = Conv(spec(2)).train().requires_grad_(False)
    torch.testing.assert_close(fine[:, :, :4], alone(image[:, :, :8])[0])
    torch.testing.assert_close(coarse[:, :, :2], alone.two(alone.one(image[:, :, :8])))
    first, other = encoder.one[1], Conv(spec(2)).train()
    other.load_state_dict(encoder.state_dict())
    torch.manual_seed(0)
    once = Conv(spec(2)).train()
    once(image[:, :, :8])
    torch.testing.assert_close(first.running_mean, once.one[1].running_mean)
    torch.testing.assert_close(first.running_var, once.one[1].running_var)
    assert not encoder.one[0]._forward_hooks, "hooks are gone"


def test_the_answer_of_a_turn_is_the_turn() -> None:
    image = torch.arange(8.0).reshape(1, 2, 2, 2)
    seen = {tuple(turn(image, *how).flatten().tolist()) for how in turns(3)}
    assert len(seen) == 10
    torch.testing.assert_close(turn(image, 1, (0, 1))[0, :, :, 0], torch.rot90(image[0, :, :, 0], 1, (0, 1)))


def test_validation_takes_the_same_patches_and_masks_every_time() -> None:
    whole = batch(2, n=1)
    cut = diagonal(whole, (8, 8), index=3)
    assert cut.image.shape == (4, 2, 8, 8)
    torch.testing.assert_close(cut.image[0], whole.image[0, :, 1:9, 1:9])  # a fifth of the room of 8
    assert cut.key[:, 1].tolist() == [3] * 4
    small = diagonal(whole, (24, 16), index=0)
    assert small.image.shape == (4, 2, 24, 16)
    assert not small.valid[:, 16:].any()


def test_mean_where_by_hand() -> None:
    error = torch.tensor([[[1.0, 2.0], [torch.nan, 4.0]]])[:, None]
    assert float(mean_where(error, torch.tensor([[[True, False], [False, True]]]))) == 2.5
    assert float(mean_where(error, torch.zeros(1, 2, 2, dtype=torch.bool))) == 0


@pytest.mark.parametrize("kind", [SimMim, Spark, Rotation])
def test_methods_of_encoders_refuse_other_networks(kind: Any) -> None:
    with pytest.raises(InputError, match="model=encoder_decoder"):
        kind(UNet(spec(2), base_features=4), patch=(16, 16), **shared())


def test_spark_refuses_tokens_and_ratios_out_of_range() -> None:
    with pytest.raises(InputError, match="gives tokens"):
        Spark(segmenter(Plain, 2), patch=(16, 16), **shared())
    with pytest.raises(InputError, match=r"method\.mask_ratio=1"):
        Mae(UNet(spec(2), base_features=4), patch=(16, 16), mask_ratio=1.0, **shared())
    with pytest.raises(InputError, match="coarsest stride"):
        Spark(segmenter(Conv, 2), patch=(16, 16), mask_patch_size=2, **shared())


class Folding(Conv):
    """Runs slice by slice, as 2.5D encoders do."""

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        fine, coarse = super().forward(image.flatten(0, 1)[:, None].expand(-1, 2, -1, -1))
        return [f.unflatten(0, (len(image), -1))[:, 0] for f in (fine, coarse)]


def test_spark_refuses_encoders_that_run_slice_by_slice() -> None:
    method = Spark(segmenter(Folding, 2), patch=(16, 16), **shared())
    with pytest.raises(InputError, match="folds slices"):
        method.losses(batch(2))
