import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models._manipulate import adapt_input_conv
from torch.nn import functional

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.sensors.bands import bands_of
from medseg.weights.channels import STRATEGIES, adapt

RGB = [Channel("R"), Channel("G"), Channel("B")]
KERNEL = torch.tensor([[1.0, 2.0, 4.0], [-8.0, 16.0, 32.0]])[..., None, None]  # two outputs, 1 x 1 cells


def named(*names):
    return [Channel(name) for name in names]


def at(*wavelengths):
    return [Channel(f"{nm} nm", wavelength_nm=float(nm)) for nm in wavelengths]


def columns(kernel):
    return kernel.flatten(1).T.tolist()


def test_name_copies_and_leaves_others_random():
    kernel, told = adapt(KERNEL, RGB, named("blue", "CT"), "name", generator=torch.Generator().manual_seed(0))
    # Three trained channels, two wanted: times 3/2.
    assert columns(kernel)[0] == [6.0, 48.0]
    assert columns(kernel)[1] not in ([6.0, 48.0], [0.0, 0.0])
    assert told == ("copied from B, times 1.5", "random: no such name")


def test_zero_copies_and_leaves_others_silent():
    kernel, told = adapt(KERNEL, RGB, named("R", "G", "B", "NIR"), "zero")
    assert columns(kernel) == [[1.0, -8.0], [2.0, 16.0], [4.0, 32.0], [0.0, 0.0]]
    assert told == ("copied from R", "copied from G", "copied from B", "zero")


def test_wavelength_is_linear_between_neighbours():
    trained = at(400, 500, 700)
    kernel, told = adapt(KERNEL, trained, at(450, 500, 650), "wavelength")
    assert columns(kernel) == [[1.5, 4.0], [2.0, 16.0], [3.5, 28.0]]
    assert told == (
        "0.50 400 nm + 0.50 500 nm, by wavelength 450 nm",
        "500 nm, of the same 500 nm",
        "0.25 500 nm + 0.75 700 nm, by wavelength 650 nm",
    )


def test_wavelength_outside_takes_the_nearest_and_without_one_the_mean():
    kernel, told = adapt(KERNEL, at(700, 400, 500), [*at(2200, 300), Channel("VV")], "wavelength")
    assert columns(kernel) == [[1.0, -8.0], [2.0, 16.0], pytest.approx([7 / 3, 40 / 3])]
    assert told == ("700 nm, the nearest to 2200 nm", "400 nm, the nearest to 300 nm", "mean of all 3")


def test_mean():
    kernel, told = adapt(KERNEL, RGB, named("CT", "PET"), "mean")
    assert columns(kernel) == [pytest.approx([3.5, 20.0])] * 2
    assert told == ("mean of all 3, times 1.5",) * 2


@pytest.mark.parametrize("count", [2, 3, 4, 6, 7])
def test_repeat_equals_timm(count):
    kernel = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(count))
    ours, told = adapt(kernel, RGB, named(*"abcdefg"[:count]), "repeat")
    assert torch.allclose(ours, adapt_input_conv(count, kernel))
    assert told[0].startswith("repeated from R")


def test_mean_of_one_channel_equals_timm():
    kernel = torch.randn(4, 3, 5, 5)
    assert torch.allclose(adapt(kernel, RGB, named("CT"), "mean")[0], adapt_input_conv(1, kernel), atol=1e-6)


def test_random_has_the_spread_of_the_trained_kernel_and_follows_its_generator():
    kernel = 0.02 * torch.randn(64, 3, 7, 7) + 0.5
    one, told = adapt(kernel, RGB, named("a", "b"), "random", generator=torch.Generator().manual_seed(1))
    other, _ = adapt(kernel, RGB, named("a", "b"), "random", generator=torch.Generator().manual_seed(1))
    assert torch.equal(one, other)
    assert one.std().item() == pytest.approx(kernel.std().item(), rel=0.05)
    assert abs(one.mean().item()) < 0.002
    assert told == ("random", "random")


def test_auto_takes_names_then_wavelengths_then_the_mean():
    wanted = [*bands_of(["B02", "B08", "B04"], "sentinel-2"), Channel("VV")]
    kernel, told = adapt(KERNEL, RGB, wanted)
    assert columns(kernel) == [[3.0, 24.0], [0.75, -6.0], [0.75, -6.0], pytest.approx([1.75, 10.0])]
    assert told == (
        "copied from B, times 0.75",
        "R, the nearest to 832.8 nm, times 0.75",
        "copied from R, times 0.75",
        "mean of all 3, times 0.75",
    )


