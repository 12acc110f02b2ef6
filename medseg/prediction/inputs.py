"""The cases of an input: files and folders, found as the training found its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from medseg.errors import InputError
from medseg.prediction.image_groups import channel_cases, group_cases, group_folders

if TYPE_CHECKING:
    from medseg.data.case import Case
    from medseg.data.layout.dates import DateLayout
    from medseg.prediction.file_predictor import Layout
    from medseg.sample import DataSpec


def check_input(sources: Sequence[Path], names: Sequence[str] = ()) -> None:
    """Raise if an input is missing, or a file is one of several.

    Args:
        sources: The paths that were given.
        names: Names of their image groups, of which one case may have a file each.
    """
    absent = [str(source) for source in sources if not source.exists()]
    if absent or not sources:
        raise InputError(f"input={', '.join(absent) or '[]'}: no such file or folder")
    files = [str(source) for source in sources if source.is_file()]
    if files and len(sources) > 1 and not (names and len(files) == len(sources)):
        raise InputError(
            f"input: got the file {files[0]} in a list, expected folders, each with some of the bands of every case; "
            "give one file by itself, or put the files of a case under one name into folders"
        )


def chosen_cases(
    cfg: DictConfig, sources: list[Path], spec: DataSpec, layout: Layout, names: Sequence[str] = ()
) -> list[Case]:
    """The cases of the input, found as the training found its own; with ``mosaic``, one.

    Args:
        cfg: Configuration of the command.
        sources: The paths that were given.
        spec: Channels and labels of the training.
        layout: How the training found and read its files.
        names: Names of the image groups of the paths; empty where they have none.
    """
    if names and not layout.reading.image_groups and not spec.dates:
        channels = [channel.name for channel in spec.channels]
        return channel_cases(dict(zip(names, sources, strict=True)), layout.reading, channels, ndim=spec.ndim)
    if names or layout.reading.image_groups:
        return _in_groups(cfg.mosaic, group_folders(sources, names, layout.folders, layout.reading), spec, layout)
    return _without_groups(cfg, sources, spec, layout)


def _without_groups(cfg: DictConfig, sources: list[Path], spec: DataSpec, layout: Layout) -> list[Case]:
    """The cases of images without image groups."""
    from medseg.data.case import Case

    if spec.ndim == 2 and sources[0].is_dir():
        sources = image_folders(sources, layout.folders)
    if cfg.mosaic:
        _check_mosaic(cfg.mosaic, sources, spec)
    dates = layout.reading.dates if spec.dates else None
    absent, single = layout.reading.absent == "allow", sources[0].is_dir() and len(sources) == 1
    named = layout.names.images_in(sources[0], absent=absent) if layout.names and single else []
    series, without = _text(cfg.data.series), layout.reading.no_images
    cases = named or find_cases(
        sources, len(spec.channels), spec.ndim, dates, series=series, without=without, absent=absent
    )
    if not cfg.mosaic:
        return cases
    return [Case(cfg.mosaic, tuple(path for case in cases for path in case.images), None, cfg.mosaic)]


def _in_groups(mosaic: object, sources: Mapping[str, Path], spec: DataSpec, layout: Layout) -> list[Case]:
    """The cases of a folder, or of a file, for each image group."""
    if mosaic:
        raise InputError(f"mosaic={mosaic} joins tiles of images without groups; leave it out")
    dates = layout.reading.dates if spec.dates else None
    return group_cases(sources, layout.reading, ndim=spec.ndim, dates=dates)


def _text(value: object) -> str | None:
    """A setting as text: a SeriesInstanceUID such as 1.2 is read as a number."""
    return None if value is None else str(value)


def _check_mosaic(name: str, sources: Sequence[Path], spec: DataSpec) -> None:
    """Refuse a mosaic of what is no single images of one folder."""
    if spec.dates:
        raise InputError(f"mosaic={name} joins tiles of single images, the network takes time series; leave it out")
    if len(sources) > 1:
        raise InputError(
            f"mosaic={name} joins the tiles of one folder, input names {len(sources)}; join those of each folder "
            "into a file first (gdalbuildvrt), or leave mosaic out"
        )


def image_folders(sources: Sequence[Path], trained: Sequence[str]) -> list[Path]:
    """The folders that together hold the bands of each case.

    Args:
        sources: Folders that were named.
        trained: Sub-folders that the training took the images from.

    Returns:
        ``sources``; or, where that is one folder with some of those sub-folders in it, all of these.

    Raises:
        InputError: Some of the sub-folders are there, but not all.
    """
    within = [sources[0] / name for name in trained]
    if len(sources) > 1 or len(trained) < 2 or not any(folder.is_dir() for folder in within):
        return list(sources)
    absent = [folder.name for folder in within if not folder.is_dir()]
    if absent:
        raise InputError(
            f"input={sources[0]}: no folder {', '.join(absent)} in it; the training took the bands of each case from "
            f"{', '.join(trained)}"
        )
    return within


def find_cases(
    sources: Sequence[Path],
    n_channels: int,
    ndim: int = 3,
    dates: DateLayout | None = None,
    *,
    series: str | None = None,
    without: str = "",
    absent: bool = False,
) -> list[Case]:
    """The cases of a folder of images, of one image file (with its sibling channels), or of folders of DICOM series.

    Several folders hold some of the bands of every case each, in files of one name, as ``RastersDataset``
    takes them; of time series the files of each date. ``series`` chooses among DICOM series, see ``series_cases``;
    files of scenes whose stems end with ``without`` are none. With ``absent`` cases may lack files of channels.
    """
    if ndim == 2 and (planes := _planes(sources, dates, without, absent=absent)):
        return planes
    source = sources[0]
    if len(sources) > 1:
        raise InputError(
            f"input: got {len(sources)} folders, expected one; the channels of a volume lie in one folder, named "
            "case_0000, case_0001 and so on"
        )
    if source.is_file():
        return _of_file(source, n_channels, ndim, absent=absent)
    return _of_folder(source, n_channels, series, absent=absent)


def _planes(sources: Sequence[Path], dates: DateLayout | None, without: str, *, absent: bool) -> list[Case]:
    """Scenes and images of a file or of folders; empty if the file is something else."""
    from medseg import formats
    from medseg.data.case import Case
    from medseg.data.layout.same_names import by_stem

    source, endings = sources[0], formats.suffixes("scene", "image")
    if source.is_dir():
        layout: Any = {"dates": dates, "without": without, "absent": absent}
        return by_stem(sources, None, endings=endings, label_endings=(), **layout)
    name = formats.stem(source)
    return [Case(name, (source,), None, name)] if formats.suffix(source) in endings else []


def _of_file(source: Path, n_channels: int, ndim: int, *, absent: bool) -> list[Case]:
    """The case that an image file belongs to, with its sibling channels."""
    from medseg import formats

    if source.suffix.lower() == ".dcm":
        raise InputError(f"input={source}: is one slice of a DICOM series; give its folder, input={source.parent}")
    siblings = _paired(source.parent, n_channels, formats.suffix(source), absent=absent)
    cases = [case for case in siblings if source in case.images]
    if not cases:
        names = formats.suffixes("volume") if ndim == 3 else formats.suffixes("scene", "image")
        raise InputError(f"input={source}: is not an image that this network takes, known are {', '.join(names)}")
    return cases


def _of_folder(source: Path, n_channels: int, series: str | None, *, absent: bool) -> list[Case]:
    """The volumes of a folder; folders without files of other formats are searched for DICOM series."""
    from medseg import formats
    from medseg.data.layout.pairing import pair
    from medseg.prediction.dicom_inputs import series_cases

    known = any(p.is_file() and formats.suffix(p) in formats.suffixes("volume") for p in source.iterdir())
    cases = None if known else series_cases(source, n_channels, series)
    return pair(source, None, n_channels, folders=True, absent=absent) if cases is None else cases


def _paired(folder: Path, n_channels: int, suffix: str, *, absent: bool) -> list[Case]:
    from medseg import formats
    from medseg.data.layout.pairing import pair

    known = suffix in formats.suffixes("volume")
    return pair(folder, None, n_channels, endings=[suffix], absent=absent) if known else []
