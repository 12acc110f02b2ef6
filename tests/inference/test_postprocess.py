from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from rasterio.crs import CRS

from medseg.errors import InputError
from medseg.geometry.grid import PIXEL, Grid
from medseg.inference.components import sieved
from medseg.inference.postprocess import STEPS, PostProcess
from medseg.labels import IGNORE, LabelTable

UTM = CRS.from_epsg(32633).to_wkt()
TABLE = LabelTable.declare({"background": 0, "liver": 1, "tumour": 2})
REGIONS = LabelTable.declare(
    {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3}, regions_class_order=[1, 2, 3]
)
LAND = LabelTable.declare({"water": 1, "forest": 2, "town": 3}, background=None)
MAPS = npst.arrays(np.int16, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 2))
STEP_LISTS: list[dict[str, Any]] = [
    {"step": "keep_largest", "classes": ["liver"]},
    {"step": "keep_largest", "classes": "all"},
    {"step": "remove_small", "classes": ["tumour"], "size": 3.0, "unit": "px"},
    {"step": "fill_holes", "classes": ["liver", "tumour"]},
    {"step": "fill_holes", "classes": "all"},
    {"step": "sieve", "size": 3.0, "unit": "px"},
]


def cells(*rows: str) -> np.ndarray:
    """A map of digits; ``.`` for 0 and ``x`` for IGNORE."""
    return np.array([[{".": 0, "x": IGNORE}.get(c, int(c) if c.isdigit() else 0) for c in r] for r in rows], np.int16)


def after(
    index: np.ndarray, *steps: dict[str, Any], labels: LabelTable = TABLE, grid: Grid | None = None
) -> np.ndarray:
    on = grid or Grid.regular(index.shape, (1.0,) * index.ndim, PIXEL)
    return PostProcess.from_list(list(steps), labels)(index, on, labels)


def test_the_largest_component_of_a_class_stays_and_other_classes_are_untouched() -> None:
    index = cells("11..1", ".1.2.", "....1", "2...1")
    kept = after(index, {"step": "keep_largest", "classes": ["liver"]})
    assert (kept == cells("11...", ".1.2.", ".....", "2....")).all()
    assert kept.dtype == index.dtype


def test_cells_that_touch_at_a_corner_are_one_component() -> None:
    index = cells("1..", ".1.", "..1")
    assert (after(index, {"step": "keep_largest", "classes": ["liver"]}) == index).all()
    cube = np.zeros((2, 2, 2), dtype=np.int16)
    cube[0, 0, 0] = cube[1, 1, 1] = 1
    assert (after(cube, {"step": "keep_largest", "classes": ["liver"]}) == cube).all()


def test_of_equal_components_the_first_stays() -> None:
    assert after(cells("1.1"), {"step": "keep_largest", "classes": ["liver"]}).tolist() == [[1, 0, 0]]


def test_components_of_a_single_line_of_a_volume_are_counted() -> None:
    index = np.array([[[1, 0, 1, 1, 0]]], dtype=np.int16)
    largest = after(index, {"step": "keep_largest", "classes": ["liver"]})
    assert largest.tolist() == [[[0, 0, 1, 1, 0]]]


def test_all_classes_are_one_structure_or_each_its_own() -> None:
    index = cells("112..2", ".....2")
    together = after(index, {"step": "keep_largest", "classes": "all"})
    each = after(index, {"step": "keep_largest", "classes": ["liver", "tumour"]})
    assert (together == cells("112...", "......")).all()
    assert (each == cells("11...2", ".....2")).all()


def test_components_below_the_size_go_and_one_of_just_the_size_stays() -> None:
    index = cells("1.11.111")
    assert after(index, {"step": "remove_small", "classes": ["liver"], "size": 2, "unit": "px"}).tolist() == [
        [0, 0, 1, 1, 0, 1, 1, 1]
    ]


@pytest.mark.parametrize(
    ("unit", "size", "grid"),
    [
        ("mm3", 0.3 * 3, Grid.regular((1, 1, 8), (0.1, 1, 3))),
        ("mm2", 0.3 * 3, Grid.regular((1, 8), (0.1, 3))),
        ("m2", 600, Grid.regular((1, 8), (20, 10), UTM)),
        ("px", 3, Grid.regular((1, 8), (20, 10), PIXEL)),
    ],
)
def test_sizes_are_in_the_unit_of_the_grid(unit: str, size: float, grid: Grid) -> None:
    index = cells("1.11.111").reshape(grid.shape)
    step = {"step": "remove_small", "classes": ["liver"], "size": size, "unit": unit}
    assert after(index, step, grid=grid).ravel().tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_a_size_in_another_unit_than_the_grid_is_refused() -> None:
    step = {"step": "remove_small", "classes": ["liver"], "size": 2, "unit": "mm3"}
    with pytest.raises(InputError, match="size in mm3, the cells of the image have px; use this unit"):
        after(cells("1.1"), step)
    with pytest.raises(InputError, match="have m2 or px"):
        after(cells("1.1"), step, grid=Grid.regular((1, 3), (10, 10), UTM))


