"""Panopticon beside torchgeo's own, whose transformer is made smaller here."""

from functools import partial

import pytest
import timm
import torch
from torchgeo.models import panopticon
from torchgeo.models.copernicusfm import resize_abs_pos_embed

from medseg.errors import InputError
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4, "attn_dim": 48}
GRID = 37
IDS = {"B2": 492, "B3": 559, "B4": 664, "B8": 832, "B12": 2202}
"""Whole nanometres, as the network was trained on."""


def make(side: int, monkeypatch: pytest.MonkeyPatch) -> panopticon.Panopticon:
    small = partial(timm.create_model, img_size=side, embed_dim=32, depth=4, num_heads=4)
    monkeypatch.setattr(panopticon.timm, "create_model", small)
    torch.manual_seed(5)
    return s.moved(panopticon.Panopticon(attn_dim=48, embed_dim=32, img_size=side))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """As the authors publish it: the transformer alone, positions of 37 x 37 patches, a mask token."""
    with pytest.MonkeyPatch.context() as patch:
        state = make(14 * GRID, patch).model.state_dict()
    path = tmp_path_factory.mktemp("panopticon") / "panopticon_vitb14_teacher.pth"
    torch.save(state | {"mask_token": torch.zeros(1, 32)}, path)
    return path


@pytest.mark.parametrize(
    "bands, orbit, ids",
    [
        (s.RGB, None, [664, 559, 492]),
        (("B2", "B3", "B4", "B8", "B12"), None, list(IDS.values())),
        (("VV", "B4", "VH"), None, [-1, 664, -2]),
        (("HH", "HV"), "ascending", [-7, -8]),
        (("VH_dB", "VV_dB"), "descending", [-10, -9]),
    ],
)
def test_weights_of_the_authors_give_their_features(checkpoint, monkeypatch, bands, orbit, ids):
    about = s.spec(bands, (56, 56), sensor=None if "B4" not in bands else "sentinel-2")
    encoder = s.build("panopticon", about, weights=str(checkpoint), orbit=orbit, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    radar = {f"patch_embed.chnfus.chnemb.embed_{part}" for part in ("transmit", "receive", "orbit")}
    left = {row.name for row in report.rows if row.how == "unexpected"}
    assert left == {"mask_token"} | (set() if min(ids) < 0 else radar)
    upstream = make(56, monkeypatch)
    state = torch.load(checkpoint, weights_only=True)
    state["pos_embed"] = resize_abs_pos_embed(state["pos_embed"], 4, GRID)
    del state["mask_token"]
    upstream.model.load_state_dict(state)
    image = s.noise(encoder, (56, 56), batch=2)

    def run():
        return upstream({"imgs": image.clone(), "chn_ids": torch.tensor([ids, ids])})

    blocks = s.recorded(upstream.model.blocks, run)
    found = s.features(encoder, image)
    with torch.no_grad():
        s.assert_close(found, [upstream.model.norm(tokens) for tokens in blocks])
        s.assert_close([found[-1][:, 0]], [run()])


@pytest.mark.parametrize("bands", [*s.SOME.values(), ("B4", "VH")])
def test_any_bands_on_any_shape(bands):
    s.keeps_its_promises(s.build("panopticon", s.spec(bands, (28, 42)), **SMALL), (28, 42))


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(("B2", "DEM")), {}, "DEM has none; name the sensor"),
        (s.spec(), {"size": "large"}, "expected one of base"),
        (s.spec(), {"orbit": "north"}, "orbit=north: expected ascending, descending or null"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("panopticon", about, **SMALL | settings)
