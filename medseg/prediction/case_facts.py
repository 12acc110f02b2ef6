"""Facts of new cases, for networks that take them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.data.case import Case
    from medseg.inference.predictor import CasePredictor

_LOG = logging.getLogger(__name__)
_NONE = "none"


def with_facts(cfg: DictConfig, cases: Sequence[Case], predictor: CasePredictor[Any]) -> list[Case]:
    """The cases with their facts by ``cfg.table``.

    Args:
        cfg: Configuration of the command.
        cases: Found in its input.
        predictor: Whose networks may take facts.

    Raises:
        InputError: Facts are needed and there is no table, or there is one and they are not; a case without a row, a
            table without a column, or words for numbers.
    """
    facts, table = predictor.spec.facts, cfg.get("table")
    names = ",".join(fact.name for fact in facts)
    if not takes_facts(predictor):
        if table is not None:
            raise InputError(f"table={table}: the network takes no facts of cases; leave it out")
        return list(cases)
    if table is None:
        raise InputError(
            f"checkpoint={cfg.checkpoint}: its network takes facts of each case; give table=FILE.csv with the columns "
            f"case,{names} (cells may be empty), or table={_NONE} to predict as if all were missing"
        )
    from medseg.data.layout.case_table import CaseTable
    from medseg.facts import CaseFacts

    if table == _NONE:
        return [replace(case, facts=CaseFacts.of({}, facts)) for case in cases]
    rows = CaseTable.read(Path(table), "table", cfg.table_key)
    rows.check_columns([fact.name for fact in facts], f"table={table}")
    rows.check_cases(cases, extra=False)
    for warning in rows.check_values(facts):
        _LOG.warning("%s", warning)
    return [replace(case, facts=rows.facts_of(case.id, facts)) for case in cases]


def takes_facts(predictor: CasePredictor[Any]) -> bool:
    """Whether any of its networks takes facts."""
    return any(getattr(member.network, "takes_facts", False) for member in predictor.members)


def table_settings(cfg: DictConfig) -> dict[str, str]:
    """What decides predictions of the table: its content."""
    table = cfg.get("table")
    if table is None:
        return {}
    return {"table": table if table == _NONE else hashlib.sha256(Path(table).read_bytes()).hexdigest()}
