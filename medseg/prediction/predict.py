"""Label files for new images, on the very grid of each."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from medseg.errors import InputError
from medseg.prediction.image_groups import named_sources
from medseg.prediction.inputs import check_input, chosen_cases
from medseg.runtime.console import show
from medseg.runtime.verbosity import quiet_libraries

if TYPE_CHECKING:
    from medseg.engine.engine import Engine
    from medseg.facts import Fact
    from medseg.formats.polygons import PolygonOptions
    from medseg.labels import LabelTable
    from medseg.prediction.jobs import Written

_LOG = logging.getLogger(__name__)


@quiet_libraries()
def predict(cfg: DictConfig) -> list[Path]:
    """Predict every case of ``cfg.input`` into ``cfg.output``.

    Returns:
        The label files, those that existed already included.

    Raises:
        InputError: The checkpoint, the input or one of its images is not what it should be; or the output holds files
            that this command would not write. Other images are predicted before a bad one is reported.
    """
    target = Path(cfg.output)
    sources, groups = named_sources(cfg.input)
    check_input(sources, groups)
    _check_format(cfg)
    from medseg.prediction.targets import names_label_file

    single = names_label_file(target, sources, cfg.mosaic, seg=cfg.format == "dicom_seg")
    from medseg.factory.engine import build_engine

    with build_engine(cfg.engine) as engine:
        return _predict(cfg, sources, target, single=single, engine=engine, groups=groups)


def _predict(
    cfg: DictConfig, sources: list[Path], target: Path, *, single: bool, engine: Engine, groups: tuple[str, ...]
) -> list[Path]:
    """Predict by the workers of an engine; ``single`` if ``target`` is a label file, ``groups`` as the input says."""
    from medseg.formats.polygons import DEFAULT_POLYGONS
    from medseg.prediction.case_facts import with_facts
    from medseg.prediction.jobs import Request, check_conflicts, find_jobs, run_jobs, warn_of_others
    from medseg.prediction.loading import load, origin_of
    from medseg.prediction.record import Record
    from medseg.prediction.targets import check_labels, label_names
    from medseg.prediction.writer import Writer

    seg = cfg.format == "dicom_seg"
    predictor, maker, predictor_of_worker = load(cfg, engine)
    layout = predictor.layout
    cases = with_facts(cfg, chosen_cases(cfg, sources, predictor.spec, layout, groups), predictor.arrays)
    classes = predictor.spec.case_label
    folder = target.parent if single else target
    labels = label_names(cases, target, single=single, seg=seg)
    request = Request(tuple(bands.kind for bands in predictor.bands), _polygons(cfg), case_labels=classes is not None)
    check_labels(cases, labels, folder, georeferenced=bool(cfg.polygons or cfg.mosaic), seg=seg)
    by_folder = all(case.images[0].is_dir() for case in cases)
    origin = origin_of(cfg, maker, predictor, series=cfg.data.series if by_folder else None, groups=groups)
    record = Record(folder, origin)
    jobs = find_jobs(cases, labels, record, request)
    if not cfg.overwrite:
        check_conflicts(jobs, target)
    warn_of_others(jobs, record, request)
    options = request.polygons or DEFAULT_POLYGONS
    writer = Writer(predictor_of_worker, predictor.spec.labels, options, request.mean_probability)
    with _listed_for_review(folder, labels, predictor.spec.labels) if cfg.uncertainty else nullcontext():
        written = run_jobs(jobs, writer, record, request, overwrite=cfg.overwrite, engine=engine)
    _list_classes(folder, labels, classes)
    after = "" if seg else evaluation_command(folder, predictor.spec.labels, layout.reading.attribute)
    _print_end(written, len(jobs), target, after)
    return [folder / label for label in labels]


def _check_format(cfg: DictConfig) -> None:
    """Refuse a format of label files with outputs that it has not, or whose library is missing."""
    if cfg.format is None:
        if cfg.codes is not None:
            raise InputError("codes are those of DICOM segmentations; add format=dicom_seg, or leave codes out")
        return
    if cfg.uncertainty:
        raise InputError(
            "uncertainty=true lists cases by label files that medseg reads, format=dicom_seg writes none; "
            "leave one of them out"
        )
    from medseg.formats.dicom_seg import check_installed

    check_installed()


@contextmanager
def _listed_for_review(folder: Path, names: list[str], labels: LabelTable) -> Iterator[None]:
    """List the cases for review at the end, also if some of them failed."""
    try:
        yield
    except InputError:
        _list_for_review(folder, names, labels)
        raise
    _list_for_review(folder, names, labels)


def _polygons(cfg: DictConfig) -> PolygonOptions | None:
    """Which polygons are written; None for none."""
    from medseg.formats.polygons import PolygonOptions

    if not cfg.polygons:
        return None
    return PolygonOptions(cfg.polygon_min_area_m2, cfg.polygon_min_cells, cfg.polygon_simplify_m)


def _list_for_review(folder: Path, names: list[str], labels: LabelTable) -> None:
    from medseg.prediction.bands import band_name
    from medseg.prediction.review import write_review

    names = [name for name in names if all((folder / n).exists() for n in (name, band_name("uncertainty", name)))]
    show(_LOG, f"{write_review(folder, names, labels)}: the cases, the least certain first")


def _list_classes(folder: Path, names: list[str], classes: Fact | None) -> None:
    """Write the table of the classes of cases, where the network finds these."""
    if classes is not None:
        from medseg.prediction.case_labels import write_case_labels

        show(_LOG, f"{write_case_labels(folder, names, classes)}: the class of each case")


def _print_end(written: Written, total: int, target: Path, after: str) -> None:
    line = f"{written.labels} label files written to {target}"
    if kept := total - written.labels:
        line += f", {kept} kept: same checkpoint, settings and images (overwrite=true predicts them anew)"
    if written.completed:
        line += f"; {written.completed} of these got the outputs that they lacked"
    show(_LOG, line)
    if after:
        show(_LOG, f"Next: {after}")


def evaluation_command(target: Path, labels: LabelTable, attribute: str | None = None) -> str:
    """The command that scores the files of ``target``, with the classes as their names and values.

    Args:
        target: Folder of the predictions.
        labels: Table of the network.
        attribute: Field of vector labels that holds the class, if the training read such.

    Example:
        >>> from medseg.labels import LabelTable
        >>> evaluation_command(Path("maps"), LabelTable.declare({"background": 0, "left kidney": 3}))
        "medseg-evaluate predictions=maps labels=DIR output=maps-scores 'names={background: 0, left kidney: 3}'"
    """
    words = [f"medseg-evaluate predictions={target} labels=DIR output={target}-scores"]
    values = _raw_values(labels)
    if all(re.fullmatch(r"\w[\w -]*\w|\w", name) for name in values):  # others can't be written as keys of Hydra's
        words.append(f"'names={{{', '.join(f'{name}: {value}' for name, value in values.items())}}}'")
        if labels.background and labels.names[0] != "background":
            words.append(f"background={shlex.quote(labels.names[0])}")
    words += [f"attribute={attribute}"] if attribute else []
    return " ".join(words)


def _raw_values(labels: LabelTable) -> dict[str, int | list[int]]:
    """Raw values of each class that is scored, of each region and of what is ignored; a single one by itself."""
    raw = [c.values for c in labels.classes]
    meant = {c.name: c.values for c in labels.classes[: 1 if labels.regions else None]}
    meant |= {r.name: tuple(v for member in r.members for v in raw[member]) for r in labels.regions}
    meant |= {"ignore": labels.ignore_values} if labels.ignore_values else {}
    return {name: list(own) if len(own) > 1 else own[0] for name, own in meant.items()}
