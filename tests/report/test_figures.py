import numpy as np
import pytest
from matplotlib.colors import to_rgb

from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import IGNORE, LabelTable
from medseg.report.figures import overlay_figure, to_png

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


def test_proportions_are_those_of_the_world():
    aspects = [p.get_aspect() for p in panels(overlay_figure(*volume(), TABLE, LPS))]
    assert aspects[::3] == pytest.approx([2 / 1, 3 / 1, 3 / 2])  # A over R, S over R, S over A


def test_legend_names_the_classes():
    (legend,) = overlay_figure(*volume(), TABLE, LPS).legends
    assert [t.get_text() for t in legend.get_texts()] == ["a", "b", "ignored"]
    assert to_rgb(legend.get_patches()[0].get_facecolor()) == (1, 0, 0)


def test_image_is_shown_between_its_percentiles_whatever_is_not_finite():
    image = np.linspace(0, 1000, 100, dtype=np.float32).reshape(10, 10)
    image[0, 0], image[9, 9] = np.nan, np.inf
    label = np.zeros((10, 10), dtype=np.int16)
    (first, *_) = panels(overlay_figure(image, label, label, TABLE, Grid.regular((10, 10), (1, 1), PIXEL)))
    ground = np.asarray(first.images[0].get_array())
    assert ground.min() == 0
    assert ground.max() == 1
    assert (np.diff(ground.ravel()[1:-1]) >= 0).all()


@pytest.mark.parametrize("empty", [True, False])
def test_2d_draws_one_row(empty):
    grid = Grid.regular((6, 8), (1, 1), PIXEL)
    label = np.zeros((6, 8), dtype=np.int16)
    label[2, 3] = 0 if empty else 1
    figure = overlay_figure(None, label, label, TABLE, grid)
    assert len(panels(figure)) == 3
    assert to_png(figure).startswith(b"\x89PNG")
