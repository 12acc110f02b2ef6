"""What W&B shows of scores and pictures: tables, the confusion chart, images with masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medseg.viz.logged_images import Picture

if TYPE_CHECKING:
    import wandb

_CHART = "wandb/confusion_matrix/v1"


def image(picture: Picture) -> wandb.Image:
    """The picture, each of its masks to be toggled class by class.

    W&B chooses the colours of classes: its masks have names only.
    """
    import wandb

    masks = {name: {"mask_data": mask, "class_labels": picture.names} for name, mask in picture.masks.items()}
    return wandb.Image(picture.ground, masks=masks or None, caption=picture.caption)


def case_table(result: Mapping[str, Any]) -> wandb.Table:
    """The rows of ``cases.csv``: one for each case and class.

    Args:
        result: The content of ``metrics.json``.
    """
    names = list(dict.fromkeys(key for row in result["cases"] for key in row))
    return _table(names, [[row.get(name) for name in names] for row in result["cases"]])


def class_table(result: Mapping[str, Any]) -> wandb.Table:
    """A row for each class and metric: mean, the bounds of its 95 % interval, and how many cases entered it."""
    rows = [
        [name, metric, entry["mean"], *(entry["ci95"] or (None, None)), entry["cases"]]
        for name, by in result["classes"].items()
        for metric, entry in by.items()
    ]
    return _table(["class", "metric", "mean", "low", "high", "cases"], rows)


def confusion(result: Mapping[str, Any], part: str) -> dict[str, Any]:
    """W&B's chart of the confusion matrix in cells, ``<part>/confusion``, with its table; empty if nothing counts."""
    counted = result.get("confusion") or {"classes": [], "matrix": []}
    classes, matrix = counted["classes"], counted["matrix"]
    if not any(map(any, matrix)):
        return {}
    import wandb

    rows: Sequence[Sequence[Any]] = [
        [label, pred, cells]
        for label, counts in zip(classes, matrix, strict=True)
        for pred, cells in zip(classes, counts, strict=True)
    ]
    columns = ["Actual", "Predicted", "nPredictions"]  # as the chart asks
    chart = wandb.plot_table(
        vega_spec_name=_CHART,
        data_table=wandb.Table(columns=columns, data=rows),
        fields={name: name for name in columns},
        string_fields={"title": "Confusion in cells"},
    )
    return {f"{part}/confusion": chart}


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> wandb.Table:
    import wandb

    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])
