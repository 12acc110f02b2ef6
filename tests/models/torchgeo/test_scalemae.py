"""Scale-MAE beside torchgeo's own."""

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import nn
from torchgeo.models.scale_mae import ScaleMAE

from medseg.errors import InputError
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4}


def make(side: int, res: float, state: Mapping[str, torch.Tensor] | None = None) -> ScaleMAE:
    norm = partial(nn.LayerNorm, eps=1e-6)
    net = ScaleMAE(res=res, img_size=side, patch_size=16, norm_layer=norm, num_classes=0, **SMALL)
    net.load_state_dict({k: t for k, t in (state or {}).items() if k != "pos_embed"}, strict=False)
    return net.eval()


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(5)
    return s.moved(make(224, 1.0)).state_dict()


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("scalemae") / "scalemae.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    "side, spacing, cell_m, res", [(224, 10.0, None, 10.0), (96, 0.3, None, 0.3), (64, 10.0, 2.0, 2.0)]
)
def test_weights_of_the_authors_give_their_features(state, checkpoint, side, spacing, cell_m, res):
    about = s.spec(("R", "G", "B"), (side, side), sensor=None, spacing=(spacing, spacing))
    encoder = s.build("scalemae", about, weights=str(checkpoint), cell_m=cell_m, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert not report.warnings
    assert report.normalisation == "R, G, B: raw values / 255, minus 0.485, 0.456, 0.406, by 0.229, 0.224, 0.225"
    upstream = make(side, res, state)
    image = s.noise(encoder, (side, side), batch=2)
    blocks = s.recorded(upstream.blocks, lambda: upstream(image))
    with torch.no_grad():
        s.assert_close(s.features(encoder, image), [upstream.norm(tokens) for tokens in blocks])
        s.assert_close([s.features(encoder, image)[-1]], [upstream.forward_features(image)])


def test_bands_of_another_sensor_are_put_in_their_place(state, checkpoint):
    encoder = s.build("scalemae", s.spec(("B2", "B4", "B3")), weights=str(checkpoint), **SMALL)
    report = encoder.initialise()
    assert [origin for _, origin in report.channels] == ["copied from B", "copied from R", "copied from G"]
    image = s.noise(encoder, (48, 48))
    upstream = make(48, 10.0, state)
    with torch.no_grad():
        s.assert_close([s.features(encoder, image)[-1]], [upstream.forward_features(image[:, [1, 2, 0]])])


@pytest.mark.parametrize("bands", s.SOME.values())
def test_any_bands_on_any_shape(checkpoint, bands):
    encoder = s.build("scalemae", s.spec(bands), weights=str(checkpoint), **SMALL)
    assert encoder.initialise().share == 1
    s.keeps_its_promises(encoder, (32, 48))


def test_rows_and_columns_have_cells_of_their_own():
    square = s.build("scalemae", s.spec(spacing=(10.0, 10.0)), **SMALL)
    narrow = s.build("scalemae", s.spec(spacing=(10.0, 5.0)), **SMALL)
    patch = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    row, column = patch.repeat(1, 1, 1, 3), patch.repeat(1, 1, 3, 1)
    s.assert_close(s.features(square, column), s.features(narrow, column))
    assert not torch.allclose(s.features(square, row)[0], s.features(narrow, row)[0], atol=1e-3)


@pytest.mark.parametrize(
    "about, settings, words",
    [(s.volume(), {}, "takes images of 2 spatial axes"), (s.spec(), {"size": "small"}, "expected one of base, large")],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("scalemae", about, **SMALL | settings)
