import re
from pathlib import Path

import numpy as np

from medseg.data.datasets.nnunet import NnunetDataset
from medseg.doctor import examine
from medseg.doctor.page import SHEETS, cases_to_draw, drawing, write_page
from tests.doctor.sets import relabel, scenes


def test_page_draws_every_case_and_escapes_names(volume_root: Path, tmp_path: Path) -> None:
    relabel(volume_root / "labelsTr/c4.nii.gz", np.zeros((16, 14, 12), np.uint8))
    survey, findings = examine(NnunetDataset(volume_root))
    write_page(tmp_path / "check.html", "<set>", survey, findings)
    text = (tmp_path / "check.html").read_text(encoding="utf-8")
    assert text.count("<img ") == 6
    assert "&lt;set&gt;" in text
    assert text.index("c4: its label has no foreground") < text.index("<img ")
    assert re.search(r'<figure class="warning"><img[^>]*alt="c4: image and label"', text)


def test_cases_with_findings_are_drawn_first(volume_root: Path) -> None:
    survey, _ = examine(NnunetDataset(volume_root))
    drawn = cases_to_draw(survey.cases * 50, {"c3": "warning", "c5": "error"})
    assert [f.id for f in drawn[:51]] == ["c5"] * 50 + ["c3"]
    assert len(drawn) == SHEETS


def test_picture_of_a_scene_is_its_image_and_its_label(scene_root: Path) -> None:
    survey, _ = examine(scenes(scene_root))
    thumbnail = survey.cases[0].thumbnail
    assert thumbnail is not None
    assert drawing(thumbnail, survey.spec).shape == (24, 40 + 4 + 40, 3)


def test_thumbnail_is_every_nth_cell(tmp_path: Path) -> None:
    from medseg.doctor.thumbnail import ThumbnailTally
    from medseg.geometry.box import Box
    from medseg.geometry.grid import Grid

    image = np.arange(1000 * 300, dtype=np.float32).reshape(1, 1000, 300)
    whole, parts = (ThumbnailTally(Grid((1000, 300), np.eye(3), "pixel")) for _ in range(2))
    whole.add_image(Box.whole((1000, 300)), image, ["a"], None)
    for start in range(0, 1000, 128):
        box = Box((start, 0), (min(start + 128, 1000), 300))
        parts.add_image(box, image[(slice(None), *box.slices)], ["a"], None)
    one, other = whole.result(), parts.result()
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.image[0], image[0, ::4, ::4])
    np.testing.assert_array_equal(one.image, other.image)
