import numpy as np
import pytest
from matplotlib.colors import to_rgb

from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import IGNORE, LabelTable
from medseg.viz.false_colour import NO_DATA, composite
from medseg.viz.figures import overlay_figure, rows_figure, to_png
from medseg.viz.overlay import Panels, coloured

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2}, colours={"a": (255, 0, 0), "b": (0, 0, 255)})
LPS = Grid((4, 5, 6), np.diag([-1.0, -2.0, 3.0, 1.0]))


def volume():
    image = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
    label, pred = np.zeros((2, 4, 5, 6), dtype=np.int16)
    label[0, 1, 4] = 1  # rightmost, one row below the anterior edge, fifth from below
    pred[3, 4, 4] = 2  # leftmost, posterior
    label[2, 2] = IGNORE
    return image, label, pred


def panels(figure):
    return [p for p in figure.axes if p.images]


def test_cells_stand_where_the_letters_say():
    figure = overlay_figure(*volume(), TABLE, LPS, title="case")
    assert len(panels(figure)) == 9
    image, label, pred = panels(figure)[:3]
    assert [t.get_text() for t in label.texts] == ["R", "L", "A", "P"]
    truth, guess = (p.images[1].get_array() for p in (label, pred))
    assert truth.shape == (5, 4, 4)
    assert truth[1, 0].tolist() == [1, 0, 0, 0.5]  # red at the left of the screen, which is R
    assert guess[4, 3].tolist() == [0, 0, 1, 0.5]  # blue at L and P
    assert (truth[..., 3] > 0).sum() == 2  # the label and one ignored cell
    assert (guess[..., 3] > 0).sum() == 1
    assert len(image.images) == 1


def test_letters_are_explained_where_there_are_letters():
    (legend,) = overlay_figure(*volume(), TABLE, LPS).legends
    assert "R, L: the patient's right, left" in legend.get_title().get_text()
    image, label, _ = volume()
    scene = overlay_figure(image[:, :, 0], label[:, :, 0], None, TABLE, Grid.regular((4, 5), (1, 1), PIXEL))
    assert scene.legends[0].get_title().get_text() == ""


def test_without_a_prediction_image_and_label_are_shown():
    image, label, pred = volume()
    alone, beside = overlay_figure(image, label, None, TABLE, LPS), overlay_figure(image, label, pred, TABLE, LPS)
    assert [p.get_title() for p in panels(alone)] == [
        p.get_title() for p in panels(beside) if "pred" not in p.get_title()
    ]
    np.testing.assert_array_equal(panels(alone)[1].images[1].get_array(), panels(beside)[1].images[1].get_array())
    scene = overlay_figure(image[:, :, 0], label[:, :, 0], None, TABLE, Grid.regular((4, 5), (1, 1), PIXEL))
    assert [p.get_title() for p in panels(scene)] == ["image", "label"]


def test_cells_have_the_colours_of_their_classes():
    cells = np.array([[0, 1, 2], [1, IGNORE, 2]], dtype=np.int16)
    known = np.array([[True, True, True], [False, True, True]])
    rgba = coloured(cells, TABLE, known)
    assert rgba[0].tolist() == [[*rgba[0, 0, :3], 0], [1, 0, 0, 0.5], [0, 0, 1, 0.5]]  # the background is clear
    assert rgba[1, 0].tolist() == [NO_DATA / 255] * 3 + [1]
    assert coloured(cells, TABLE)[1, 0].tolist() == [1, 0, 0, 0.5]


def test_proportions_are_those_of_the_world():
    aspects = [p.get_aspect() for p in panels(overlay_figure(*volume(), TABLE, LPS))]
    assert aspects[::3] == pytest.approx([2 / 1, 3 / 1, 3 / 2])  # A over R, S over R, S over A


def test_legend_names_the_classes():
    (legend,) = overlay_figure(*volume(), TABLE, LPS).legends
    assert [t.get_text() for t in legend.get_texts()] == ["a", "b", "ignored"]
    assert to_rgb(legend.get_patches()[0].get_facecolor()) == (1, 0, 0)


def test_volume_is_shown_between_its_percentiles_whatever_is_not_finite():
    image = np.linspace(0, 1000, 120, dtype=np.float32).reshape(4, 5, 6)
    image[0, 0, 0], image[3, 4, 5] = np.nan, np.inf
    label = np.zeros(image.shape, dtype=np.int16)
    for axial, *_ in [panels(overlay_figure(i, label, label, TABLE, Grid(image.shape, np.eye(4))))
                      for i in (image, image[None])]:  # fmt: skip
        ground = np.asarray(axial.images[0].get_array())
        assert ground.shape == (5, 4, 3)
        assert (ground[..., 0] == ground[..., 2]).all()
        low, high = np.percentile(image[np.isfinite(image)], [0.5, 99.5])
        cut = image[:, :, 3].T[::-1, ::-1]  # anterior up, right on the left
        np.testing.assert_allclose(ground[..., 0], np.clip((cut - low) / (high - low), 0, 1), atol=1e-5)


