"""One case of a dataset, prepared into the store: what a worker does of the preparation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medseg.data.case import Case
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.preprocessing.windows import prepared_windows
from medseg.data.reading.open_case import CaseReader
from medseg.data.store.stored_case import write_case


@dataclass(frozen=True)
class PrepareCase:
    """Prepares cases into folders of the store.

    Attributes:
        open: Opens and checks one case.
        preprocess: Preprocessing of the plan.
        targets: Scored structures, whose cells are listed.
        patch: Cells of a training patch on each axis.
        arrays: Store the cells themselves; if not, only what is known about them.
    """

    open: Callable[[Case], CaseReader]
    preprocess: Preprocess
    targets: tuple[tuple[str, tuple[int, ...]], ...]
    patch: tuple[int, ...]
    arrays: bool

    def __call__(self, work: tuple[Case, Path]) -> list[str]:
        """Prepare a case into its folder; notes about its files.

        Raises:
            InputError: Its files can't be used.
        """
        case, folder = work
        reader = self.open(case)
        windows, grid, trace = prepared_windows(reader, self.preprocess, self.patch)
        names = case.annotated
        targets = [target for target in self.targets if names is None or target[0] in names]
        write_case(folder, windows, grid, trace, targets, self.patch, arrays=self.arrays)
        return reader.notes
