"""Label files for new images, on the very grid of each."""

from __future__ import annotations

import json
import logging
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.prediction.inputs import check_input, chosen_cases
from medseg.runtime.console import show
from medseg.runtime.verbosity import quiet_libraries

if TYPE_CHECKING:
    from medseg.labels import LabelTable
    from medseg.prediction.file_predictor import FilePredictor
    from medseg.prediction.jobs import Written
    from medseg.prediction.record import Origin

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
    sources = [Path(cfg.input)] if isinstance(cfg.input, str) else [Path(folder) for folder in cfg.input]
    check_input(sources)
    _check_format(cfg)
    from medseg.prediction.targets import check_labels, label_names, names_label_file

    seg = cfg.format == "dicom_seg"
    single = names_label_file(target, sources, cfg.mosaic, seg=seg)
    from medseg.prediction.jobs import Request, check_conflicts, find_jobs, run_jobs, warn_of_others
    from medseg.prediction.record import Record

    predictor = _predictor(cfg)
    layout = predictor.layout
    cases = chosen_cases(cfg, sources, predictor.spec, layout)
    folder = target.parent if single else target
    labels = label_names(cases, target, single=single, seg=seg)
    request = Request(tuple(bands.kind for bands in predictor.bands), cfg.polygons, cfg.polygon_min_area_m2)
    check_labels(cases, labels, folder, georeferenced=bool(cfg.polygons or cfg.mosaic), seg=seg)
    by_folder = all(case.images[0].is_dir() for case in cases)
    record = Record(folder, _origin(cfg, predictor, series=cfg.data.series if by_folder else None))
    jobs = find_jobs(cases, labels, record, request)
    if not cfg.overwrite:
        check_conflicts(jobs, target)
    warn_of_others(jobs, record, request)
    written = run_jobs(jobs, predictor, record, request, overwrite=cfg.overwrite)
    if cfg.uncertainty:
        _list_for_review(folder, labels, predictor.spec.labels)
    after = "" if seg else evaluation_command(folder, predictor.spec.labels, layout.reading.attribute)
    _print_end(written, len(jobs), target, after)
    return [folder / label for label in labels]


def _predictor(cfg: DictConfig) -> FilePredictor:
    """The predictor of ``cfg.checkpoint`` with the settings of the command."""
    from medseg.prediction import restore
    from medseg.runtime.cpu import keep_large_blocks
    from medseg.runtime.device import device_of

    if device_of(cfg.device) == "cpu":
        keep_large_blocks()
    given = {key: value for key, value in cfg.data.items() if value is not None and key != "series"}
    predictor = restore.predictor(
        _named(cfg.checkpoint),
        device=cfg.device,
        flips=cfg.flips,
        overlap=cfg.overlap,
        data=given,
        probabilities=cfg.probabilities,
        uncertainty=cfg.uncertainty,
        mosaic=bool(cfg.mosaic),
        trust=cfg.trust,
        series=None if cfg.data.series is None else str(cfg.data.series),
    )
    predictor.labels = predictor.labels.with_codes(_plain(cfg.codes), "codes")
    return predictor


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


def _plain(value: Any) -> Any:
    """A value of the configuration as plain Python."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _list_for_review(folder: Path, names: list[str], labels: LabelTable) -> None:
    from medseg.prediction.review import write_review

    show(_LOG, f"{write_review(folder, names, labels)}: the cases, the least certain first")


def _print_end(written: Written, total: int, target: Path, after: str) -> None:
    line = f"{written.labels} label files written to {target}"
    if kept := total - written.labels:
        line += f", {kept} kept: same checkpoint, settings and images (overwrite=true predicts them anew)"
    if written.completed:
        line += f"; {written.completed} of these got the outputs that they lacked"
    show(_LOG, line)
    if after:
        show(_LOG, f"Next: {after}")


def _named(given: Any) -> str | list[str]:
    return given if isinstance(given, str) else [str(path) for path in given]


def _origin(cfg: DictConfig, predictor: FilePredictor, *, series: object) -> Origin:
    """What decides the labels besides the images; ``series`` is chosen among those in each folder that is an image."""
    from medseg.prediction.record import Origin

    tilings = [member.tiling for member in predictor.arrays.members]
    tiles = [
        {"window": t.window, "overlap": t.overlap, "flip_axes": t.flip_axes, "precision": t.precision} for t in tilings
    ]
    settings = {
        **(tiles[0] if len(tiles) == 1 else {"members": tiles}),
        "data": predictor.layout.reading.to_dict(),
        "mosaic": cfg.mosaic,
        "series": series,
        **({} if cfg.codes is None else {"codes": _plain(cfg.codes)}),
    }
    named = _named(cfg.checkpoint)
    file = named if isinstance(named, str) else ", ".join(named)
    return Origin(predictor.digest, file, json.loads(json.dumps(settings, default=str)))


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
