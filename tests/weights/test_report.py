import json

import pytest

from medseg.weights.report import Report, Row, grouped, percent, some


def example() -> Report:
    layers = [Row(f"layer{i}.{j}.weight", "copied", 1000) for i in (1, 2) for j in range(3)]
    return Report(
        "net.pt",
        (
            Row("stem.weight", "adapted", 600, "3 channels -> 2"),
            *layers,
            Row("norm.bias", "random", 400),
            Row("norm.mean", "kept", 5, counts=False),
            Row("tied.weight", "copied", 1000, "the same tensor as layer1.0.weight", counts=False),
            Row("head.weight", "unexpected", 2000),
        ),
        channels=(("B4", "copied from R"), ("B12", "zero")),
        warnings=("unit differs",),
        prefix="names begin with net. in the file",
        normalisation="R: raw values / 255",
    )


def test_share_counts_numbers_of_parameters_once():
    assert example().share == pytest.approx((600 + 6000) / 7000)


def test_table_is_read_at_a_glance():
    assert example().table() == "\n".join(
        [
            "weights of net.pt: 94.2 % of 7k parameters; names begin with net. in the file",
            "trained on R: raw values / 255; medseg normalises as the plan says",
            "channel  from",
            "B4       copied from R",
            "B12      zero",
            "tensors     number  values  names",
            "copied           7      7k  layer1.* (3), layer2.* (3)",
            "                            tied.weight: the same tensor as layer1.0.weight",
            "adapted          1     600  stem.weight: 3 channels -> 2",
            "random           1     400  norm.bias",
            "kept             1       5  norm.mean",
            "unexpected       1      2k  head.weight",
            "warning: unit differs",
        ]
    )


def test_full_table_has_every_tensor():
    lines = example().table(full=True).splitlines()
    for row in example().rows:
        assert sum(row.name in line.split()[3:4] or f"{row.name}:" in line for line in lines) == 1


def test_compact_table_of_a_large_network_stays_short():
    rows = [Row(f"part{i}.{j}.weight", "copied", 10) for i in range(40) for j in range(20)]
    rows += [Row(f"table{i}", "adapted", 10, f"offsets {i}") for i in range(30)]
    rows += [Row(f"lost{i}", "random", 10, f"shape {i}") for i in range(30)]
    channels = tuple((f"B{i}", f"copied from {i}") for i in range(100))
    lines = Report("f", tuple(rows), channels).table().splitlines()
    assert len(lines) <= 25
    assert any("and 90 channels more" in line for line in lines)


def test_survives_json():
    report = example()
    stored = json.loads(json.dumps(report.to_dict()))
    assert Report.from_dict(stored) == report
    assert stored["share"] == report.share


def test_nothing_loaded_is_a_share_of_zero():
    assert Report("f", ()).share == 0
    assert Report("f", (Row("a", "random", 3),)).share == 0


def test_words():
    assert percent(0.8999) == "89.9 %"
    assert some(["a"]) == "a"
    assert grouped([]) == []
    assert grouped(["a"]) == [("a", 1)]
    assert grouped(["a", "b.c", "b.d"]) == [("a", 1), ("b.*", 2)]
    assert grouped(["n.a.b", "n.a.c"]) == [("n.a.b", 1), ("n.a.c", 1)]
