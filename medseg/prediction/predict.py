"""medseg-predict: label files for new images, on the very grid of each."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from medseg.errors import BadInput
from medseg.hydra_app import app as command

if TYPE_CHECKING:
    from medseg.data.case import Case
    from medseg.data.layout.dates import Dates
    from medseg.inference.predictor import Predictor
    from medseg.labels import LabelTable
    from medseg.prediction.jobs import Written
    from medseg.prediction.record import Origin
    from medseg.prediction.restore import Layout
    from medseg.sample import DataSpec


def main() -> None:
    """The console script."""
    command.run("predict", predict)


def predict(cfg: DictConfig) -> list[Path]:
    """Predict every case of ``cfg.input`` into ``cfg.output``.

    Returns:
        The label files, those that existed already included.

    Raises:
        BadInput: The checkpoint, the input or one of its images is not what it should be; or the output holds files
            that this command would not write. Other images are predicted before a bad one is reported.
    """
    checkpoint, target = _checkpoint(cfg.checkpoint), Path(cfg.output)
    sources = [Path(cfg.input)] if isinstance(cfg.input, str) else [Path(folder) for folder in cfg.input]
    _check_input(sources)
    from medseg.prediction.targets import check_labels, ending, names_label_file

    single = names_label_file(target, sources, cfg.mosaic)
    from medseg.runtime import verbosity as quiet

    quiet.settle()
    from medseg.checkpoint import read
    from medseg.prediction import restore
    from medseg.prediction.jobs import Request, check_conflicts, find_jobs, run_jobs, warn_of_others
    from medseg.prediction.record import Record
    from medseg.runtime.cpu import keep_large_blocks
    from medseg.runtime.device import device_of

    if device_of(cfg.device) == "cpu":
        keep_large_blocks()
    given = {key: value for key, value in cfg.data.items() if value is not None and key != "series"}
    series = None if cfg.data.series is None else str(cfg.data.series)
    loaded = read(checkpoint)
    predictor = restore.predictor(
        checkpoint,
        device=cfg.device,
        flips=cfg.flips,
        overlap=cfg.overlap,
        data=given,
        probabilities=cfg.probabilities,
        mosaic=bool(cfg.mosaic),
        trust=cfg.trust,
        loaded=loaded,
        series=series,
    )
    layout = restore.layout(checkpoint, given, loaded=loaded)
    cases = _chosen_cases(cfg, sources, predictor.spec, layout)
    folder = target.parent if single else target
    labels = [target.name] if single else [f"{case.id}{ending(case.images[0])}" for case in cases]
    request = Request(cfg.probabilities, cfg.polygons, cfg.polygon_min_area_m2)
    check_labels(cases, labels, folder, georeferenced=bool(cfg.probabilities or cfg.polygons or cfg.mosaic))
    record = Record(folder, _origin(cfg, checkpoint, predictor, layout))
    jobs = find_jobs(cases, labels, record, request)
    if not cfg.overwrite:
        check_conflicts(jobs, target)
    warn_of_others(jobs, record, request)
    written = run_jobs(jobs, predictor, record, request, overwrite=cfg.overwrite)
    _print_end(written, len(jobs), target, judging(folder, predictor.spec.labels, layout.reading.attribute))
    return [folder / label for label in labels]


def _print_end(written: Written, total: int, target: Path, after: str) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    line = f"{written.labels} label files written to {target}"
    if kept := total - written.labels:
        line += f", {kept} kept: same checkpoint, settings and images (overwrite=true predicts them anew)"
    if written.completed:
        line += f"; {written.completed} of these got the outputs that they lacked"
    console.print(line, soft_wrap=True, markup=False)
    console.print(f"Next: {after}", soft_wrap=True, markup=False)


def _checkpoint(given: Any) -> Path:
    if not isinstance(given, str):
        raise BadInput(
            f"checkpoint: got a list of {len(given)}, expected one file; ensembles of several checkpoints are not "
            "supported yet, so predict with each of them into a folder of its own"
        )
    return Path(given)


def _origin(cfg: DictConfig, checkpoint: Path, predictor: Predictor, layout: Layout) -> Origin:
    """What decides the labels besides the images."""
    from medseg.prediction.record import Origin

    tiling = predictor.tiling
    settings = {
        "window": tiling.window,
        "overlap": tiling.overlap,
        "flip_axes": tiling.flip_axes,
        "precision": tiling.precision,
        "data": layout.reading.to_dict(),
        "mosaic": cfg.mosaic,
        "series": cfg.data.series,
    }
    return Origin(layout.digest, str(checkpoint), json.loads(json.dumps(settings, default=str)))


def _chosen_cases(cfg: DictConfig, sources: list[Path], spec: DataSpec, layout: Layout) -> list[Case]:
    """The cases of the input, found as the training found its own; with ``mosaic``, one."""
    from medseg.data.case import Case

    if spec.ndim == 2 and sources[0].is_dir():
        sources = image_folders(sources, layout.folders)
    dates = layout.reading.dates if spec.dates else None
    cases = layout.names.images_in(sources[0]) if layout.names and sources[0].is_dir() and len(sources) == 1 else []
    cases = cases or find_cases(sources, len(spec.channels), spec.ndim, dates)
    if cfg.mosaic and spec.dates:
        raise BadInput(f"mosaic={cfg.mosaic} joins tiles of single images, the network takes time series; leave it out")
    if cfg.mosaic and len(sources) > 1:
        raise BadInput(
            f"mosaic={cfg.mosaic} joins the tiles of one folder, input names {len(sources)}; join those of each folder "
            "into a file first (gdalbuildvrt), or leave mosaic out"
        )
    if cfg.mosaic:
        return [Case(cfg.mosaic, tuple(path for case in cases for path in case.images), None, cfg.mosaic)]
    return cases


def judging(target: Path, labels: LabelTable, attribute: str | None = None) -> str:
    """The command that judges the files of ``target``, with the classes as their names and values.

    Args:
        target: Folder of the predictions.
        labels: Table of the network.
        attribute: Field of vector labels that holds the class, if the training read such.

    Example:
        >>> from medseg.labels import LabelTable
        >>> judging(Path("maps"), LabelTable.declare({"background": 0, "left kidney": 3}))
        "medseg-evaluate predictions=maps labels=DIR output=maps-scores 'names={background: 0, left kidney: 3}'"
    """
    raw = [c.values for c in labels.classes]
    meant = {c.name: c.values for c in labels.classes[: 1 if labels.regions else None]}
    meant |= {r.name: tuple(v for member in r.members for v in raw[member]) for r in labels.regions}
    values: dict[str, Any] = {name: list(own) if len(own) > 1 else own[0] for name, own in meant.items()}
    if labels.ignore_values:
        values["ignore"] = list(labels.ignore_values) if len(labels.ignore_values) > 1 else labels.ignore_values[0]
    words = [f"medseg-evaluate predictions={target} labels=DIR output={target}-scores"]
    if all(re.fullmatch(r"\w[\w -]*\w|\w", name) for name in values):  # others can't be written as keys of Hydra's
        words.append(f"'names={{{', '.join(f'{name}: {value}' for name, value in values.items())}}}'")
        if labels.background and labels.names[0] != "background":
            words.append(f"background={shlex.quote(labels.names[0])}")
    words += [f"attribute={attribute}"] if attribute else []
    return " ".join(words)


def _check_input(sources: Sequence[Path]) -> None:
    absent = [str(source) for source in sources if not source.exists()]
    if absent or not sources:
        raise BadInput(f"input={', '.join(absent) or '[]'}: no such file or folder")
    files = [str(source) for source in sources if source.is_file()]
    if files and len(sources) > 1:
        raise BadInput(
            f"input: the file {files[0]} came in a list, expected folders, each with some of the bands of every case; "
            "give one file by itself, or put the files of a case under one name into folders"
        )


def image_folders(sources: Sequence[Path], trained: Sequence[str]) -> list[Path]:
    """The folders that together hold the bands of each case.

    Args:
        sources: Folders that were named.
        trained: Sub-folders that the training took the images from.

    Returns:
        ``sources``; or, where that is one folder with some of those sub-folders in it, all of these.

    Raises:
        BadInput: Some of the sub-folders are there, but not all.
    """
    within = [sources[0] / name for name in trained]
    if len(sources) > 1 or len(trained) < 2 or not any(folder.is_dir() for folder in within):
        return list(sources)
    absent = [folder.name for folder in within if not folder.is_dir()]
    if absent:
        raise BadInput(
            f"input={sources[0]}: no folder {', '.join(absent)} in it; the training took the bands of each case from "
            f"{', '.join(trained)}"
        )
    return within


def find_cases(sources: Sequence[Path], n_channels: int, ndim: int = 3, dates: Dates | None = None) -> list[Case]:
    """The cases of a folder of images, of one image file (with its sibling channels), or of one DICOM series.

    Several folders hold some of the bands of every case each, in files of one name, as ``RastersDataset``
    takes them; of time series the files of each date.
    """
    from medseg import formats
    from medseg.data.case import Case
    from medseg.data.layout.pairing import by_stem, pair

    source = sources[0]
    if ndim == 2:
        endings = (*formats.RASTERS, *formats.IMAGES)
        if source.is_file() and formats.suffix(source) in endings:
            return [Case(formats.stem(source), (source,), None, formats.stem(source))]
        if source.is_dir():
            return by_stem(sources, None, endings=endings, label_endings=(), dates=dates)
    if len(sources) > 1:
        raise BadInput(
            f"input: {len(sources)} folders came, expected one; the channels of a volume lie in one folder, named "
            "case_0000, case_0001 and so on"
        )
    if source.is_file() and source.suffix.lower() == ".dcm":
        raise BadInput(f"input={source}: is one slice of a DICOM series; give its folder, input={source.parent}")
    if source.is_file():
        cases = [c for c in _paired(source.parent, n_channels, formats.suffix(source)) if source in c.images]
        if not cases:
            names = formats.VOLUMES if ndim == 3 else (*formats.RASTERS, *formats.IMAGES)
            raise BadInput(f"input={source}: is not an image that this network takes, known are {', '.join(names)}")
        return cases
    entries = list(source.iterdir())
    files = [p for p in entries if p.is_file() and not p.name.startswith(".")]
    known = [p for p in files if formats.suffix(p) in formats.VOLUMES]
    if files and not known and not any(p.is_dir() for p in entries):
        return [Case(source.name, (source,), None, source.name)]
    return pair(source, None, n_channels, folders=True)


def _paired(folder: Path, n_channels: int, suffix: str) -> list[Case]:
    from medseg import formats
    from medseg.data.layout.pairing import pair

    return pair(folder, None, n_channels, endings=[suffix]) if suffix in formats.VOLUMES else []