COVER = LabelTable.declare(
    {"a": 0, "b": 1, "ignore": 255}, background=None, colours={"a": (255, 0, 0), "b": (0, 0, 255)}
)


def scene(shape=(8, 10)):
    grid = Grid(shape, np.array([[0, 5.0, 0], [-10.0, 0, 0], [0, 0, 1]]), PIXEL)  # cells twice as high as wide
    image = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    label = np.zeros(shape, dtype=np.int16)
    label[2:4], label[4:6, :4] = 1, IGNORE
    valid = np.ones(shape, dtype=bool)
    valid[:, -1] = False
    return image, label, grid, valid


def test_scene_is_a_composite_beside_classes_that_hide_it():
    image, label, grid, valid = scene()
    figure = overlay_figure(image, label, label * 0, COVER, grid, valid=valid)
    ground, truth, guess = panels(figure)
    expected = composite(image, (), valid) / np.float32(255)
    np.testing.assert_array_equal(np.asarray(ground.images[0].get_array()), expected)
    colours = np.asarray(truth.images[1].get_array())
    assert colours[0, 0].tolist() == [1, 0, 0, 1], "the first class is no background"
    assert colours[2, 0].tolist() == [0, 0, 1, 1]
    assert colours[2, -1].tolist() == pytest.approx([NO_DATA / 255] * 3 + [1])
    assert len({tuple(c) for c in colours[4:6, :4].reshape(-1, 4)}) == 2, "ignored cells are striped"
    assert np.asarray(guess.images[1].get_array())[2, 0].tolist() == [1, 0, 0, 1]
    assert [len(p.collections) for p in (truth, guess)] == [0, 0], "no outline where every cell has a class"
    assert ground.get_aspect() == pytest.approx(2)
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["a", "b", "ignored", "no data"]


def test_scene_with_a_background_is_seen_through_without_its_colours():
    image, label, grid, valid = scene()
    _, truth, guess = panels(overlay_figure(image, label, label * 0, TABLE, grid, valid=valid))
    below = np.asarray(truth.images[0].get_array())
    assert (below[..., 0] == below[..., 1]).all()
    assert np.asarray(truth.images[1].get_array())[0, 0, 3] == 0
    assert np.asarray(truth.images[1].get_array())[2, 0].tolist() == [1, 0, 0, 0.5]
    assert len(guess.collections) == 1


def test_large_scene_is_reduced_and_stays_in_place():
    label = np.zeros((50, 3000), dtype=np.int16)
    label[:, 1500:] = 1
    image = label[None].astype(np.float32)
    ground, truth, _ = panels(overlay_figure(image, label, label, COVER, Grid.regular(label.shape, (1, 1), PIXEL)))
    colours = np.asarray(truth.images[1].get_array())
    assert colours.shape == (17, 1000, 4)
    np.testing.assert_array_equal(colours[..., 2] > 0, np.asarray(ground.images[0].get_array())[..., 0] > 0)


@pytest.mark.parametrize("empty", [True, False])
def test_2d_draws_one_row(empty):
    grid = Grid.regular((6, 8), (1, 1), PIXEL)
    label = np.zeros((6, 8), dtype=np.int16)
    label[2, 3] = 0 if empty else 1
    figure = overlay_figure(None, label, label, TABLE, grid)
    assert len(panels(figure)) == 3
    assert to_png(figure).startswith(b"\x89PNG")


def test_rows_of_several_cases_have_a_title_and_a_legend_each():
    image, label, grid, valid = scene()
    cover = Panels.of(image, label, label * 0, COVER, grid, valid=valid)
    scan = Panels.of(*volume(), TABLE, LPS)
    figure = rows_figure([("a: 1", cover), ("b: 2", scan), ("a: 1", cover)])
    drawn = panels(figure)
    assert len(drawn) == 9
    assert [p.get_ylabel() for p in drawn[::3]] == ["a: 1", "b: 2", "a: 1"]
    assert [p.get_title() for p in drawn[:3]] == ["image", "label", "prediction"]
    assert [p.get_title() for p in drawn[6:]] == ["", "", ""]
    (own,) = panels(overlay_figure(image, label, label * 0, COVER, grid, valid=valid))[1:2]
    np.testing.assert_array_equal(drawn[1].images[1].get_array(), own.images[1].get_array())
    legends = [[t.get_text() for t in a.get_legend().get_texts()] for a in figure.axes if a.get_legend()]
    assert legends == [["a", "b", "ignored", "no data"], ["a", "b", "ignored"], ["a", "b", "ignored", "no data"]]
    assert to_png(figure).startswith(b"\x89PNG")


def test_cells_without_data_are_darker_than_any_image_below_labels():
    image, label, grid, valid = scene()
    label[:] = 0
    _, truth, _ = panels(overlay_figure(image, label, label, TABLE, grid, valid=valid))
    assert np.asarray(truth.images[0].get_array()).min() > NO_DATA / 255
