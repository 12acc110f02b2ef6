"""scripts/draw_layers.py: layers, arrows and table of a small house."""

import pytest

from tests.prepared import script

draw_layers = script("draw_layers")
EDGES = {"cli": {"data", "errors", "geometry"}, "data": {"geometry"}, "geometry": {"errors"}, "errors": set()}


def test_a_layer_is_one_above_what_it_imports() -> None:
    assert draw_layers.layers(EDGES) == [["errors"], ["geometry"], ["data"], ["cli"]]
    assert draw_layers.layers({"a": set(), "b": set()}) == [["a", "b"]]


def test_an_arrow_that_others_imply_is_left_out() -> None:
    assert draw_layers.reduced(EDGES) == {
        "cli": {"data"},
        "data": {"geometry"},
        "geometry": {"errors"},
        "errors": set(),
    }


def test_a_circle_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\['a', 'b'\] import each other in a circle"):
        draw_layers.layers({"a": {"b"}, "b": {"a"}, "c": set()})


def test_table_has_every_import() -> None:
    assert draw_layers.table(EDGES).splitlines()[0].split() == ["3", "cli", "data", "errors", "geometry"]
    assert len(draw_layers.table(EDGES).splitlines()) == 4


def test_every_arrow_points_down() -> None:
    arrows = draw_layers.reduced(EDGES)
    place = draw_layers._places(draw_layers.layers(EDGES), arrows)
    assert all(place[room][1] > place[other][1] for room, others in arrows.items() for other in others)
    assert len(set(place.values())) == len(EDGES)
