"""FirstStage: the first network of a cascade, as the training of the second one needs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from medseg import checkpoint
from medseg.checkpoint import Checkpoint
from medseg.data.case import Case, first_five
from medseg.data.dataset import Dataset
from medseg.data.datasets.joined import JoinedDataset
from medseg.data.datasets.second_stage import SecondStageDataset
from medseg.data.datasets.with_facts import WithFacts
from medseg.data.preprocessing.normalise import CLASSES, Normalisation
from medseg.errors import InputError
from medseg.planning.plan import Plan

OUT_OF_FOLD = "out_of_fold"
"""Folder, in that of a cross-validation, of predictions by the networks that did not see the cases."""


@dataclass(frozen=True)
class FirstStage:
    """The first network of a cascade for one fold, and its predictions of every case.

    Attributes:
        source: The dataset, without predictions.
        folder: That of the first stage's cross-validation.
        checkpoint: The network of the same fold, which goes into the checkpoint of the second one.
    """

    source: Dataset
    folder: Path
    checkpoint: Checkpoint

    @cached_property
    def dataset(self) -> SecondStageDataset:
        """The dataset with the predictions as a further channel."""
        return SecondStageDataset(self.source, self.folder / OUT_OF_FOLD)

    def plan(self, planned: Plan) -> Plan:
        """The plan with a rule for the further channel.

        Raises:
            InputError: Cases are not resampled.
        """
        if planned.native:
            raise InputError(
                "first_stage: cases stay on their own cells, and a cascade needs resampled ones; leave it out"
            )
        return replace(planned, normalisation=(*planned.normalisation, Normalisation(CLASSES)))

    def check_unseen(self, val: list[Case]) -> None:
        """Refuse a first network that was trained on cases which the second one validates on.

        Raises:
            InputError: Names the cases.
        """
        trained = self.checkpoint.metadata.provenance.get("data", {}).get("train") or ()
        if seen := sorted({case.id for case in val} & {*trained}):
            raise InputError(
                f"first_stage={self.folder}: its network was trained on {len(seen)} cases of this validation fold "
                f"({first_five(seen)}); give both stages the same split"
            )


def read_first_stage(cfg: DictConfig, source: Dataset, *, pretrains: bool = False) -> FirstStage | None:
    """The first stage that ``cfg.first_stage`` names; None where there is none.

    Args:
        cfg: ``conf/train.yaml``, composed.
        source: The dataset.
        pretrains: Whether the training reads no labels.

    Raises:
        InputError: A pretraining, data that no cascade takes, no network of this fold, or one of other channels or
            classes.
    """
    if not cfg.get("first_stage"):
        return None
    if pretrains:
        raise InputError(f"first_stage={cfg.first_stage}: is for the second stage of a cascade, not for pretraining")
    spec, folder = source.spec, Path(str(cfg.first_stage))
    if spec.ndim != 3 or spec.dates:
        raise InputError("first_stage: a cascade is for volumes, and the data are images; leave it out")
    if isinstance(source.source if isinstance(source, WithFacts) else source, JoinedDataset):
        raise InputError(f"first_stage={folder}: got data=joined, expected one dataset; train without a first stage")
    held = _of_fold(folder, cfg.split.fold, cfg.judged)
    names = [[c.name for c in of.channels] for of in (held.metadata.spec, spec)]
    if names[0] != names[1] or held.metadata.spec.labels != spec.labels:
        raise InputError(
            f"first_stage={folder}: was trained on channels {names[0]} and classes "
            f"{held.metadata.spec.labels.titles}, expected {names[1]} and {spec.labels.titles}"
        )
    return FirstStage(source, folder, held)


def _of_fold(folder: Path, fold: object, name: str) -> Checkpoint:
    """The network of a fold in a cross-validation."""
    paths = sorted(folder.glob(f"*/checkpoints/{name}.ckpt"))
    for path in paths:
        held = checkpoint.read(path)
        if held.metadata.config.get("split", {}).get("fold") == fold:
            return held
    raise InputError(
        f"first_stage={folder}: none of its {len(paths)} runs has a {name}.ckpt of split.fold={fold}; give the "
        "folder of a cross-validation with this fold, as medseg-train -m cascade=true makes one"
    )
