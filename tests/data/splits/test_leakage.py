from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.warp import transform

from medseg.data.case import Case
from medseg.data.splits.leakage import Leak, cells_digest, leaks
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.sample import Sample

UTM33, UTM32, DEGREES = (CRS.from_epsg(code).to_wkt() for code in (32633, 32632, 4326))
ENGINEERING = 'LOCAL_CS["site",UNIT["metre",1]]'


def texture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, *shape)).astype(np.float32)


@dataclass
class Held:
    """An opened case in memory."""

    grid: Grid
    image: np.ndarray

    def read(self, box: Box) -> Sample:
        image = self.image[(slice(None), *box.slices)]
        return Sample(image, None, np.ones(box.shape, dtype=bool), self.grid.crop(box), "", "")


class World:
    """Cases in memory, and what opens them."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}

    def add(self, name: str, image: np.ndarray, grid: Grid | None = None, **changes: object) -> Case:
        self.held[name] = Held(grid or Grid(image.shape[1:], np.eye(image.ndim), PIXEL), image)
        return replace(Case(name, (Path(f"{name}.tif"),), Path("label.tif"), name), **changes)  # type: ignore[arg-type]

    def scene(self, name: str, affine: np.ndarray, shape: tuple[int, int] = (10, 10), frame: str = UTM33) -> Case:
        return self.add(name, np.zeros((1, *shape), np.float32), Grid(shape, affine, frame))

    def open(self, case: Case) -> Held:
        assert case.label is None  # labels are not asked for
        return self.held[case.id]


def at(x: float, y: float, cell: float = 10.0, turn: float = 0.0) -> np.ndarray:
    """North-up affine (row, column) -> (x, y) whose first cell's outer corner is (x, y), turned about it."""
    cos, sin = np.cos(turn), np.sin(turn)
    step = np.array([[cos, -sin], [sin, cos]]) @ np.array([[0, cell], [-cell, 0]])
    affine = np.eye(3)
    affine[:2, :2] = step
    affine[:2, 2] = np.array([x, y]) + step @ [0.5, 0.5]
    return affine


def told(found: list[Leak]) -> list[tuple[str, str, str]]:
    return [(leak.kind, leak.train, leak.val) for leak in found]


def test_a_sound_split_leaks_nothing() -> None:
    world = World()
    train = [world.add(f"t{i}", texture((70, 64), i)) for i in range(3)]
    val = [world.add("v", texture((70, 64), 9))]
    assert leaks(train, val, world.open) == []


def test_the_same_case_is_told_once_and_groups_by_name() -> None:
    world = World()
    image = texture((64, 64))
    both = world.add("both", image)
    left = [world.add(n, texture((64, 64), i), group="site") for i, n in enumerate(("a", "b"), 1)]
    right = [world.add(n, texture((64, 64), i), group="site") for i, n in enumerate(("c", "d"), 3)]
    found = leaks([both, *left], [both, *right], world.open)
    assert told(found) == [("case", "both", "both"), ("group", "a", "c")]
    assert found[0].message == "case both is in training and in validation"
    assert found[1].message == "group site is in training (case a) and in validation (case c)"


def test_overlap_of_two_scenes_is_a_share_of_the_validation_footprint() -> None:
    """100 m and 50 m squares of 10 m cells: 30 m x 40 m in common, of 2,500 square metres."""
    world = World()
    train = [world.scene("t", at(0, 1000))]
    val = [world.scene("v", at(70, 1010), (5, 5))]
    (leak,) = leaks(train, val, world.open)
    assert leak.share == pytest.approx(30 * 40 / 2500)
    assert leak.message == "training case t covers 48 % of the ground of validation case v"


@pytest.mark.parametrize("shift", [100.0, 99.9, 100.1, 300.0])
def test_neighbours_that_touch_within_rounding_do_not_leak(shift: float) -> None:
    world = World()
    assert leaks([world.scene("t", at(0, 0))], [world.scene("v", at(shift, 0))], world.open) == []


def test_turned_footprints_overlap_as_far_as_they_do() -> None:
    """Squares turned by 45 degrees about a corner: of one, only the bounding box overlaps."""
    world = World()
    train = [world.scene("t", at(0, 0))]  # x 0 to 100, y -100 to 0
    turned = [world.scene("clear", at(-120.7, 40, turn=np.pi / 4)), world.scene("half", at(0, 0, turn=np.pi / 4))]
    (leak,) = leaks(train, turned, world.open)
    oracle = shapely.Polygon([(0, 0), (70.7107, 70.7107), (141.4214, 0), (70.7107, -70.7107)])
    assert leak.val == "half"
    assert leak.share == pytest.approx(oracle.intersection(shapely.box(0, -100, 100, 0)).area / 1e4, abs=1e-4)


