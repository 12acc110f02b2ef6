"""medseg-predict: label files for new images, on the very grid of each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from medseg import command
from medseg.errors import BadInput

if TYPE_CHECKING:
    from medseg.data.case import Case
    from medseg.data.series import Dates
    from medseg.labels import LabelTable
    from medseg.restore import Layout
    from medseg.sample import DataSpec


def main() -> None:
    """The console script."""
    command.run("predict", predict)


def predict(cfg: DictConfig) -> list[Path]:
    """Predict every case of ``cfg.input`` into ``cfg.output``.

    Returns:
        The label files, those that existed already included.

    Raises:
        BadInput: The checkpoint, the input or one of its images is not what it should be.
    """
    checkpoint, target = Path(cfg.checkpoint), Path(cfg.output)
    sources = [Path(cfg.input)] if isinstance(cfg.input, str) else [Path(folder) for folder in cfg.input]
    _check_input(sources)
    if target.exists() and not target.is_dir():
        raise BadInput(f"output={target} is a file; give a folder, in which each case gets a file of its name")
    from rich.console import Console

    from medseg import quiet

    quiet.settle()
    from medseg import formats, restore
    from medseg.checkpoint import read
    from medseg.cpu import keep_large_blocks
    from medseg.device import device_of
    from medseg.watching import watched

    if device_of(cfg.device) == "cpu":
        keep_large_blocks()
    given = {key: value for key, value in cfg.data.items() if value is not None}
    loaded = read(checkpoint)
    predictor = restore.predictor(
        checkpoint,
        device=cfg.device,
        flips=cfg.flips,
        overlap=cfg.overlap,
        data=given,
        probabilities=cfg.probabilities,
        shapes=cfg.polygons,
        mosaic=bool(cfg.mosaic),
        trust=cfg.trust,
        loaded=loaded,
    )
    layout = restore.layout(checkpoint, given, loaded=loaded)
    cases = _chosen_cases(cfg, sources, predictor.spec, layout)
    written = [target / f"{case.id}{ending(case.images[0])}" for case in cases]
    beside = [path for path in written if formats.suffix(path) not in formats.RASTERS]
    if (cfg.probabilities or cfg.polygons or cfg.mosaic) and beside:
        raise BadInput(
            f"probabilities, polygons and mosaic are for GeoTIFF scenes, {beside[0].name} is none; leave them out"
        )
    clash = [path for case, path in zip(cases, written, strict=True) if path.resolve() in _resolved(case.images)]
    if clash:
        raise BadInput(f"output={target}: {clash[0].name} would replace the image itself; choose another folder")
    work = [(c, p) for c, p in zip(cases, written, strict=True) if cfg.overwrite or not p.exists()]
    for case, path in watched(work, "predicting"):
        predictor.file(case.images, path)
    kept = len(cases) - len(work)
    console = Console(highlight=False)
    console.print(f"{len(work)} label files written to {target}" + (f", {kept} kept (overwrite=true)" if kept else ""))
    after = judging(target, predictor.spec.labels, layout.reading.attribute)
    console.print(f"Next: {after}", soft_wrap=True, markup=False)
    return written


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
    values = {c.name: c.values[0] if len(c.values) == 1 else list(c.values) for c in labels.classes}
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
    from medseg.data.pairing import by_stem, pair

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
    from medseg.data.pairing import pair

    return pair(folder, None, n_channels, endings=[suffix]) if suffix in formats.VOLUMES else []


def ending(image: Path) -> str:
    """Suffix of the label file for an image: its own, but ``.nii.gz`` for DICOM, ``.png`` for photographs."""
    from medseg import formats

    own = formats.suffix(image)
    if own in formats.IMAGES:
        return ".png"
    return {"": ".nii.gz", ".nhdr": ".nrrd", ".mhd": ".mha"}.get(own, own)


def _resolved(paths: Sequence[Path]) -> set[Path]:
    return {path.resolve() for path in paths}
