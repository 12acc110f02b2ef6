"""SecondStageDataset: cases with what the first network of a cascade predicted in them as a further channel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medseg.data.case import Case, first_five
from medseg.data.dataset import Dataset
from medseg.errors import InputError
from medseg.sample import Channel, DataSpec

CHANNEL = "first stage"
"""Name of the channel that holds the classes which the first network found."""


class SecondStageDataset(Dataset):
    """The cases of a dataset, each with a label file that the first network predicted.

    Args:
        source: The dataset.
        predictions: Folder of label files ``CASE.nii.gz``.
    """

    def __init__(self, source: Dataset, predictions: Path) -> None:
        self.source, self.predictions = source, predictions
        self.name, self.reading = source.name, source.reading

    @property
    def spec(self) -> DataSpec:
        """That of the dataset, with a last channel of class numbers."""
        spec = self.source.spec
        names = tuple(c.name for c in spec.labels.classes[1:])
        return replace(spec, channels=(*spec.channels, Channel(CHANNEL, classes=names)))

    def cases(self) -> list[Case]:
        """The cases, each with its prediction."""
        return self.predicted(self.source.cases())

    def predicted(self, cases: list[Case]) -> list[Case]:
        """Cases of the dataset with their predictions.

        Raises:
            InputError: Some have none.
        """
        with_files = [replace(case, first_stage=prediction_file(self.predictions, case.id)) for case in cases]
        if missing := [case.id for case in with_files if case.first_stage and not case.first_stage.is_file()]:
            raise InputError(
                f"first_stage: {len(missing)} cases have no prediction in {self.predictions} ({first_five(missing)}); "
                "medseg-train -m cascade=true split.fold=0,1,2,3,4 predicts each by the network that did not see it"
            )
        return with_files


def prediction_file(folder: Path, case: str) -> Path:
    """Where the first stage's prediction of a case lies."""
    return folder / f"{case}.nii.gz"
