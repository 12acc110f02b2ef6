"""medseg-evaluate: scores of predicted label files against reference label files; no model needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg import command

if TYPE_CHECKING:
    from medseg.labels import LabelTable


def main() -> None:
    """The console script."""
    command.run("evaluate", evaluate)


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Judge the files of ``cfg.predictions`` against those of ``cfg.labels``.

    Returns:
        The content of ``metrics.json``.

    Raises:
        BadInput: Files without a partner, on other grids, or with values outside the table.
    """
    from medseg.evaluation import evaluate_folders

    output = Path(cfg.output)
    result = evaluate_folders(
        Path(cfg.predictions),
        Path(cfg.labels),
        output,
        _table(cfg),
        images=None if cfg.images is None else Path(cfg.images),
        ignore=cfg.ignore,
        nsd_tolerance=cfg.nsd_tolerance,
        missing=cfg.missing,
        grid_tolerance=cfg.grid_tolerance,
    )
    print(f"Written: {output}/metrics.json, {output}/cases.csv, {output}/report.html")  # noqa: T201
    return result


def _table(cfg: DictConfig) -> LabelTable | None:
    """Declared names, else those of a dataset.json in the folder of the labels or the one above."""
    from medseg.data.datasets.nnunet import declared_spec, read_declaration
    from medseg.labels import LabelTable

    if cfg.names is not None:
        names: Any = OmegaConf.to_container(cfg.names)
        return LabelTable.declare(names, merge=True)
    folder = Path(cfg.labels)
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        if path.is_file():
            return declared_spec(read_declaration(path, ["labels"]), path).labels
    return None