def test_holes_are_enclosed_background_and_other_classes_in_them_stay() -> None:
    index = cells("11111.11", "1.12111.", "1.1.1.1.", "11111.11")
    filled = after(index, {"step": "fill_holes", "classes": ["liver"]})
    assert (filled == cells("11111.11", "1112111.", "11111.1.", "11111.11")).all()


def test_a_bay_connected_to_the_border_is_no_hole_and_a_corner_does_not_open_one() -> None:
    bay, closed = cells("111", "1..", "111"), cells(".11", "1.1", "11.")
    assert (after(bay, {"step": "fill_holes", "classes": ["liver"]}) == bay).all()
    assert (after(closed, {"step": "fill_holes", "classes": ["liver"]}) == cells(".11", "111", "11.")).all()


def test_a_hole_of_all_classes_gets_the_class_of_most_faces() -> None:
    assert (
        after(cells("2221", "2..1", "2211"), {"step": "fill_holes", "classes": "all"}) == cells("2221", "2221", "2211")
    ).all()
    tie = cells("11", "1.", "22", "22")
    ringed = cells("111", "1.2", "222")
    assert (after(tie, {"step": "fill_holes", "classes": "all"}) == tie).all()
    assert (after(ringed, {"step": "fill_holes", "classes": "all"}) == cells("111", "112", "222")).all()


def test_unknown_cells_stay_and_open_a_hole() -> None:
    index = cells("1111111", "1x1.1.1", "1111111")
    index[1, 5] = IGNORE
    filled = after(cells("111111", "1x.1.1", "111111"), {"step": "fill_holes", "classes": ["liver"]})
    assert (filled == cells("111111", "1x.111", "111111")).all()
    for step in STEP_LISTS:
        assert (after(index, step)[index == IGNORE] == IGNORE).all()


def test_invalid_cells_keep_their_index() -> None:
    index = cells("111", "1.1", "111", "...", "..1")
    grid = Grid.regular(index.shape, (1, 1), PIXEL)
    valid = np.ones(index.shape, dtype=bool)
    valid[4] = False
    post = PostProcess.from_list(
        [{"step": "fill_holes", "classes": ["liver"]}, {"step": "keep_largest", "classes": ["liver"]}], TABLE
    )
    assert (post(index, grid, TABLE, valid) == cells("111", "111", "111", "...", "..1")).all()
    valid[1, 1] = False
    assert (post(index, grid, TABLE, valid) == index).all()


def test_a_removed_part_of_an_inner_region_becomes_the_region_around_it() -> None:
    index = cells("1111111", "1221131", "1221111", "......3")
    inner = after(index, {"step": "keep_largest", "classes": ["core"]}, labels=REGIONS)
    assert (inner == cells("1111111", "1221111", "1221111", "......1")).all()
    outer = after(cells("11.3"), {"step": "keep_largest", "classes": ["whole"]}, labels=REGIONS)
    assert outer.tolist() == [[1, 1, 0, 0]]


def test_a_hole_of_a_region_takes_background_and_the_region_around_it() -> None:
    index = cells("111111", "122221", "121.21", "122221", "111111")
    filled = after(index, {"step": "fill_holes", "classes": ["core"]}, labels=REGIONS)
    assert (filled == cells("111111", "122221", "122221", "122221", "111111")).all()


def test_a_region_that_overlaps_another_takes_shared_cells_from_it() -> None:
    """Two regions that share a class, neither within the other: a removed cell is background for both."""
    table = LabelTable.declare({"background": 0, "a": [1, 2], "b": [2, 3]}, regions_class_order=[1, 3])
    assert after(cells("11.2"), {"step": "keep_largest", "classes": ["a"]}, labels=table).tolist() == [[1, 1, 0, 0]]


