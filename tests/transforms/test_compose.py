import json
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch

from medseg.errors import InputError
from medseg.transforms.compose import Compose, build_compose, generators
from medseg.transforms.filters import Blur, LowResolution
from medseg.transforms.intensity import Brightness, Contrast, Gamma, Noise
from medseg.transforms.mix import CutMix
from medseg.transforms.spatial import Elastic, Mirror, Rotation, Scale
from medseg.transforms.spectral import ChannelDropout, Gain, Haze
from medseg.transforms.turns import RandomRotate90

CONF = Path(__file__).parents[2] / "conf"


def configured(option="nnunet", patch=(10, 12, 8), spacing=(1.0, 1.0, 1.0), overrides=()):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose(overrides=[f"+transform={option}", *overrides])
    settings = {"patch_shape": patch, "spacing": spacing, "lateral_axis": 0, "mirror_classes": (0, 2, 1)}
    return hydra.utils.instantiate(cfg.transform, **settings)


def everything(patch, spacing):
    """Every transform, on every sample of two channels: nothing hides behind its probability."""
    return build_compose(
        patch_shape=patch,
        spacing=spacing,
        lateral_axis=0,
        mirror_classes=(0, 2, 1),
        wavelengths_nm=(490.0, None),
        rotation=Rotation(p=0.7),
        scale=Scale(p=0.7),
        elastic=Elastic(p=0.5, high=1.0),
        mirror=Mirror(),
        noise=Noise(p=1),
        blur=Blur(p=1),
        brightness=Brightness(p=1),
        contrast=Contrast(p=1),
        low_resolution=LowResolution(p=1),
        gamma_inverted=Gamma(p=1, invert=True),
        gamma=Gamma(p=1),
        turns=RandomRotate90(),
        gain=Gain(p=1),
        haze=Haze(p=1),
        channel_drop=ChannelDropout(p=0.2),
    )


def assert_same(one, other):
    torch.testing.assert_close(one.image, other.image, atol=1e-5, rtol=1e-4)
    assert torch.equal(one.label, other.label)
    assert torch.equal(one.valid, other.valid)


