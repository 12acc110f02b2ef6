"""FilePredictor: image files -> label files on the very same grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from torch import nn

from medseg import formats
from medseg._version import __version__
from medseg.data.case import Case
from medseg.data.layout.dates import dated
from medseg.data.layout.patterns import FilePatterns
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.facts import CaseFacts
from medseg.formats.mosaic import Mosaic
from medseg.formats.source import Source
from medseg.geometry.grid import Grid
from medseg.inference.predictor import CasePredictor
from medseg.inference.rows import Slab
from medseg.prediction.bands import Bands, collected
from medseg.prediction.case_labels import write_case_label
from medseg.prediction.image_groups import check_names
from medseg.prediction.scenes import postprocess_scene, stream_scene, streams, write_like
from medseg.sample import DataSpec


@dataclass(frozen=True)
class Layout:
    """How files of images are found and read.

    Attributes:
        folders: Sub-folders that the training's images are from, those of image groups in the order of
            ``reading.image_groups``; empty where the dataset names none.
        reading: How files are read.
        names: Patterns that found the training's files instead of folders; None where there were none.
    """

    folders: tuple[str, ...]
    reading: ReadOptions
    names: FilePatterns | None


class FilePredictor:
    """Opens images, has them predicted, writes label files; scenes of any size window by window.

    Called with an array and its grid, it is the predictor of arrays that it holds.

    Attributes:
        arrays: Predicts arrays.
        layout: How files are found, and read for the first member.
        digest: Digest of the checkpoint, see ``Checkpoint.digest``; of several, of their digests.
        step: Optimiser steps before the checkpoint; of several, before the first.
        bands: Kinds of files that are written in addition to each label file.
        labels: Meaning of the values in label files: the table of the training, to which codes may be added.

    Args:
        arrays: Predicts arrays.
        layout: How files are found, and read for the first member.
        digest: Digest of the checkpoint.
        step: Optimiser steps before the checkpoint.
        temperature: What logits are divided by for probabilities and entropy in files; 1 for several networks.
        bands: Kinds of files that are written in addition to each label file.
        mosaic: Take the files of a case as tiles of one scene, not as its channels.
        series: SeriesInstanceUID to take from folders of DICOM slices that hold several series.
    """

    def __init__(
        self,
        arrays: CasePredictor[Preprocess],
        layout: Layout,
        *,
        digest: str,
        step: int = 0,
        temperature: float = 1.0,
        bands: Sequence[Bands] = (),
        mosaic: bool = False,
        series: str | None = None,
    ) -> None:
        self.arrays = arrays
        self.layout = layout
        self.digest = digest
        self.step = step
        self.temperature = temperature
        self.bands = tuple(bands)
        self.labels = arrays.spec.labels
        self._mosaic = mosaic
        self._series = series

    @property
    def spec(self) -> DataSpec:
        """Channels and labels of the training."""
        return self.arrays.spec

    @property
    def network(self) -> nn.Module:
        """The trained network; of an ensemble, that of its first member."""
        return self.arrays.members[0].network

    def __call__(
        self,
        image: Shaped[np.ndarray, "..."],
        grid: Grid,
        days: Sequence[int] | None = None,
        *,
        facts: Mapping[str, object] | None = None,
    ) -> Shaped[np.ndarray, " *s"]:
        """Label array of saved values for an image of raw values; see ``Predictor.__call__``.

        After a training with ``data.absent=allow`` a channel that is NaN everywhere is absent.
        """
        return self.arrays(image, grid, days, absent=self.layout.reading.absent == "allow", facts=facts)

    def file(
        self,
        source: Path | str | Sequence[Path | str] | Mapping[str, Path | str],
        target: Path | str,
        *,
        facts: Mapping[str, object] | None = None,
        on_rows: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Predict one case from its file (or files, one a channel or a date) into ``target``, on the very same grid.

        Args:
            source: The file or files; where the training had image groups, by their names, or else, with a file for
                each channel, by those of the channels. Some may be missing after ``data.absent=allow``.
            target: Label file to write; ``.dcm`` is a DICOM segmentation object, for folders of DICOM slices.
            facts: Facts of the case by name, for a network that takes them; those that are left out are missing.
            on_rows: Called with the rows that are done and all rows, each time some are done.

        Raises:
            InputError: The files are not what the training had.
        """
        groups: tuple[str, ...] = ()
        absent: tuple[int, ...] = ()
        if isinstance(source, Mapping):
            names = [channel.name for channel in self.spec.channels]
            names, absent = check_names(list(source), self.layout.reading, names, str(target))
            groups = tuple(names) if self.layout.reading.image_groups else ()
            source = [source[name] for name in names]
        several = [source] if isinstance(source, (str, Path)) else list(source)
        own = None if facts is None else CaseFacts.of(facts, self.spec.facts)
        paths = [Path(path) for path in several]
        return self.case(paths, Path(target), groups=groups, absent=absent, facts=own, on_rows=on_rows)

    def case(
        self,
        files: Sequence[Path],
        target: Path,
        *,
        groups: Sequence[str] = (),
        facts: CaseFacts | None = None,
        absent: Sequence[int] = (),
        on_rows: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Predict one case, as ``file`` does, from files whose image groups are known.

        Where the network classifies cases too, the probability of each class is written to ``case_labels/CASE.json``.

        Args:
            files: The files.
            target: Label file to write.
            groups: Image group of each, of a time series of each of a date; empty: those of the training, in order.
            facts: Of the case, for a network that takes them.
            absent: Numbers of the files that the case lacks, see ``Case.absent``.
            on_rows: As for ``file``.
        """
        open_case = partial(
            open_image,
            files,
            spec=self.spec,
            reading=self.layout.reading,
            mosaic=self._mosaic,
            series=self._series,
            groups=groups,
            facts=facts,
            absent=absent,
        )
        if all(streams(target, member.prepare) for member in self.arrays.members):
            case_prob = self._stream(open_case, files, target, on_rows)
        else:
            case_prob = self._write_whole(open_case(), files, target, on_rows)
        if case_prob is not None and self.spec.case_label is not None:
            write_case_label(target, case_prob, self.spec.case_label)
        return target

    def _stream(
        self,
        open_case: Callable[[], CaseReader],
        files: Sequence[Path],
        target: Path,
        on_rows: Callable[[int, int], None] | None,
    ) -> Float[np.ndarray, " m"] | None:
        opened = [open_case() for _ in self.arrays.members]
        total = opened[0].grid.shape[0]
        case_prob = stream_scene(
            self.arrays,
            opened,
            target,
            files[0],
            key=self.digest,
            bands=self.bands,
            on_rows=None if on_rows is None else lambda done: on_rows(done, total),
        )
        if self.arrays.postprocess is not None:
            postprocess_scene(self.arrays, target)
        return case_prob

    def _write_whole(
        self, opened: CaseReader, files: Sequence[Path], target: Path, on_rows: Callable[[int, int], None] | None
    ) -> Float[np.ndarray, " m"] | None:
        """Predict a case in one piece; its raw image is in memory until it is prepared only."""
        write = self._writer(files, target)
        sample = replace(opened.read(), label=None)
        valid, grid = None if sample.valid.all() else sample.valid, sample.grid
        logits = self.arrays.logits(sample, in_place=True)
        del sample
        total = logits.box_shape[0]
        with collected(self.bands, logits) as collectors:

            def keep(slab: Slab) -> None:
                for collector in collectors:
                    collector.add(slab)
                if on_rows is not None:
                    on_rows(slab.stop, total)

            index = logits.index(keep)
            valid = np.ones(grid.shape, dtype=bool) if valid is None else valid  # made anew, for less memory till now
            index = self.arrays.finished(index, valid, grid)
            for collector in collectors:
                collector.write(target, valid, grid)
        write(self.labels.to_saved(index), valid, grid)
        return logits.case_prob

    def _writer(self, files: Sequence[Path], target: Path) -> Callable[..., None]:
        """Writes label values, validity and grid; what an object has to refer to is checked before the prediction."""
        if formats.suffix(target) != formats.DICOM:
            return lambda saved, valid, grid: write_like(target, saved, valid, grid, files[0], labels=self.labels)
        from medseg.formats import dicom_seg

        images = dicom_seg.references(files, series=self._series)
        algorithm = dicom_seg.Algorithm(self.digest, __version__)
        target.parent.mkdir(parents=True, exist_ok=True)
        return lambda saved, valid, grid: dicom_seg.write(target, saved, images, self.labels, algorithm)


def open_image(
    files: Sequence[Path],
    *,
    spec: DataSpec,
    reading: ReadOptions,
    mosaic: bool = False,
    series: str | None = None,
    groups: Sequence[str] = (),
    facts: CaseFacts | None = None,
    absent: Sequence[int] = (),
) -> CaseReader:
    """The files of one new image, with the settings of the training; with ``mosaic``, tiles of one scene.

    Of a time series, the files of each date in any order; or with ``reading.dates.in_file`` files of all dates. With
    image groups, a file of each of ``groups``, or else of each group of the training, in its order. Without groups
    ``absent`` are the numbers of the files that it lacks, see ``Case.absent``.

    Raises:
        InputError: Another number of files than of image groups, or no dates where the network takes time series.
    """
    groups = tuple(groups) or reading.image_groups
    _check_number(files, groups, dated=spec.dates > 0)
    sources: list[Source] | None = [Mosaic([formats.open(path) for path in files])] if mosaic else None
    if formats.is_dicom(files[0]):
        from medseg.formats import dicom

        sources = [dicom.open_files(files)]
    elif series is not None:
        sources = [formats.open(path, series=series) for path in files]
    settings: Any = {"image_groups": groups, "facts": facts, "absent": tuple(absent)}
    case = Case(formats.stem(files[0]), tuple(files), None, "", **settings)
    if spec.dates:
        if reading.dates is None:
            raise InputError(
                f"{files[0]}: the network takes time series of up to {spec.dates} dates; say how they lie in files, as "
                "in data.dates={in_file: 12}, or data.dates={} for case_20200131.tif"
            )
        case = dated(case, reading.dates)
        if case.per_date and reading.absent != "allow":
            raise InputError(
                f"{files[0]}: got dates with files of different image groups, expected one of each on every date: "
                f"{', '.join(reading.image_groups)}; the network has learned to do without none (data.absent=error)"
            )
    return CaseReader(case, spec, reading, sources=sources)


def _check_number(files: Sequence[Path], groups: Sequence[str], *, dated: bool) -> None:
    """Raise on another number of files than of image groups, on each date if there are dates."""
    if groups and (len(files) % len(groups) or (len(files) != len(groups) and not dated)):
        raise InputError(
            f"{files[0]}: got {len(files)} file(s), expected one for each image group: {', '.join(groups)}"
        )
