"""What is known about the samples of a torchgeo dataset: a small file a sample, which is its case's file.

The file has the grid and a digest of the cells, so that the keys of the store and of the fingerprint follow
the content. All samples are read once to write them, and again when a file of the dataset has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import track

from medseg.data.case import Case
from medseg.data.datasets.torchgeo.samples import Samples, SampleSource
from medseg.data.synthetic.cache import settings_folder
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.runtime.atomic import write_whole


def sample_cases(samples: Samples, folder: Path, prefix: str = "") -> list[Case]:
    """A case for each sample; those of one file are a group. Dates of time series are numbered.

    Args:
        samples: The dataset.
        folder: Folder of the indexes of all datasets.
        prefix: Prefix of the ids and groups.

    Raises:
        InputError: The dataset is empty, or a sample can't be read.
    """
    mine = settings_folder(folder, asdict(samples))
    listing, state = mine.with_name(f"{mine.name}.json"), _state(samples.recipe.folders)
    stored: dict[str, Any] = json.loads(listing.read_text(encoding="utf-8")) if listing.exists() else {}
    if state is None or stored.get("state") != state or "dates" not in stored:
        samples.forget()
        names = named(first_files(samples))
        if not names:
            raise InputError(f"{samples.recipe.class_path}: it has no sample; check data.root and data.splits")
        labels, dates = [], []
        for number, (name, _) in enumerate(track(names, "looking at samples")):
            description = samples.survey(number)
            labels.append(description["labelled"])
            dates.append(description["dates"])
            described = {"number": number, "grid": samples.grid(number).to_dict(), **description}
            write_whole(mine / f"{name}.json", json.dumps(described))
        stored = {"state": state, "names": names, "labelled": labels, "dates": dates}
        write_whole(listing, json.dumps(stored))
    listed = zip(stored["names"], stored["labelled"], stored["dates"], strict=True)
    cases = []
    for (name, group), labelled, n in listed:
        file, days = mine / f"{name}.json", tuple(range(n))
        label = file if labelled else None
        cases.append(Case(f"{prefix}{name}", (file,), label, f"{prefix}{group}", days=days, in_file=n > 0))
    return cases


def sample_sources(samples: Samples, case: Case) -> tuple[SampleSource, SampleSource | None]:
    """Image and label of a case of ``sample_cases``."""
    file = case.images[0]
    description = json.loads(file.read_text(encoding="utf-8"))
    number, grid = description["number"], Grid.from_dict(description["grid"])
    image = SampleSource(samples, number, "image", path=file, grid=grid, n_channels=description["channels"])
    label = None if case.label is None else SampleSource(samples, number, "label", path=file, grid=grid)
    return image, label


def first_files(samples: Samples) -> list[Path | None]:
    """The file after which each sample is named; None where the dataset does not list it."""
    dataset = samples.dataset
    if samples.is_geo:
        index = dataset.index
        column = next((c for c in ("filepath", "filepath_1") if c in index), None)
        return [Path(path) for path in index[column]] if column else [None] * len(index)
    entries = getattr(dataset, "files", None)
    if not isinstance(entries, list) or len(entries) != len(dataset):
        return [None] * len(dataset)
    return [_image_of(entry, samples.image_keys[0]) for entry in entries]


def _image_of(entry: object, key: str) -> Path | None:
    """The image file of an entry of a dataset's list; None without one."""
    path = entry.get(key) if isinstance(entry, dict) else None
    return Path(path) if isinstance(path, (str, Path)) else None


def named(paths: Sequence[Path | None]) -> list[tuple[str, str]]:
    """(name, group) of each sample by the file that it comes from.

    The group is the stem of the file, or where stems come twice its path; samples of one file are numbered.
    Without files, samples are numbers, each its own group.

    Example:
        >>> named([Path("a/0.png"), Path("b/0.png"), Path("b/0.png")])
        [('a_0', 'a_0'), ('b_0_0', 'b_0'), ('b_0_1', 'b_0')]
        >>> named([None, None])
        [('000000', '000000'), ('000001', '000001')]
    """
    files = [path for path in paths if path is not None]
    group_of = _unique_stems(list(dict.fromkeys(files)))
    if len(files) < len(paths) or len(set(group_of.values())) < len(group_of):
        return [(f"{number:06d}", f"{number:06d}") for number in range(len(paths))]
    total, counts, names = Counter(files), Counter[Path](), []
    for path in files:
        group = group_of[path]
        names.append((group if total[path] == 1 else f"{group}_{counts[path]}", group))
        counts[path] += 1
    return names


def _unique_stems(files: Sequence[Path]) -> dict[Path, str]:
    """The stem of each file, or its path below the common folder where stems repeat; that may repeat too."""
    stems = [path.stem for path in files]
    if len(set(stems)) < len(stems):
        shared = Path(os.path.commonpath(files))
        stems = ["_".join(path.relative_to(shared).with_suffix("").parts) for path in files]
    return dict(zip(files, stems, strict=True))


def _state(folders: Iterable[Path]) -> str | None:
    """Changes with any file below the folders; None where they say nothing."""
    total, complete = hashlib.sha256(), False
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file():
                stat = path.stat()
                total.update(f"{path}:{stat.st_size}:{stat.st_mtime_ns}".encode())
                complete = True
    return total.hexdigest() if complete else None
