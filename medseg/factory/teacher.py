"""The teacher of a method: a trained network from a checkpoint, brought to the channels, cells and classes of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from medseg import checkpoint
from medseg.data.preprocessing.normalise import Normalisation
from medseg.errors import InputError, rename_keys
from medseg.factory import trust
from medseg.factory.schemes import with_schemes
from medseg.factory.stored import Held, rebuilt
from medseg.labels import LabelTable
from medseg.methods.teacher import TrainedTeacher
from medseg.planning.plan import Plan
from medseg.sample import DataSpec

_INF = float("inf")


@dataclass(frozen=True)
class TeacherFile:
    """What a checkpoint holds of a teacher.

    Attributes:
        path: Its file.
        held: Network settings, channels, classes and plan.
        state: Weights of its network.
    """

    path: Path
    held: Held
    state: Mapping[str, Tensor]

    def built(self, planned: Plan, spec: DataSpec) -> TrainedTeacher:
        """The teacher for patches of a plan.

        Raises:
            InputError: Cells or a normalisation that can't be brought to those of the teacher, or a damaged file.
        """
        own, key = self.held.plan, f"method.teacher={self.path}"
        if own.native != planned.native:
            raise InputError(
                f"{key}: one of both trainings leaves cases on their own axes, and the other turns them to right, "
                "anterior, superior; choose a plan or a teacher of the same kind"
            )
        names = [channel.name for channel in spec.channels]
        channels = [names.index(channel.name) for channel in self.held.spec.channels]
        rules = [
            _conversion((planned.normalisation[i], planned.masked), (rule, own.masked), where=f"{key}: {names[i]}")
            for i, rule in zip(channels, own.normalisation, strict=True)
        ]
        with rename_keys(("checkpoint=", "method.teacher=")), checkpoint.damaged(self.path):
            network = rebuilt(self.held, self.state)
        sizes = zip(planned.patch, planned.spacing, own.spacing, strict=True)
        shape = tuple(max(1, round(n * mine / theirs)) for n, mine, theirs in sizes)
        padded = network.fixed_shape or network.nearest(shape)
        if any(network.margin) or any(n > most for n, most in zip(shape, padded, strict=True)):
            raise InputError(
                f"{key}: its network does not take patches of {shape} cells, which those of this training are on its "
                "grid; choose a smaller plan.patch, or another teacher"
            )
        return TrainedTeacher(
            network,
            channels=channels,
            rules=rules,
            shape=shape,
            padded=padded,
            outputs=_outputs(self.held.spec.labels, spec.labels, key),
            regions=bool(spec.labels.regions),
        )


def read_teacher(cfg: DictConfig, spec: DataSpec) -> TeacherFile | None:
    """The teacher that ``cfg.method.teacher`` names, which goes with the data; None where it names none.

    Nothing of the checkpoint is executed, as for a prediction.

    Raises:
        InputError: No checkpoint of a network that segments, one that names other classes than medseg's and those of
            trusted modules, or a channel or class that one has and the other lacks.
    """
    named = cfg.method.get("teacher")
    if named is None:
        return None
    path = Path(str(named))
    path = path / "checkpoints/best.ckpt" if path.is_dir() else path
    key = f"method.teacher={path}"
    with rename_keys(("checkpoint=", "method.teacher=")):
        loaded = checkpoint.read(path)
        trust.check(loaded.metadata.config, f"checkpoint={path}", cfg.get("trust") or ())
        if not loaded.metadata.segments:
            raise InputError(
                f"{key}: its network was pretrained without labels and segments nothing; fine-tune it first"
            )
        with checkpoint.damaged(path):
            held = Held.of(loaded.metadata)
        held = replace(held, plan=with_schemes(held.plan, f"checkpoint={path}", trust.names(cfg.get("trust") or ())))
    if loaded.first_stage is not None or spec.channels[-1].classes:
        raise InputError(f"{key}: a teacher and its pupil have one stage, no cascade; take the network of one stage")
    _check_alike(held.spec, spec, key)
    _outputs(held.spec.labels, spec.labels, key)
    return TeacherFile(path, held, loaded.network_state)


def _check_alike(own: DataSpec, spec: DataSpec, key: str) -> None:
    """Raise on axes, dates and channels that do not go together."""
    if own.dates or spec.dates:
        raise InputError(f"{key}: a teacher takes single images, and one of both trainings has time series")
    if own.ndim != spec.ndim:
        raise InputError(f"{key}: segments images of {own.ndim} axes, and the data have {spec.ndim}")
    names = [channel.name for channel in spec.channels]
    lacking = [channel.name for channel in own.channels if channel.name not in names]
    if lacking:
        raise InputError(
            f"{key}: sees the channels {[c.name for c in own.channels]}, and the data have {names}, without {lacking}; "
            "choose a teacher of these channels, or name them alike"
        )
    if own.facts:
        raise InputError(f"{key}: its training has facts of cases, which a teacher does not see; take one without")


def _outputs(own: LabelTable, labels: LabelTable, key: str) -> list[list[float]]:
    """Which outputs of the teacher are part of each output of this training: those of the same names.

    What the teacher calls background, and classes that this training does not have, are its background.
    """
    theirs, named = _names(own), _names(labels)
    with_background = labels.background and not labels.regions
    named = named[1:] if with_background else named
    rest = [name for name in theirs if name not in named]
    _check_outputs(own, labels, (named, rest), key)
    parts = [rest] * with_background + [[name] for name in named]
    return [[float(name in part) for name in theirs] for part in parts]


def _check_outputs(own: LabelTable, labels: LabelTable, names: tuple[list[str], list[str]], key: str) -> None:
    """Raise on outputs that the teacher lacks, or that nothing here stands for.

    Args:
        own: Classes of the teacher.
        labels: Those of this training.
        names: Outputs that both need, and the other ones of the teacher.
        key: The teacher, for messages.
    """
    if bool(own.regions) != bool(labels.regions):
        kinds = ["regions" if table.regions else "classes" for table in (own, labels)]
        raise InputError(f"{key}: its network gives {kinds[0]}, and this one {kinds[1]}; both need the same kind")
    theirs, (named, rest) = _names(own), names
    if lacking := [name for name in named if name not in theirs]:
        raise InputError(
            f"{key}: has no {lacking}, of which this training has labels; its classes are {theirs}; "
            "choose a teacher of these classes, or name them alike"
        )
    if not labels.regions and bool(rest) != labels.background:
        why = "it has no background" if labels.background else f"{rest} are none of them, and there is no background"
        raise InputError(f"{key}: its classes are {theirs}, those of this training {_names(labels)}; {why}")


def _names(labels: LabelTable) -> list[str]:
    """Names of the outputs of a network."""
    return [region.name for region in labels.regions] or list(labels.names)


def _conversion(
    mine: tuple[Normalisation, bool], its: tuple[Normalisation, bool], *, where: str
) -> tuple[float, float, float, float]:
    """Factor, offset, least and largest value that turn one normalisation into another.

    Args:
        mine: Of this training, and whether it takes statistics of an image inside the nonzero mask only.
        its: Of the teacher.
        where: Teacher and channel, for messages.

    Raises:
        InputError: Statistics of each image, or a scheme of the user, on one side only.
    """
    (here, _), (theirs, _) = mine, its
    if here.scheme == theirs.scheme and (here.per_image or "." in here.scheme) and mine[1] == its[1]:
        return 1.0, 0.0, -_INF, _INF
    own, other = _affine(here), _affine(theirs)
    if own is None or other is None:
        schemes = [rule.scheme + " in the nonzero mask" * masked for rule, masked in (its, mine)]
        raise InputError(
            f"{where} is normalised by {schemes[0]} for the teacher and by {schemes[1]} here, which takes the raw "
            "image; set plan.normalisation to that of the teacher"
        )
    clipped = theirs.scheme in ("ct", "percentile")
    least, most = ((v - other[1]) / other[0] if clipped else s * _INF for v, s in ((theirs.low, -1), (theirs.high, 1)))
    return own[0] / other[0], (own[1] - other[1]) / other[0], least, most


def _affine(rule: Normalisation) -> tuple[float, float] | None:
    """Scale and shift of ``(raw - shift) / scale``; None of a rule that is none."""
    if rule.scheme in ("ct", "standard"):
        return max(rule.std, 1e-8), rule.mean
    if rule.scheme == "percentile":
        return max(rule.high - rule.low, 1e-8), rule.low
    return {"rgb": (255.0, 0.0), "none": (1.0, 0.0)}.get(rule.scheme)


def teacher_settings(teacher: TeacherFile | None, cfg: DictConfig, planned: Plan, spec: DataSpec) -> dict[str, Any]:
    """What a method with a teacher takes; nothing of the others."""
    if "teacher" not in cfg.method:
        return {}
    return {"teacher": None if teacher is None else teacher.built(planned, spec)}