@pytest.mark.parametrize(
    ("patch", "spacing"), [((12, 12), (1.0, 1.0)), ((10, 12, 8), (1.0, 0.8, 1.5)), ((3, 12, 14), (4.0, 1.0, 1.0))]
)
class TestEveryTransform:
    def test_a_key_decides_everything(self, make_batch, patch, spacing):
        compose = everything(patch, spacing)
        batch = make_batch(compose.window_shape, b=3, c=2)
        first, again = compose(batch), compose(batch)
        assert torch.equal(first.image, again.image)
        assert torch.equal(first.label, again.label)
        other = compose(replace(batch, key=batch.key + torch.tensor([0, 1, 0])))
        assert (first.image - other.image).abs().mean() > 0.01
        assert first.image.shape == (3, 2, *patch)

    def test_a_sample_does_not_depend_on_its_batch(self, make_batch, patch, spacing):
        compose = everything(patch, spacing)
        batch = make_batch(compose.window_shape, b=4, c=2)
        together = compose(batch)
        for i in range(4):
            rows = {name: getattr(batch, name)[i : i + 1] for name in ("image", "label", "valid", "present", "key")}
            alone = compose(replace(batch, **rows, cases=batch.cases[i : i + 1]))
            expected = {name: getattr(together, name)[i : i + 1] for name in ("image", "label", "valid")}
            assert_same(alone, replace(alone, **expected))

    def test_a_sample_is_replayed_from_its_record(self, make_batch, patch, spacing):
        compose = everything(patch, spacing)
        batch = make_batch(compose.window_shape, b=3, c=2)
        record = json.loads(json.dumps(compose.record(batch)))
        params = {t: {k: np.array([one[t][k] for one in record]) for k in record[0][t]} for t in record[0]}
        replayed = compose.apply(replace(batch, key=torch.zeros_like(batch.key)), params)
        assert torch.equal(replayed.image, compose(batch).image)
        assert torch.equal(replayed.label, compose(batch).label)

    def test_what_does_not_count_is_zero(self, make_batch, patch, spacing):
        compose = everything(patch, spacing)
        batch = make_batch(compose.window_shape, b=4, c=2)
        batch.valid[:, : compose.window_shape[0] // 2] = False
        batch.valid[3] = False
        batch.present[1, 0] = False
        shown = compose(replace(batch, image=batch.image * batch.valid[:, None]))
        assert shown.valid[:3].any()
        assert torch.isfinite(shown.image).all()
        assert (shown.image.movedim(1, -1)[~shown.valid] == 0).all()
        assert (shown.image[1, 0] == 0).all()
        assert (shown.image[1, 1] != 0).any()

    def test_what_came_is_left_as_it_was(self, make_batch, patch, spacing):
        compose = everything(patch, spacing)
        batch, twin = (make_batch(compose.window_shape, c=2) for _ in range(2))
        compose(batch)
        assert torch.equal(batch.image, twin.image)
        assert torch.equal(batch.label, twin.label)
        assert torch.equal(batch.valid, twin.valid)

    def test_half_precision_stays_half(self, make_batch, patch, spacing):
        compose = everything(patch, spacing)
        batch = make_batch(compose.window_shape, c=2)
        half = compose(replace(batch, image=batch.image.half()))
        assert half.image.dtype == torch.float16
        torch.testing.assert_close(half.image.float(), compose(batch).image, atol=0.05, rtol=0)

    @pytest.mark.gpu
    def test_gpu_gives_what_the_cpu_gives(self, make_batch, patch, spacing):
        compose = everything(patch, spacing)
        batch = make_batch(compose.window_shape, b=4, c=2)
        there = compose(batch.to("cuda")).to("cpu")
        here = compose(batch)
        torch.testing.assert_close(there.image, here.image, atol=1e-3, rtol=1e-3)
        assert (there.label == here.label).float().mean() > 0.999  # a tie between classes may fall either way
        assert (there.valid == here.valid).float().mean() > 0.999


def test_rates_and_ranges_over_2000_keys(make_batch):
    compose = configured()
    batch = replace(make_batch((1, 1, 1), b=2000, c=2), key=torch.tensor([[5, i, 2] for i in range(2000)]))
    drawn = compose.draw(batch)
    rates = {
        "rotation": (drawn["spatial"]["degrees"] != 0).any(1).mean(),
        "scale": (drawn["spatial"]["scale"] != 1).mean(),
        **{f"flip {a}": drawn["spatial"]["flip"][:, a].mean() for a in range(3)},
        "noise": (drawn["noise"]["std"] != 0).any(1).mean(),
        "blurred channel": drawn["blur"]["sigma_cells"].all(2).mean(),
        "brightness": (drawn["brightness"]["factor"] != 1).all(1).mean(),
        "contrast": (drawn["contrast"]["factor"] != 1).all(1).mean(),
        "reduced channel": (drawn["low_resolution"]["zoom"] != 1).mean(),
        "gamma inverted": (drawn["gamma_inverted"]["factor"] != 1).all(1).mean(),
        "gamma": (drawn["gamma"]["factor"] != 1).all(1).mean(),
    }
    expected = [0.2, 0.2, 0.5, 0.5, 0.5, 0.1, 0.1, 0.15, 0.15, 0.125, 0.1, 0.3]
    for (name, rate), p in zip(rates.items(), expected, strict=True):
        assert rate == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 2000)), name
    both = (drawn["brightness"]["factor"] != 1).all(1) & (drawn["contrast"]["factor"] != 1).all(1)
    assert both.mean() == pytest.approx(0.15**2, abs=0.014)  # transforms are independent of each other
    assert (drawn["noise"]["std"][:, 0] == drawn["noise"]["std"][:, 1]).all()
    assert 0.09 < drawn["noise"]["std"].max() <= 0.1
    bright = drawn["brightness"]["factor"]
    assert 0.75 <= bright.min() < 0.76
    assert 1.24 < bright.max() <= 1.25
    assert (bright[:, 0] != bright[:, 1]).mean() == pytest.approx(0.15, abs=0.04)
    sigma = drawn["blur"]["sigma_cells"]
    assert 0.5 <= sigma[sigma > 0].min() < 0.51
    assert 0.99 < sigma.max() <= 1
    assert 0.5 <= drawn["low_resolution"]["zoom"].min() < 0.51


def test_every_number_of_a_key_counts_and_so_does_the_place():
    rows = [
        [0, 0, 0],
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [-1, 0, 0],
        [0, -1, 0],
        [2**32, 0, 0],
        [0, 2**40, 0],
        [2**62, 7, 1],
    ]
    drawn = [rng.integers(2**63) for place in range(3) for rng in generators(torch.tensor(rows), place)]
    assert len(set(drawn)) == 3 * len(rows)
    again = [rng.integers(2**63) for rng in generators(torch.tensor(rows[::-1]), 0)]
    assert again[::-1] == drawn[: len(rows)]


def test_a_generator_is_seeded_by_the_words_of_its_key():
    # low and high 32 bits of (42, -2, 2^33 + 3); written out, as changing it would break the replay of past runs
    words = [42, 0, 2**32 - 2, 2**32 - 1, 3, 2]
    oracle = np.random.default_rng(np.random.SeedSequence(words, spawn_key=(5,)))
    assert generators(torch.tensor([[42, -2, 2**33 + 3]]), 5)[0].integers(2**63) == oracle.integers(2**63)