def test_south_up_and_sheared_grids_have_the_footprint_of_their_corners() -> None:
    world = World()
    south_up = np.array([[0, 10, 5], [10, 0, 5], [0, 0, 1.0]])  # x 0 to 100, y 0 to 100
    sheared = np.array([[10, 10, 10.0], [10, 0, 5], [0, 0, 1]])  # a parallelogram from (0, 0) to (200, 100)
    (leak,) = leaks([world.scene("t", south_up)], [world.scene("v", sheared)], world.open)
    assert leak.share == pytest.approx(0.5)


def test_footprints_of_two_zones_meet_where_they_lie() -> None:
    """The same 100 m square in UTM 32 and 33, 200 km from its own meridian, and one a kilometre east."""
    world = World()
    (x,), (y,) = transform(CRS.from_epsg(32632), CRS.from_epsg(32633), [700_050.0], [5_200_050.0])
    here = world.scene("here", at(700_000, 5_200_100), frame=UTM32)
    same = world.scene("same", at(x - 50, y + 50), frame=UTM33)
    east = world.scene("east", at(x + 950, y + 50), frame=UTM33)
    (leak,) = leaks([here], [same, east], world.open)
    assert told([leak]) == [("ground", "here", "same")]
    assert 0.9 < leak.share < 1  # the zones are turned against each other by some degrees


def test_degrees_against_metres() -> None:
    world = World()
    (lon,), (lat,) = transform(CRS.from_epsg(32633), CRS.from_epsg(4326), [500_000.0], [5_000_000.0])
    wide = world.scene("wide", at(lon - 0.01, lat + 0.01, 0.002), frame=DEGREES)
    inside = world.scene("inside", at(499_950, 5_000_050))
    (leak,) = leaks([wide], [inside], world.open)
    assert leak.share == pytest.approx(1.0)
    back = leaks([inside], [wide], world.open)
    assert told(back) == [("ground", "inside", "wide")]
    assert back[0].share == pytest.approx(1e4 / (0.02**2 * 111_140 * 78_850), rel=0.01)  # metres a degree at 45 N


def test_far_scenes_and_unknown_systems_are_not_compared() -> None:
    world = World()
    train = [world.scene("t", at(500_000, 5_000_000)), world.scene("near", at(15.0, 45.2, 1e-3), frame=DEGREES)]
    val = [
        world.scene("far", at(-170, -80, 1e-3), frame=DEGREES),
        world.scene("site", at(0, 0), frame=CRS.from_wkt(ENGINEERING).to_wkt()),
        world.scene("v", at(15.0, 45.2, 1e-3), frame=DEGREES),
    ]
    assert told(leaks(train, val, world.open)) == [("ground", "near", "v")]


def test_a_scene_that_has_no_place_in_another_system_hides_no_other() -> None:
    """UTM 33 does not reach the equator at 105 degrees east; the scene beside it is found all the same."""
    world = World()
    train = [
        world.scene("far", at(104.995, 0.005, 1e-3), frame=DEGREES),
        world.scene("t", at(14.9, 45.2, 0.02), frame=DEGREES),
    ]
    val = [world.scene("v", at(500_000, 5_000_000))]
    assert told(leaks(train, val, world.open)) == [("ground", "t", "v")]


@pytest.mark.parametrize("frame", [PIXEL, RAS_MM])
def test_frames_without_a_world_are_not_compared_across_files(frame: str) -> None:
    world = World()
    grid = Grid((40, 40), np.eye(3), frame)
    train, val = world.add("t", texture((40, 40), 1), grid), world.add("v", texture((40, 40), 2), grid)
    assert leaks([train], [val], world.open) == []


def test_parts_of_one_file_leak_where_they_overlap() -> None:
    world = World()
    file = (Path("photo.png"),)
    flat = np.zeros((1, 40, 40), np.float32)
    part = {n: Box((a, 0), (b, 40)) for n, a, b in (("top", 0, 20), ("mid", 15, 35), ("low", 20, 40))}
    cases = {n: world.add(n, flat[:, b.start[0] : b.stop[0]], images=file, box=b) for n, b in part.items()}
    whole = world.add("whole", flat, images=file)
    found = leaks([cases["top"]], [cases["mid"], cases["low"], whole], world.open)
    assert told(found) == [("ground", "top", "mid"), ("ground", "top", "whole")]
    assert [leak.share for leak in found] == [0.25, 0.5]
    assert found[0].message == "training case top holds 25 % of validation case mid, both of photo.png"
    assert told(leaks([whole], [cases["low"]], world.open)) == [("ground", "whole", "low")]


def test_copied_pixels_are_found_wherever_the_tile_lies() -> None:
    """3 x 2 tiles of 32 in the validation case; two of them lie elsewhere in a training case."""
    world = World()
    val = texture((96, 64), 0)
    train = texture((64, 128), 1)
    train[:, 32:64, 96:128] = val[:, 0:32, 32:64]
    train[:, 0:32, 0:32] = val[:, 64:96, 0:32]
    cases = [world.add("other", texture((96, 64), 2)), world.add("copier", train)]
    (leak,) = leaks(cases, [world.add("v", val)], world.open)
    assert (leak.kind, leak.train, leak.share) == ("pixels", "copier", pytest.approx(2 / 6))
    assert leak.message == "training case copier holds 2 of 6 tiles (33.3 %) of validation case v, cell for cell"
    assert leaks(cases, [world.add("v", val)], world.open, windows=0) == []


