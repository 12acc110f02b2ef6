import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.weights.names import match

OWN = {"stem.weight": 60, "blocks.0.attn.weight": 100, "blocks.0.attn.bias": 10, "blocks.1.attn.weight": 100}


def always(own, file):
    return True


def prefixed(prefix):
    return [prefix + name for name in OWN]


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "backbone.",
        "model.encoder.",
        "image_encoder.",
        "visual.trunk.",
        "network.encoder.net.",
        "swinViT.",
    ],
)
def test_prefix_of_the_file_is_stripped(prefix):
    found = match(OWN, [*prefixed(prefix), "head.weight"], always)
    assert (found.strip, found.add, found.covered) == (prefix, "", 270)
    assert found.pairs == {name: prefix + name for name in OWN}


@pytest.mark.parametrize("add", ["model.", "net.trunk."])
@pytest.mark.parametrize("strip", ["", "teacher.backbone."])
def test_prefix_of_the_module_is_added(strip, add):
    own = {add + name: n for name, n in OWN.items()}
    found = match(own, prefixed(strip), always)
    assert (found.strip, found.add) == (strip, add)
    assert found.pairs == {add + name: strip + name for name in OWN}


def test_the_pair_that_covers_most_numbers_wins():
    small = ["a.stem.weight", "a.blocks.0.attn.bias"]
    large = ["b.blocks.0.attn.weight", "b.blocks.1.attn.weight"]
    assert match(OWN, small + large, always).strip == "b."


def test_only_what_fits_is_counted():
    found = match(OWN, prefixed("a.") + prefixed("b."), lambda own, file: file.startswith("b."))
    assert found.strip == "b."
    none = match(OWN, prefixed("a."), lambda *_: False)
    assert (none.pairs, none.covered) == ({}, 0)


def test_partners_that_do_not_fit_are_still_named():
    found = match(OWN, prefixed("a."), lambda own, file: "stem" not in own)
    assert found.pairs["stem.weight"] == "a.stem.weight"
    assert found.covered == 210


def test_ties_go_to_averaged_copies_then_short_prefixes_then_the_first():
    assert match(OWN, prefixed("student.") + prefixed("teacher."), always).strip == "teacher."
    found = match(OWN, prefixed("module.q.") + prefixed("module.k."), always)
    assert (found.strip, found.ties) == ("module.q.", ("module.k.",))
    assert match(OWN, prefixed("long.one.") + prefixed("net."), always).strip == "net."
    assert "module.k.* would fit as well" in found.told()


def test_flattened_blocks_count_as_nested_ones():
    own = {"stem_0.weight": 6, "stages_0.blocks.1.weight": 60, "norm.bias": 1}
    file = ["e.stem.0.weight", "e.stages.0.blocks.1.weight", "e.norm.bias"]
    found = match(own, file, always)
    assert found.dotted
    assert found.pairs == dict(zip(own, file, strict=True))
    reverse = match(dict.fromkeys(file, 1), list(own), always)
    assert reverse.pairs == dict(zip(file, own, strict=True))


def test_a_flat_name_that_would_become_another_stays():
    own = {"a_0.w": 5, "a.0.w": 5, "b_0.w": 5}
    found = match(own, ["a_0.w", "a.0.w", "b.0.w"], always)
    assert found.pairs == {"a_0.w": "a_0.w", "a.0.w": "a.0.w", "b_0.w": "b.0.w"}


def test_buffers_get_partners_but_do_not_count():
    found = match(OWN, [*prefixed("m."), "m.norm.mean"], always, extra=["norm.mean"])
    assert found.pairs["norm.mean"] == "m.norm.mean"
    assert found.covered == 270


def test_nothing_in_common():
    assert match(OWN, ["conv.kernel", "other"], always).pairs == {}
    assert match(OWN, [], always).pairs == {}
    assert match({}, ["a"], always).covered == 0


def test_endings_of_one_part_are_no_match():
    assert match({"fc.weight": 3, "fc.bias": 2}, ["norm.weight", "norm.bias"], always).pairs == {}


part = st.sampled_from(["a", "b", "blocks", "0", "1", "attn", "weight", "bias"])
name = st.lists(part, min_size=1, max_size=4).map(".".join)


@given(st.dictionaries(name, st.integers(1, 50), min_size=1, max_size=12), st.sampled_from(["", "m.", "t.backbone."]))
def test_a_network_of_any_names_finds_itself(own, prefix):
    found = match(own, [prefix + n for n in own], always)
    assert found.covered == sum(own.values())


def test_large_networks_take_a_moment():
    own = {f"blocks.{i}.{part}.weight": 100 for i in range(48) for part in "abcdefghijklmnopqrst"}
    begin = time.process_time()
    found = match(own, [f"teacher.{n}" for n in own] + [f"student.{n}" for n in own], always)
    assert found.strip == "teacher."
    assert time.process_time() - begin < 5