@pytest.mark.parametrize("option", ["nnunet", "light", "none", "scene", "image"])
@pytest.mark.parametrize("patch", [(10, 12), (10, 12, 8), (2, 12, 12)])
def test_every_option_builds_and_runs(make_batch, option, patch):
    compose = configured(option, patch, [1.0] * len(patch))
    assert isinstance(compose, Compose)
    for step in range(3):
        batch = make_batch(compose.window_shape, b=3, step=step)
        patches = compose(batch)
        assert patches.image.shape[2:] == patch == compose.patch_shape
        if option == "none":
            assert torch.equal(patches.image, batch.image)
        else:
            assert not torch.equal(patches.image, batch.image[(..., *[slice(n) for n in patch])])


def test_only_interpolation_needs_more_than_the_patch():
    assert configured("nnunet").window_shape == (14, 18, 12)
    assert configured("light").window_shape == configured("none").window_shape == (10, 12, 8)
    still = configured(overrides=["transform.rotation=null", "transform.scale.p=0"])
    assert still.window_shape == (10, 12, 8)


def test_rates_are_set_and_transforms_switched_off_on_the_command_line(make_batch):
    batch = make_batch((14, 18, 12), b=8)
    before = configured().draw(batch)
    changed = ["transform.rotation.p=1", "transform.noise=null", "transform.mirror.axes=[2]"]
    after = configured(overrides=changed).draw(batch)
    assert "noise" not in after
    assert (after["spatial"]["degrees"] != 0).all()
    assert not after["spatial"]["flip"][:, :2].any()
    assert list(after) == [name for name in before if name != "noise"]
    for name in set(after) - {"spatial"}:  # the others draw what they drew before
        for key, value in before[name].items():
            np.testing.assert_array_equal(after[name][key], value)


def test_low_resolution_is_told_the_coarse_axis():
    assert configured(patch=(8, 32, 32)).transforms["low_resolution"].skip_axis == 0
    assert configured().transforms["low_resolution"].skip_axis is None


def test_what_is_no_transform_is_refused():
    with pytest.raises(InputError, match=r"\['noise'\] are no transforms; give each a _target_"):
        build_compose(patch_shape=(8, 8), spacing=(1.0, 1.0), noise={"p": 1})


def test_labels_come_as_stored_and_leave_as_the_loss_needs_them(make_batch):
    batch = make_batch((12, 12, 12))
    small = replace(batch, label=batch.label.to(torch.int16))
    compose = build_compose(patch_shape=(8, 8, 8), spacing=(1.0,) * 3, rotation=Rotation(p=1), mirror=Mirror())
    patches = compose(small)
    assert patches.label.dtype == torch.int64
    assert torch.equal(patches.label, compose(batch).label)


def test_all_of_a_scene_with_bands_missing_and_samples_mixed(make_batch):
    on = [f"transform.{name}.p=1" for name in ("rotation", "scale", "gain", "haze", "blur", "noise", "channel_drop")]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose(overrides=["+transform=scene", *on, "transform.cutmix.p=0.5"])
    settings = {"patch_shape": (16, 16), "spacing": (1.0, 0.8), "wavelengths_nm": (490.0, 842.0, 2190.0, None)}
    compose = hydra.utils.instantiate(cfg.transform, **settings)
    batch = make_batch(compose.window_shape, b=6, c=4)
    batch.valid[:, :9] = False
    batch.image[batch.valid.logical_not()[:, None].expand_as(batch.image)] = float("nan")
    patches, again = compose(batch), compose(batch)
    assert torch.equal(patches.image, again.image)
    assert torch.isfinite(patches.image).all()
    gone = 4 - patches.present.sum(1)
    assert (gone >= 1).all()
    assert (gone <= 3).all()
    assert (patches.image[~patches.present] == 0).all()
    assert (patches.image[patches.present].flatten(1) != 0).any(1).all()


def test_haze_needs_wavelengths_only_when_it_is_on():
    assert configured("scene").transforms["haze"].p == 0
    with pytest.raises(InputError, match=r"no channel has a wavelength.*transform\.haze=null"):
        build_compose(patch_shape=(8, 8), spacing=(1.0, 1.0), wavelengths_nm=(None, None), haze=Haze())


def test_a_mixture_is_a_function_of_the_keys_of_its_batch(make_batch):
    compose = build_compose(patch_shape=(8, 8), spacing=(1.0, 1.0), mirror=Mirror(), cutmix=CutMix(p=1))
    batch = make_batch((8, 8), b=4)
    assert torch.equal(compose(batch).image, compose(batch).image)
    reordered = [1, 0, 2, 3]
    rows = {name: getattr(batch, name)[reordered] for name in ("image", "label", "valid", "present", "key")}
    drawn, other = compose.draw(batch), compose.draw(replace(batch, **rows))
    for name, params in drawn.items():  # parameters follow the key, wherever the sample stands
        for key, value in params.items():
            np.testing.assert_array_equal(value[reordered], other[name][key])
