"""The confusion matrix as an HTML table."""

from __future__ import annotations

from html import escape

from medseg.metrics.summary import Result

_MOST = 40
_FEW = 2  # classes that a phone shows at once


def confusion_table(result: Result) -> str:
    """Rows are labelled classes, columns predicted ones: percentages of each row, the darker the more.

    Empty if the result has no confusion matrix, nothing in it, or more classes than anybody would read.

    Args:
        result: The content of ``metrics.json``.
    """
    confusion = result.get("confusion") or {"classes": [], "matrix": []}
    classes, matrix = confusion["classes"], confusion["matrix"]
    if len(classes) > _MOST or not any(map(any, matrix)):
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in classes)
    rows = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(_cell(n, sum(cells)) for n in cells)}<td>{sum(cells):,}</td></tr>"
        for name, cells in zip(classes, matrix, strict=True)
    )
    note = "Each row: the cells with this label by predicted class, in per cent."
    return (
        f'<div class="wide{" many" if len(classes) > _FEW else ""}" tabindex="0"><table class="confusion">'
        f"<thead><tr><th>label, predicted as</th>{head}<th>cells</th></tr>"
        f'</thead><tbody>{rows}</tbody></table></div><p class="note">{note}</p>'
    )


def _cell(cells: int, of: int) -> str:
    if not of:
        return "<td>–</td>"
    return f'<td style="--share: {cells / of:.3f}" title="{cells:,} cells">{100 * cells / of:.1f}</td>'