def test_small_patches_take_the_class_of_their_largest_neighbour() -> None:
    index = cells("11112", "11.22", "11122")
    sieve = {"step": "sieve", "size": 2, "unit": "px"}
    assert (after(index, sieve) == cells("11112", "11122", "11122")).all()


def test_a_chain_of_small_patches_joins_the_large_one_at_its_end() -> None:
    assert sieved(np.array([[3, 2, 2, 1, 1, 1, 1]]), 4).tolist() == [[1] * 7]


def test_two_small_patches_alone_become_the_first() -> None:
    assert sieved(np.array([[2, 1]]), 5).tolist() == [[2, 2]]
    assert sieved(np.array([[1]]), 5).tolist() == [[1]]


def test_a_sieve_needs_no_background() -> None:
    sieve = {"step": "sieve", "size": 2, "unit": "px"}
    assert after(cells("0010"), sieve, labels=LAND).tolist() == [[0, 0, 0, 0]]
    with pytest.raises(InputError, match="no background that a removed cell could get; use the step sieve"):
        PostProcess.from_list([{"step": "keep_largest", "classes": ["water"]}], LAND)


def test_steps_are_taken_in_their_order() -> None:
    index = cells("111..1", "1.1...", "111...")
    index[1, 1] = 2
    small = {"step": "remove_small", "classes": ["tumour"], "size": 2, "unit": "px"}
    fill = {"step": "fill_holes", "classes": ["liver"]}
    assert after(index, small, fill)[1, 1] == 1
    assert after(index, fill, small)[1, 1] == 0


@pytest.mark.parametrize("step", STEP_LISTS, ids=lambda s: f"{s['step']} {s.get('classes', '')}")
@given(index=MAPS, unknown=st.booleans())
def test_steps_hold_their_invariants(step: dict[str, Any], index: np.ndarray, unknown: bool) -> None:
    if unknown:
        index = np.where(np.indices(index.shape).sum(0) % 5 == 4, IGNORE, index).astype(np.int16)
    once = after(index, step)
    assert once.dtype == index.dtype
    assert (after(once, step) == once).all(), "a second time changes nothing"
    assert ((once == IGNORE) == (index == IGNORE)).all()
    assert (after(index[None], step) == once[None]).all(), "an image is a volume of one slice"
    assert (after(index[:, None], step) == once[:, None]).all()
    if step.get("classes") == ["liver"]:
        assert ((once == 2) == (index == 2)).all(), "the other class stays"
    if step["step"] == "keep_largest":
        assert (once[once > 0] == index[once > 0]).all()
    if step["step"] == "sieve":
        assert set(np.unique(once)) <= set(np.unique(index))


@given(index=npst.arrays(np.int16, (4, 4, 4), elements=st.integers(0, 2)))
def test_axes_may_be_exchanged(index: np.ndarray) -> None:
    """Nothing depends on the order of axes, but for ties of the largest component and of the sieve."""
    for step in STEP_LISTS[2:5]:
        assert (after(index.T, step) == after(index, step).T).all()


def test_plain_data_come_back() -> None:
    assert {step["step"] for step in STEP_LISTS} == set(STEPS)
    assert PostProcess.from_list(STEP_LISTS, TABLE).to_list() == STEP_LISTS
    assert PostProcess.from_list([], TABLE) == PostProcess()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"step": "erode", "classes": "all"}, "no step 'erode', expected one of keep_largest, remove_small"),
        ({"classes": "all"}, "'step' is missing"),
        ({"step": "keep_largest", "classes": ["lever"]}, "no class 'lever'.*the nearest are liver"),
        ({"step": "keep_largest", "classes": "liver"}, "classes=liver: expected a list"),
        ({"step": "keep_largest", "classes": ["background"]}, "no class 'background'"),
        ({"step": "keep_largest", "classes": [3]}, "classes=3: expected text"),
        ({"step": "keep_largest"}, "'classes' is missing"),
        ({"step": "keep_largest", "classes": "all", "size": 3}, "'size' is no key of it, expected classes"),
        ({"step": "remove_small", "classes": "all", "size": 0, "unit": "px"}, "size=0: expected a number above 0"),
        ({"step": "remove_small", "classes": "all", "size": 3, "unit": "cm3"}, "unit=cm3: expected one of px, mm3"),
        ({"step": "sieve", "size": 3, "unit": []}, r"unit=\[\]: expected one of"),
        ("sieve", "postprocessing=sieve: expected keys and values"),
    ],
)
def test_what_is_no_step_is_one_line(step: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        PostProcess.from_list([step], TABLE)
    assert "\n" not in str(refused.value)
