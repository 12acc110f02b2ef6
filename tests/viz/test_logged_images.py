import numpy as np
import pytest

from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import IGNORE, LabelTable
from medseg.viz.logged_images import Picture, classes_of, pictures
from medseg.viz.overlay import Panels

TABLE = LabelTable.declare({"background": 0, "organ": 1, "tumour": 2}, colours={"tumour": (10, 20, 30)})


def volume(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Panels:
    label = np.zeros(shape, dtype=np.int64)
    label[1, 2, 3] = 2
    image = np.arange(label.size, dtype=np.float32).reshape(1, *shape)
    return Panels.of(image, label, np.zeros_like(label), TABLE, Grid.regular(shape, spacing))


def test_volume_has_three_planes_through_its_label() -> None:
    views = pictures(volume((4, 5, 6), (1, 1, 1)), "c0")
    assert [view.caption for view in views] == ["c0: axial 3", "c0: coronal 2", "c0: sagittal 1"]
    assert all((view.masks["label"] == 2).sum() == 1 for view in views)
    assert all(not view.masks["prediction"].any() for view in views)


def test_views_of_a_volume_are_of_one_size_with_background_around() -> None:
    views = pictures(volume((4, 5, 6), (1, 1, 1)), "c0")
    shapes = {array.shape[:2] for view in views for array in (view.ground, *view.masks.values())}
    assert shapes == {(6, 5)}  # rows at most along z, columns at most along y
    assert not views[0].ground[-1].any()
    assert views[0].ground[:-1, :-1].any()


def test_thick_slices_are_shown_as_thick_as_they_are() -> None:
    _, coronal, _ = pictures(volume((4, 5, 6), (1, 1, 3)), "c0")
    assert coronal.ground.shape[0] == 18
    rows, columns = np.nonzero(coronal.masks["label"] == 2)
    assert len(set(rows.tolist())) == 3
    assert len(set(columns.tolist())) == 1


def test_plane_shows_what_the_report_shows() -> None:
    panels = volume((6, 6, 6), (1, 1, 1))
    axial, view = panels.planes[0], pictures(panels, "c0")[0]
    np.testing.assert_array_equal(view.masks["label"], axial.cut(panels.label, 3))
    np.testing.assert_array_equal(view.ground[..., 0], (axial.cut(panels.ground[0], 3) * 255).round())


def test_image_is_one_view_with_ignored_cells_as_a_class() -> None:
    label = np.array([[0, 1], [IGNORE, 2]])
    image = np.zeros((1, 2, 2), dtype=np.float32)
    (view,) = pictures(Panels.of(image, label, label.clip(0), TABLE, Grid.regular((2, 2), (1, 1), PIXEL)), "scene")
    assert view.caption == "scene"
    assert view.masks["label"].tolist() == [[0, 1], [3, 2]]
    assert view.names == {0: "background", 1: "organ", 2: "tumour", 3: "ignored"}


def test_masks_beside_the_ground_have_the_colours_of_the_table() -> None:
    ground = np.full((2, 2, 3), 100, dtype=np.uint8)
    mask = np.array([[0, 2], [0, 0]])
    shown = Picture(ground, "", {"label": mask, "prediction": 0 * mask}, classes_of(TABLE)).side_by_side()
    assert shown.shape == (2, 3 * 2 + 2 * 4, 3)
    np.testing.assert_array_equal(shown[:, :2], ground)
    np.testing.assert_array_equal(shown[:, -2:], ground)  # nothing is predicted
    assert shown[0, 7].tolist() == [55, 60, 65]  # half of it
    assert shown[0, 6].tolist() == [100, 100, 100]


@pytest.mark.parametrize("background", ["background", None])
def test_class_zero_is_clear_where_it_is_the_background_only(background: str | None) -> None:
    table = LabelTable.declare({"background": 0, "road": 1}, background=background)
    assert (classes_of(table)[0][1] is None) == (background is not None)
