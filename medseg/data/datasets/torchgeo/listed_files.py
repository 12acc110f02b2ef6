"""Files that a torchgeo dataset lists: which images belong to which mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.data.case import refuse
from medseg.errors import InputError

Pair = tuple[tuple[Path, ...], Path | None]
"""Image files of a case, and its mask."""


def listed_pairs(dataset: object, image_keys: Sequence[str], mask_key: str) -> list[Pair]:
    """What the dataset lists, in its own order.

    Of a dataset of chips these are the entries of ``files``. Of an intersection of two geo datasets, each
    image has the mask that covers most of it; a single geo dataset lists no masks.

    Raises:
        InputError: It lists no files, or no file of that name.
    """
    from torchgeo.datasets import GeoDataset

    pairs = _of_index(dataset) if isinstance(dataset, GeoDataset) else _of_entries(dataset, image_keys, mask_key)
    if not pairs:
        raise InputError(f"{type(dataset).__name__}: it lists no file; check data.root and data.splits")
    return pairs


def replaced(path: Path, changes: Mapping[str, str], root: Path, key: str) -> Path:
    """The path in which texts below ``root`` are exchanged.

    Raises:
        InputError: None of the texts is in it.

    Example:
        >>> replaced(Path("images/images/a.tif"), {"images": "masks"}, Path("images"), "data.mask_path").as_posix()
        'images/masks/a.tif'
    """
    below = path.relative_to(root) if path.is_relative_to(root) else path
    name = below.as_posix()
    for text, other in changes.items():
        name = name.replace(text, other)
    if name == below.as_posix():
        raise InputError(f"{key}={dict(changes)}: none of these texts is in {below}; fix them")
    return root / name if path.is_relative_to(root) else Path(name)


def completed(
    pairs: Sequence[Pair], root: Path, mask_path: Mapping[str, str] | None, more_images: Sequence[Mapping[str, str]]
) -> list[Pair]:
    """The pairs with their masks and further images by the names of their first images.

    Raises:
        InputError: A file that is not there.
    """
    complete = []
    for images, mask in pairs:
        further = tuple(replaced(images[0], changes, root, "data.more_images") for changes in more_images)
        label = replaced(images[0], mask_path, root, "data.mask_path") if mask_path else mask
        complete.append(((*images, *further), label))
    absent = [path for images, mask in complete for path in (*images, mask) if path is not None and not path.is_file()]
    refuse([str(path) for path in absent], "file(s) of the dataset are not there", "complete it, or check data.root")
    return complete


def _of_entries(dataset: object, image_keys: Sequence[str], mask_key: str) -> list[Pair]:
    name, entries = type(dataset).__name__, getattr(dataset, "files", None)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{name}: it lists no files by name; set data.read=samples")
    pairs = []
    for entry in entries:
        missing = [key for key in image_keys if not isinstance(entry.get(key), (str, Path))]
        if missing:
            raise InputError(
                f"{name}: its files are {sorted(entry)}, not {missing[0]!r}; name the image by data.image_key"
            )
        mask = entry.get(mask_key)
        pairs.append((tuple(Path(entry[key]) for key in image_keys), None if mask is None else Path(mask)))
    return pairs


def _of_index(dataset: Any) -> list[Pair]:
    import shapely

    index, parts = dataset.index, getattr(dataset, "datasets", [dataset])
    if any(getattr(part, "separate_files", False) for part in parts):
        raise InputError(f"{type(dataset).__name__}: its bands lie in files of their own; set data.read=samples")
    if "filepath" in index:
        return [((Path(path),), None) for path in index["filepath"]]
    if not {"filepath_1", "filepath_2"} <= set(index.columns):
        raise InputError(f"{type(dataset).__name__}: it lists no files by name; set data.read=samples")
    best: dict[str, tuple[float, str]] = {}
    for image, mask, area in zip(index["filepath_1"], index["filepath_2"], shapely.area(index.geometry.values)):
        if image not in best or area > best[image][0]:
            best[image] = (area, mask)
    return [((Path(image),), Path(mask)) for image, (_, mask) in best.items()]
