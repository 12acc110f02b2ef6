"""Groups of cases that the configuration of an evaluation names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.data.layout.case_table import CaseTable
from medseg.errors import InputError
from medseg.evaluation.compare import GroupsOf
from medseg.evaluation.grouping import By, Grouping, cells_of, grouping


def columns_of(cfg: DictConfig) -> By:
    """The columns of ``by``, a single name as a list of one."""
    by: Any = cfg.get("by")
    if OmegaConf.is_config(by):
        by = OmegaConf.to_container(by, resolve=True)
    return [by] if isinstance(by, str) else by


def grouping_of(cfg: DictConfig) -> Grouping | None:
    """What ``by`` splits the scores of label files by: columns of ``table``; None without."""
    return grouping(cfg.table, cfg.table_key, columns_of(cfg))


def grouping_of_run(cfg: DictConfig) -> Grouping | None:
    """What ``by`` splits the final scores of a training by: columns of ``data.table``; None without."""
    return grouping(cfg.data.get("table"), cfg.data.get("table_key"), columns_of(cfg), "data.table")


def group_check(cfg: DictConfig) -> Callable[[Sequence[str]], object]:
    """Checks of ``by`` of a training: its columns now, and by the function that it returns the groups of cases.

    Raises:
        InputError: See ``Grouping``.
    """
    groups = grouping_of_run(cfg)
    return (lambda cases: None) if groups is None else groups.groups


def groups_of(cfg: DictConfig) -> GroupsOf:
    """Groups of cases that are not independent, by the column ``group``.

    Raises:
        InputError: No table, or no such column.
    """
    if cfg.group is None:
        return lambda cases: None
    if cfg.table is None:
        raise InputError(f"group={cfg.group}: names a column of a table of cases; add table=cases.csv")
    table = CaseTable.read(Path(cfg.table), "table", cfg.table_key)
    table.check_columns([cfg.group], "group")
    return lambda cases: cells_of(table, cfg.group, cases)