def test_auto_interpolates_between_the_bands_of_photographs():
    kernel, told = adapt(KERNEL, RGB, at(510, 595, 700))
    assert columns(kernel) == [[3.0, 24.0], [1.5, 4.0], [1.0, -8.0]]
    assert told[0] == "0.50 B + 0.50 G, by wavelength 510 nm"


def test_auto_without_anything_in_common_is_the_mean():
    assert torch.equal(adapt(KERNEL, RGB, named("CT"))[0], adapt(KERNEL, RGB, named("CT"), "mean")[0])


@pytest.mark.parametrize("strategy", ["auto", "name", "zero"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0)])
def test_same_channels_in_any_order_are_copied_bit_by_bit(strategy, order):
    kernel = torch.randn(4, 3, 3, 3, 3)
    moved, told = adapt(kernel, RGB, [RGB[i] for i in order], strategy)
    assert torch.equal(moved, kernel[:, list(order)])
    assert told == tuple(f"copied from {RGB[i].name}" for i in order)


@pytest.mark.parametrize("cells", [(), (4,), (3, 3), (3, 3, 3)])
def test_any_number_of_axes(cells):
    kernel = torch.randn(4, 3, *cells)
    for strategy in STRATEGIES:
        assert adapt(kernel, RGB, named("R", "x"), strategy)[0].shape == (4, 2, *cells)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_stays(dtype):
    assert adapt(KERNEL.to(dtype), RGB, named("CT"))[0].dtype == dtype


# Invariants: what the docstring promises of an image that is equal in all channels.

seeds = st.integers(0, 1000)


def responses(kernel, trained, wanted, strategy, seed):
    """Of the trained and of the adapted kernel, to one plane repeated over all channels."""
    plane = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    changed, _ = adapt(kernel, trained, wanted, strategy)
    return (
        functional.conv2d(plane.expand(-1, len(trained), -1, -1), kernel),
        functional.conv2d(plane.expand(-1, len(wanted), -1, -1), changed),
    )


def some_bands(count, seed):
    nm = torch.randint(350, 2500, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return [Channel(f"band {i}", wavelength_nm=float(v) if v % 5 else None) for i, v in enumerate(nm)]


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 6), st.integers(1, 9), seeds)
def test_mean_keeps_the_response_to_equal_channels(trained, wanted, seed):
    one, other = responses(drawn(seed, 3, trained, 3, 3), some_bands(trained, 1), some_bands(wanted, 2), "mean", seed)
    assert torch.allclose(one, other, atol=1e-4)


@given(st.integers(1, 5), st.integers(1, 4), seeds)
def test_repeat_keeps_it_in_whole_turns(trained, turns, seed):
    wanted = some_bands(trained * turns, 2)
    one, other = responses(drawn(seed, 3, trained, 3, 3), some_bands(trained, 1), wanted, "repeat", seed)
    assert torch.allclose(one, other, atol=1e-4)


@given(st.integers(1, 6), st.integers(1, 9), st.sampled_from(["auto", "wavelength", "zero", "repeat", "mean"]), seeds)
def test_all_keep_it_where_trained_channels_are_alike(trained, wanted, strategy, seed):
    alike = drawn(seed, 3, 1, 3, 3).expand(-1, trained, -1, -1)
    ours, theirs = some_bands(trained, 1), some_bands(wanted, seed)
    theirs[0] = ours[0] = Channel("band 0", wavelength_nm=500.0)  # so that every strategy has something to go by
    one, other = responses(alike, ours, theirs, strategy, seed)
    assert torch.allclose(one, other, atol=1e-4)


@given(st.integers(1, 6), st.permutations(range(5)), seeds)
def test_wanted_channels_permute(trained, order, seed):
    kernel, ours, wanted = drawn(seed, 2, trained, 2, 2), some_bands(trained, 1), some_bands(5, seed)
    straight, told = adapt(kernel, ours, wanted)
    moved, told_moved = adapt(kernel, ours, [wanted[i] for i in order])
    assert torch.allclose(moved, straight[:, list(order)], atol=1e-6)
    assert told_moved == tuple(told[i] for i in order)


@pytest.mark.parametrize(
    "strategy, trained, wanted, words",
    [
        ("nearest", RGB, RGB, "choose one of auto, name, wavelength, mean, repeat, zero, random"),
        ("name", RGB, named("CT"), "needs a name in common: the data has CT, the weights have R, G, B"),
        ("zero", RGB, named("CT"), "choose mean, repeat or random"),
        ("wavelength", named("a", "b", "c"), at(500), "needs a wavelength"),
    ],
)
def test_refused(strategy, trained, wanted, words):
    with pytest.raises(InputError, match=words) as caught:
        adapt(KERNEL, trained, wanted, strategy)
    assert "\n" not in str(caught.value)