@pytest.mark.parametrize("shape", [(20, 33), (5, 40, 35), (1, 7)])
def test_small_cases_and_volumes_are_compared_too(shape: tuple[int, ...]) -> None:
    world = World()
    image = texture(shape)
    changed = image.copy()
    changed[1, *(0 for _ in shape)] += 1
    train = [world.add("copy", image.copy()), world.add("changed", changed)]
    (leak,) = leaks(train, [world.add("v", image)], world.open)
    assert (leak.train, leak.share) == ("copy", 1.0)


def test_plain_tiles_do_not_count() -> None:
    """Zeros, saturation, and a border with a speck are everywhere; stripes either way are content."""
    world = World()
    plain = np.zeros((1, 32, 96), np.float32)
    plain[..., 32:64] = 255
    plain[0, 3, 70:80] = 1
    assert leaks([world.add("t", plain)], [world.add("v", plain.copy())], world.open) == []
    stripes = np.zeros((1, 32, 64), np.float32)
    stripes[..., :32] = np.arange(32)[:, None]
    stripes[..., 32:] = np.arange(32)
    (leak,) = leaks([world.add("t", stripes)], [world.add("v", stripes.copy())], world.open)
    assert leak.message.startswith("training case t holds 2 of 2 tiles (100 %)")


def test_equal_bytes_of_another_shape_are_not_equal_pixels() -> None:
    world = World()
    image = texture((20, 30))
    assert leaks([world.add("t", image.reshape(2, 30, 20))], [world.add("v", image)], world.open) == []


def test_large_cases_are_read_in_few_windows_and_copies_still_found() -> None:
    """5 x 3 windows of 8 cells x 32: four are read, spread from the first to the last."""
    world = World()
    image = texture((5 * 256, 3 * 256))
    boxes: list[Box] = []

    class Watched(Held):
        def read(self, box: Box) -> Sample:
            boxes.append(box)
            return super().read(box)

    def opened(case: Case) -> Held:
        held = world.open(case)
        return Watched(held.grid, held.image)

    (leak,) = leaks([world.add("t", image.copy())], [world.add("v", image)], opened, tile=8, windows=4)
    assert leak.share == 1.0
    starts = [box.start for box in boxes[:4]]
    assert starts == [(0, 0), (256, 512), (768, 0), (1024, 512)]
    assert len(boxes) == 8
    assert {box.shape for box in boxes} == {(256, 256)}


def test_a_pair_is_told_once() -> None:
    """Overlapping ground with equal pixels is one finding; a copy without georeference is another."""
    world = World()
    image = texture((64, 64))
    val = world.add("v", image, Grid((64, 64), at(0, 0), UTM33))
    train = [world.add("t", image.copy(), Grid((64, 64), at(0, 0), UTM33)), world.add("copy", image.copy())]
    assert told(leaks(train, [val], world.open)) == [("ground", "t", "v"), ("pixels", "copy", "v")]
    sites = [world.add(n, image.copy(), group="site") for n in ("one", "two")]
    assert told(leaks(sites[:1], sites[1:], world.open)) == [("group", "one", "two"), ("pixels", "one", "two")]


def test_the_same_cells_with_another_header_are_found_and_other_shapes_are_not_read() -> None:
    world, asked = World(), []
    cube = texture((4, 5, 6))
    train = [
        world.add("t", cube),
        world.add("flat", np.zeros((1, 4, 5, 6), np.float32)),
        world.add("long", texture((4, 5, 7))),
    ]
    moved = Grid((4, 5, 6), np.diag([2.0, 2, 2, 1]), RAS_MM)
    val = [world.add("copy", cube.copy(), moved), world.add("other", texture((4, 5, 6), 1))]
    test = [world.add("flat too", np.zeros((1, 4, 5, 6), np.float32)), world.add("again", cube.copy())]

    def cells(case: Case) -> str:
        asked.append(case.id)
        return cells_digest(world.open(replace(case, label=None)))

    found = leaks(train, val, world.open, test=test, windows=0, cells=cells)
    assert told(found) == [("pixels", "t", "copy"), ("pixels", "t", "again")]
    assert found[0].message == "validation case copy has the same cells as training case t"
    assert found[1].message == "test case again has the same cells as training case t"
    assert "long" not in asked
    assert leaks(train, val, world.open, windows=0) == []


def test_a_copy_of_files_is_reported_once() -> None:
    world = World()
    train, val = [world.add("t", texture((4, 5, 6)))], [world.add("copy", texture((4, 5, 6)))]
    found = leaks(train, val, world.open, windows=0, digest=lambda case: "same", cells=lambda case: "same")
    assert [leak.message for leak in found] == ["validation case copy has the same image files as training case t"]
