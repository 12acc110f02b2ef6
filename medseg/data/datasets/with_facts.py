"""WithFacts: a dataset whose cases have facts of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.data.layout.case_table import CaseTable
from medseg.data.reading.open_case import CaseReader
from medseg.errors import InputError
from medseg.facts import WORD, CaseFacts, Fact, check_kind, inferred_kind, is_missing
from medseg.sample import DataSpec

_NAMES = "expected names of columns, such as [age, sex], or {age: number, sex: word, findings: tags}"


class WithFacts(Dataset):
    """The cases of a dataset, each with its row of a table.

    Args:
        source: The dataset.
        table: A row for each of its cases.
        facts: What the columns are.
        label: The column that says of which class a case is, for networks that classify cases; None for none.
    """

    def __init__(self, source: Dataset, table: CaseTable, facts: Sequence[Fact], label: Fact | None = None) -> None:
        self.source, self.table = source, table
        self.name, self.reading = source.name, source.reading
        self._facts, self._label = tuple(facts), label

    @classmethod
    def declared(
        cls,
        source: Dataset,
        table: CaseTable,
        facts: Sequence[str] | Mapping[str, str | None] | None = None,
        label: str | None = None,
    ) -> WithFacts:
        """As the configuration declares it; values and statistics are those of all cases, until ``fitted``.

        Args:
            source: The dataset.
            table: See above.
            facts: Columns, with their kinds or None to infer these; None for every column but that of the classes.
            label: Column of the classes.

        Raises:
            InputError: Cases without a row, rows of no case, no such column or kind, fewer than two classes, or values
                of another kind.
        """
        kinds = _kinds(facts, [name for name in table.columns if name != label])
        table.check_columns([*kinds, *([label] if label else [])], "data.facts")
        if label in kinds:
            raise InputError(f"data.facts: {label} is data.case_label, which the network is to find; leave one out")
        table.check_cases([*source.cases(), *source.test_cases()])
        return cls(source, table, _facts(table, kinds), _label(table, label, [case.id for case in source.cases()]))

    @cached_property
    def spec(self) -> DataSpec:
        """That of the dataset, with the facts."""
        return replace(self.source.spec, facts=self._facts, case_label=self._label)

    @property
    def normalisation(self) -> tuple[str, ...]:
        """That of the dataset."""
        return self.source.normalisation

    def open(self, case: Case) -> CaseReader:
        """Open one case as the dataset does."""
        return self.source.open(case)

    def cases(self) -> list[Case]:
        """The cases of the dataset with their facts."""
        return self._with_facts(self.source.cases())

    def test_cases(self) -> list[Case]:
        """The test cases of the dataset with their facts."""
        return self._with_facts(self.source.test_cases())

    def _with_facts(self, cases: Sequence[Case]) -> list[Case]:
        return [replace(case, facts=self.table.facts_of(case.id, self._facts, self._label)) for case in cases]

    def fitted(self, train: Sequence[Case]) -> WithFacts:
        """The dataset with values and statistics of training cases.

        Raises:
            InputError: A fact is missing in all of them.
        """
        texts = [_facts_in(case) for case in train]
        facts = tuple(fact.fitted([own[fact.name] for own in texts]) for fact in self._facts)
        return WithFacts(self.source, self.table, facts, self._label)

    def updated(self, cases: Sequence[Case]) -> list[Case]:
        """Cases of this dataset or of another, or parts of them, with the present values and statistics.

        Raises:
            InputError: In another dataset, a column of numbers with words in it.
        """
        facts = {case.id: _facts_in(case).refitted(self._facts, self._label) for case in cases}
        for fact in self._facts:
            check_kind(fact.name, fact.kind, {name: own[fact.name] for name, own in facts.items()})
        return [replace(case, facts=facts[case.id]) for case in cases]

    def warnings(self) -> list[str]:
        """A line for each fact with values that no training case has."""
        return self.table.check_values(self._facts)


def _facts_in(case: Case) -> CaseFacts:
    return case.facts or CaseFacts()


def _kinds(facts: object, columns: Sequence[str]) -> dict[str, str | None]:
    """Kind of each declared fact, None where it is to be inferred."""
    if facts is None:
        return dict.fromkeys(columns)
    if isinstance(facts, Mapping):
        return {str(name): kind for name, kind in facts.items()}
    if isinstance(facts, str) or not isinstance(facts, Sequence) or not all(isinstance(name, str) for name in facts):
        raise InputError(f"data.facts={facts}: {_NAMES}")
    return dict.fromkeys(facts)


def _facts(table: CaseTable, kinds: Mapping[str, str | None]) -> list[Fact]:
    """The facts with values and statistics of every row."""
    facts = []
    for name, kind in kinds.items():
        texts = table.column(name)
        fact = Fact(name, inferred_kind(name, texts) if kind is None else check_kind(name, kind, texts))
        facts.append(fact.fitted(list(texts.values())))
    return facts


def _label(table: CaseTable, name: str | None, cases: Sequence[str]) -> Fact | None:
    """The classes of the labelled cases."""
    if name is None:
        return None
    words = table.column(name)
    classes = sorted({words[case] for case in cases if not is_missing(words[case])})
    if len(classes) < 2:
        raise InputError(f"data.case_label={name}: got the classes {classes}, expected two or more in {table.path}")
    return Fact(name, WORD, tuple(classes))
