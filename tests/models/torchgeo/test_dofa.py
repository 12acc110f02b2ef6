"""DOFA beside torchgeo's own."""

import pytest
import torch
from torchgeo.models.copernicusfm import resize_abs_pos_embed
from torchgeo.models.dofa import DOFA

from medseg.errors import InputError
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4}
MICROMETRES = {"B2": 0.4927, "B3": 0.5598, "B4": 0.6646, "B8": 0.8328, "B12": 2.2024, "VV": 5.405, "VH": 5.405}


@pytest.fixture(scope="module")
def upstream():
    torch.manual_seed(5)
    return s.moved(DOFA(**SMALL))


@pytest.fixture(scope="module")
def checkpoint(upstream, tmp_path_factory):
    """As the authors publish it: without the pooled normalisation and the head, with remains of the pretraining."""
    state = {k: v for k, v in upstream.state_dict().items() if not k.startswith(("fc_norm", "head"))}
    remains = {
        "mask_token": torch.zeros(1, 1, 24),
        "norm.weight": torch.ones(32),
        "projector.weight": torch.ones(8, 32),
    }
    path = tmp_path_factory.mktemp("dofa") / "DOFA_ViT_small_e100.pth"
    torch.save(state | remains, path)
    return path


@pytest.mark.parametrize("bands", [s.RGB, ("B2", "B3", "B4", "B8", "B12"), ("VV", "VH")])
def test_weights_of_the_authors_give_their_features(upstream, checkpoint, bands):
    encoder = s.build("dofa", s.spec(bands, (224, 224)), weights=str(checkpoint), **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert {row.name for row in report.rows if row.how == "unexpected"} == {
        "mask_token",
        "norm.weight",
        "projector.weight",
    }
    image = s.noise(encoder, (224, 224), batch=2)
    waves = [MICROMETRES[band] for band in bands]
    found = s.features(encoder, image)
    s.assert_close(found, s.recorded(upstream.blocks, lambda: upstream(image, waves)))
    with torch.no_grad():
        pooled = upstream.fc_norm(found[-1][:, 1:].mean(dim=1))
        s.assert_close([pooled], [upstream.forward_features(image, waves)])


def test_positions_follow_the_image(upstream, checkpoint):
    encoder = s.build("dofa", s.spec(s.RGB), weights=str(checkpoint), **SMALL)
    encoder.initialise()
    other = DOFA(img_size=96, **SMALL).eval()
    changed = {"pos_embed": resize_abs_pos_embed(upstream.pos_embed.detach(), 6, 14)}
    other.load_state_dict(upstream.state_dict() | changed)
    image = s.noise(encoder, (96, 96))
    found = s.recorded(other.blocks, lambda: other(image, [MICROMETRES[band] for band in s.RGB]))
    s.assert_close(s.features(encoder, image), found)


@pytest.mark.parametrize("bands", [*s.SOME.values(), ("B4", "VV")])
def test_any_bands_on_any_shape(bands):
    s.keeps_its_promises(s.build("dofa", s.spec(bands), **SMALL), (32, 48))


def test_random_weights_know_places():
    encoder = s.build("dofa", s.spec(), **SMALL)
    flat = torch.ones(1, 3, 48, 48)
    tokens = s.features(encoder, flat)[0][0, 1:]
    assert torch.cdist(tokens, tokens)[0, 4] > 0.1  # equal patches away from the border, told apart


def test_blocks_after_the_last_feature_are_left_out():
    encoder = s.build("dofa", s.spec(), indices=[0, 2], **SMALL)
    assert len(encoder.features) == 2
    assert len(encoder.trunk.blocks) == 3


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(("B2", "DEM")), {}, r"DEM has none; name the sensor .* data.wavelengths_nm=\{DEM: 560\}"),
        (s.spec(), {"size": "giant"}, "size=giant: expected one of small, base, large, huge"),
        (s.spec(), {"indices": [2, 1]}, "expected blocks in rising order, each from 0 to 3"),
        (s.spec(), {"indices": [4]}, "each from 0 to 3"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("dofa", about, **SMALL | settings)


def test_sizes_without_published_weights_are_refused():
    encoder = s.build("dofa", s.spec(), size="small", weights="pretrained", **SMALL)
    with pytest.raises(
        InputError, match=r"none of size small; choose model\.encoder\.size=base or large, or give a file"
    ):
        encoder.initialise()
