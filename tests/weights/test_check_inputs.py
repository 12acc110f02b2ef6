import pytest

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights.check_inputs import compare, preparation, trained_channels
from medseg.weights.pretrained import Pretrained

RGB = tuple(Channel(n) for n in "RGB")
PHOTOS = Pretrained({}, "f", RGB, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255.0)
LIKE = {"mean": [124.0, 116.0, 104.0], "std": [58.0, 57.0, 57.0]}


def named(*names):
    return [Channel(n) for n in names]


def test_the_same_images_give_no_warning():
    assert compare(PHOTOS, RGB, LIKE) == ()
    assert compare(PHOTOS, RGB, None) == ()


@pytest.mark.parametrize("factor, off", [(2.9, False), (3.1, True), (1 / 2.9, False), (1 / 3.1, True)])
def test_another_unit_is_told_beyond_three_times(factor, off):
    raw = [v * 255 for v in PHOTOS.std]
    lines = compare(PHOTOS, RGB, {"mean": [100.0] * 3, "std": [v * factor for v in raw]})
    assert bool(lines) is off


def test_both_numbers_and_what_to_set():
    (line,) = compare(PHOTOS, named("B04", "B03", "B02"), {"mean": [1100.0] * 3, "std": [1200.0, 57.0, 57.0]})[:1]
    assert "B04 1200 instead of 58.4" in line or "B04 1200 instead of 58.39" in line
    assert "plan.normalisation=[standard,standard,standard] plan.mean=[123.7,116.3,103.5]" in line
    assert "plan.std=[58.4,57.12,57.38]" in line or "plan.std=[58.39,57.12,57.38]" in line


def test_an_offset():
    (line,) = compare(PHOTOS, RGB, {"mean": [1124.0, 116.0, 104.0], "std": LIKE["std"]})
    assert "as if by an offset: R 1124 instead of 123.7;" in line


def test_numbers_to_set_follow_the_order_of_the_data():
    lines = compare(PHOTOS, RGB[::-1], {"mean": LIKE["mean"], "std": [1e4] * 3})
    assert "plan.mean=[103.5,116.3,123.7]" in lines[-1]


def test_channels_that_the_data_lacks():
    assert compare(PHOTOS, named("R"), None) == ("the weights were trained with G, B too, which the data lacks",)
    assert compare(PHOTOS, named("CT"), None) == (
        "no channel in common by name: the weights were trained on R, G, B, the data has CT",
    )


def test_another_order():
    (line,) = compare(PHOTOS, named("B", "G", "R"), None)
    assert line == "the data's order (B, G, R) is not that of the weights (R, G, B); they are placed by name"
    (line,) = compare(PHOTOS, named("B", "G", "R"), None, by_name=False)
    assert line.endswith("set model.encoder.adapt=auto to place them by name")


def test_new_channels_are_not_compared():
    statistics = {"mean": [*LIKE["mean"], 9e9], "std": [*LIKE["std"], 9e9]}
    assert compare(PHOTOS, named("R", "G", "B", "DEM"), statistics) == ()
    off = compare(PHOTOS, named("R", "DEM"), {"mean": [0.0, 0.0], "std": [9e9, 1.0]})
    assert off[-1].endswith("check the unit of the data")


@pytest.mark.parametrize("changed", [{"scale": None}, {"mean": (), "std": ()}, {"std": (0.0, 0.0, 0.0)}])
def test_what_the_weights_do_not_tell_is_not_compared(changed):
    found = Pretrained(**vars(PHOTOS) | changed)
    assert compare(found, RGB, {"mean": [1e6] * 3, "std": [1e6] * 3}) == ()


def test_constant_channels_are_not_compared():
    assert compare(PHOTOS, RGB, {"mean": LIKE["mean"], "std": [0.0, float("nan"), 57.0]}) == ()


def test_statistics_of_other_channels_are_refused():
    with pytest.raises(InputError, match="got 2 means and 2 stds for 3 channels"):
        compare(PHOTOS, RGB, {"mean": [1, 2], "std": [1, 2]})


@pytest.mark.parametrize(
    "count, wanted, names, words",
    [
        (3, named("B02", "B08"), "RGB", "taken as red, green, blue"),
        (3, [Channel("x", wavelength_nm=500.0)], "RGB", "taken as red, green, blue"),
        (3, named("T1", "T2", "PD"), ("T1", "T2", "PD"), "taken as those of the data, in order (T1, T2, PD)"),
        (2, named("CT", "PET"), ("CT", "PET"), "taken as those of the data"),
        (4, named("CT"), ("number 1", "number 2", "number 3", "number 4"), "4 without names"),
        (3, named("CT"), ("number 1", "number 2", "number 3"), "3 without names"),
    ],
)
def test_channels_of_a_file_that_does_not_say(count, wanted, names, words):
    channels, warning = trained_channels(Pretrained({}, "f"), count, wanted)
    assert tuple(c.name for c in channels) == tuple(names)
    assert warning.startswith("the weights do not say")
    assert words in warning


def test_channels_of_a_file_that_says_something_else():
    assert trained_channels(PHOTOS, 3, named("CT")) == (RGB, "")
    _, warning = trained_channels(PHOTOS, 4, named("CT"))
    assert warning.startswith("the weights name 3 channels, but their kernel takes 4")


def test_preparation_in_words():
    assert preparation(Pretrained({}, "f")) == ""
    assert preparation(PHOTOS) == "R, G, B: raw values / 255, minus 0.485, 0.456, 0.406, by 0.229, 0.224, 0.225"
    assert preparation(Pretrained({}, "f", scale=1e4)) == "raw values / 10000"
    many = Pretrained({}, "f", mean=(1.0,) * 6, std=(2.0,) * 6, scale=1.0)
    assert preparation(many) == "raw values, minus 1, 1, 1, 1 … (6), by 2, 2, 2, 2 … (6)"
    assert preparation(Pretrained({}, "f", (Channel("CT"),), normalisation="zscore")) == "CT: zscore"
