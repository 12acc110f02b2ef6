"""Where label files of a prediction go: names, suffixes, and targets that are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg import formats
from medseg.data.case import Case, first_five
from medseg.errors import InputError


def names_label_file(target: Path, sources: Sequence[Path], mosaic: str | None, *, seg: bool = False) -> bool:
    """Whether ``output`` names the label file of a single image instead of a folder.

    Args:
        target: The output.
        sources: The inputs: an image file, a folder of DICOM slices, or one or several folders of images.
        mosaic: Name of a mosaic of the images of a folder, if one is asked for.
        seg: Whether label files are DICOM segmentations.

    Raises:
        InputError: It names a file and the input is more than one image; or it is a file and no label file.
    """
    if target.is_dir():
        return False
    if not _is_label_name(target, seg=seg):
        if target.exists():
            raise InputError(f"output={target} is a file; give a folder, in which each case gets a file of its name")
        return False
    series = sources[0].is_dir() and not any(p.is_dir() or formats.find_format(p) for p in sources[0].iterdir())
    if mosaic or not (all(source.is_file() for source in sources) or (series and len(sources) == 1)):
        raise InputError(
            f"output={target} names a file, and input={sources[0]} is a folder; give a folder, in which each case gets "
            "a file of its name, or one image file as input"
        )
    return True


def _is_label_name(target: Path, *, seg: bool) -> bool:
    """Whether a path that is no folder has the suffix of a label file."""
    return formats.find_format(target) is not None or (seg and formats.suffix(target) == formats.DICOM)


def label_names(cases: Sequence[Case], target: Path, *, single: bool, seg: bool) -> list[str]:
    """Name of the label file of each case.

    Args:
        cases: The cases.
        target: The output.
        single: Whether the output names the label file of a single case.
        seg: Whether label files are DICOM segmentations.

    Raises:
        InputError: There are several cases for one label file.
    """
    if single and len(cases) > 1:
        raise InputError(
            f"output={target} names a file, and input holds {len(cases)} image series of DICOM; give a folder, or "
            f"choose one by data.series among {first_five([case.id for case in cases])}"
        )
    return [target.name] if single else [f"{case.id}{ending(case.images[0], seg=seg)}" for case in cases]


def check_labels(
    cases: Sequence[Case], labels: Sequence[str], folder: Path, *, georeferenced: bool, seg: bool = False
) -> None:
    """Refuse label files of another kind than their images, or that would replace them.

    Args:
        cases: The cases.
        labels: Name of the label file of each.
        folder: Of the label files.
        georeferenced: Whether outputs are asked for that only GeoTIFF scenes have.
        seg: Whether label files are DICOM segmentations.

    Raises:
        InputError: Names the first such file.
    """
    for case, label in zip(cases, labels, strict=True):
        own = ending(case.images[0], seg=seg)
        chosen, fitting = formats.suffix(label), _fitting(own)
        if chosen not in fitting:
            raise InputError(
                f"output={folder / label}: ends in {chosen}, expected {' or '.join(fitting)} for {case.images[0].name}"
            )
        if (folder / label).resolve() in {path.resolve() for path in case.images}:
            raise InputError(f"output={folder}: {label} would replace the image itself; choose another folder")
    others = [label for label in labels if formats.suffix(label) not in formats.GEOTIFF]
    if georeferenced and others:
        raise InputError(f"polygons and mosaic are for GeoTIFF scenes, {others[0]} is none; leave them out")


def ending(image: Path, *, seg: bool = False) -> str:
    """Suffix of the label file for an image: its own, but ``.nii.gz`` for DICOM, ``.png`` for photographs.

    Args:
        image: File, or folder of slices.
        seg: Whether label files are DICOM segmentations.

    Raises:
        InputError: A DICOM segmentation of another kind of image.
    """
    if not seg:
        return formats.label_suffix(image)
    if not (image.is_dir() or formats.is_dicom(image)):
        raise InputError(
            f"format=dicom_seg writes objects that refer to a DICOM series, {image} is none; leave format out"
        )
    return formats.DICOM


def _fitting(own: str) -> tuple[str, ...]:
    """Suffixes of label files of the same kind as one with the suffix ``own``."""
    form = formats.find_format(f"label{own}")
    return formats.suffixes(form.kind, written=True) if form else (own,)
