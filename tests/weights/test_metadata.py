import json

import pytest

from medseg.sample import Channel
from medseg.weights.metadata import Images, images_of

RGB = (Channel("R"), Channel("G"), Channel("B"))
CHANNELS = [
    {"name": "B4", "unit": "", "wavelength_nm": 664.6, "formula": ""},
    {"name": "CT", "unit": "HU", "wavelength_nm": None, "formula": ""},
]


def of_medseg(*rules, channels=CHANNELS):
    return {"medseg": {"format": 1, "spec": {"channels": channels}, "plan": {"normalisation": list(rules)}}}


def test_a_checkpoint_of_medseg(tmp_path):
    rules = [
        {"scheme": "standard", "mean": 900, "std": 300.0},
        {"scheme": "ct", "mean": -50.5, "std": 80.0, "low": 0.0},
    ]
    assert images_of(of_medseg(*rules), tmp_path / "best.ckpt") == Images(
        (Channel("B4", wavelength_nm=664.6), Channel("CT", "HU")), (900.0, -50.5), (300.0, 80.0), 1.0
    )


def test_schemes_without_numbers_are_told_in_words(tmp_path):
    told = images_of(of_medseg({"scheme": "zscore"}, {"scheme": "ct", "mean": 1.0, "std": 2.0}), tmp_path / "a")
    assert (told.mean, told.std, told.scale) == ((), (), None)
    assert told.normalisation == "normalisation zscore, ct"
    assert [c.name for c in told.channels] == ["B4", "CT"]


def test_what_the_contract_of_medseg_writes_is_read(tmp_path):
    from medseg.data.preprocessing.normalise import Normalisation
    from medseg.labels import LabelTable
    from medseg.planning.plan import Plan
    from medseg.sample import DataSpec

    spec = DataSpec(RGB, LabelTable.declare({"background": 0, "a": 1}), 2)
    rules = tuple(Normalisation("standard", mean=m, std=2.0 * m) for m in (1.0, 2.0, 3.0))
    plan = Plan((1.0, 1.0), (8, 8), 2, ((3, 3),), ((1, 1),), rules, False)
    stored = {"medseg": {"spec": spec.to_dict(), "plan": plan.to_dict()}}
    assert images_of(stored, tmp_path / "a") == Images(RGB, (1.0, 2.0, 3.0), (2.0, 4.0, 6.0), 1.0)


@pytest.mark.parametrize(
    "stored", [{}, {"spec": {}}, {"spec": None}, {"spec": {"channels": ["R"]}}, {"spec": {"channels": CHANNELS}}]
)
def test_another_form_tells_nothing(tmp_path, stored):
    assert images_of({"medseg": stored}, tmp_path / "a") == Images()


def test_keys_of_a_newer_medseg_are_ignored(tmp_path):
    content = of_medseg({"scheme": "none"}, channels=[{"name": "CT", "polarisation": "VV"}])
    assert images_of(content, tmp_path / "a").channels == (Channel("CT"),)


def test_the_processor_of_transformers(tmp_path):
    told = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1], "rescale_factor": 0.00392156862745098}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    found = images_of({}, tmp_path / "model.safetensors")
    assert (found.channels, found.mean, found.std) == (RGB, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert found.scale == pytest.approx(255)
    assert images_of({}, tmp_path / "another.safetensors") == Images(), "it may not belong to that file"


def test_the_configuration_of_timm(tmp_path):
    told = {"architecture": "vit", "pretrained_cfg": {"mean": [0.5] * 4, "std": [0.1] * 4}}
    (tmp_path / "config.json").write_text(json.dumps(told))
    assert images_of({}, tmp_path / "pytorch_model.bin") == Images((), (0.5,) * 4, (0.1,) * 4, 255.0)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"image_mean": [0.5], "image_std": []}', '{"mean": "a", "std": "b"}']
)
def test_sidecars_of_another_form_tell_nothing(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert images_of({}, tmp_path / "model.safetensors") == Images()


BANDS = {"band_names": ["blue", "B8", "swir16"]}
PUBLISHED = (Channel("blue"), Channel("B8", wavelength_nm=832.8), Channel("swir16"))


@pytest.mark.parametrize(
    "stored",
    [
        BANDS | {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]},
        {"data": {"in_channels": 3, "dataset_statistics": BANDS | {"img": [[0.1, 0.2, 0.3], [1, 2, 3]]}}},
    ],
)
def test_json_next_to_a_file_of_onnx(tmp_path, stored):
    (tmp_path / "net.json").write_text(json.dumps(stored))
    images = images_of({}, tmp_path / "net.onnx")
    assert images == Images(PUBLISHED, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 1.0)


@pytest.mark.parametrize(
    "stored, channels",
    [
        (BANDS, PUBLISHED),
        (BANDS | {"mean": [1.0], "std": [1.0]}, PUBLISHED),
        ({"band_names": "RGB", "data": [], "mean": None}, ()),
        ({"data": {"dataset_statistics": {"band_names": [1, 2], "img": [[1], [1], [1]]}}}, ()),
        ([], ()),
    ],
)
def test_json_of_onnx_that_says_less(tmp_path, stored, channels):
    (tmp_path / "net.json").write_text(json.dumps(stored))
    assert images_of({}, tmp_path / "net.onnx") == Images(channels)
    assert images_of({}, tmp_path / "other.onnx") == Images()
