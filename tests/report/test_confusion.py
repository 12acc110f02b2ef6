import re

import pytest

from medseg.report.confusion import confusion_table


def result(matrix, classes=("<a>", "b")):
    return {"confusion": {"classes": list(classes), "matrix": matrix}}


def test_shares_of_rows_worked_by_hand():
    html = confusion_table(result([[1, 3], [0, 2000]]))
    assert re.findall(r"--share: ([\d.]+)", html) == ["0.250", "0.750", "0.000", "1.000"]
    assert re.findall(r">([\d.]+)</td>", html) == ["25.0", "75.0", "4", "0.0", "100.0"]
    assert ">2,000</td>" in html
    assert "<a>" not in html
    assert html.count("&lt;a&gt;") == 2


def test_class_without_cells_has_no_shares():
    assert "nan" not in confusion_table(result([[0, 0], [1, 1]]))
    assert confusion_table(result([[0, 0], [1, 1]])).count("–") == 2


@pytest.mark.parametrize("absent", [{}, result([[0, 0], [0, 0]]), result([[1] * 41] * 41, map(str, range(41)))])
def test_nothing_to_show(absent):
    assert confusion_table(absent) == ""
