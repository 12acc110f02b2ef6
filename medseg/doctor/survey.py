"""Survey: the facts of every case of a dataset, each file read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Shaped

from medseg import formats
from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.data.layout.image_groups import names_within
from medseg.data.preprocessing.windows import tiles
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.doctor.bands import bands_wanted, named_bands
from medseg.doctor.contents import ChannelFacts, ChannelTally, LabelFacts, LabelTally, countable, parts_of
from medseg.doctor.headers import Header, headers_of
from medseg.doctor.samples import SampleSource
from medseg.doctor.thumbnail import Thumbnail, ThumbnailTally
from medseg.errors import InputError
from medseg.formats.colours import ColourMask
from medseg.formats.embeddings import embedded
from medseg.formats.source import Source
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.labels import IGNORE, LabelTable
from medseg.sample import DataSpec

_DAMAGE = (InputError, OSError, ValueError, EOFError)


@dataclass(frozen=True)
class CaseFacts:
    """Headers and contents of one case.

    Attributes:
        case: The case.
        test: Whether it belongs to the test set.
        headers: Headers of its files, see ``headers_of``.
        refusal: The error of a training that opens the case; empty if there is none.
        damage: What went wrong as cells were read, by file.
        channels: Channels of its image; empty in the fast part, or where the image can't be read.
        label: Contents of its label; None if there is none, or it was not read.
        inside: Fraction of its validity mask that is not 0; None if it has none.
        thumbnail: To draw it; None if its image was not read.
    """

    case: Case
    test: bool
    headers: tuple[Header, ...]
    refusal: str = ""
    damage: tuple[str, ...] = ()
    channels: tuple[ChannelFacts, ...] = ()
    label: LabelFacts | None = None
    inside: float | None = None
    thumbnail: Thumbnail | None = None

    @property
    def id(self) -> str:
        """Case identifier."""
        return self.case.id

    @property
    def grid(self) -> Grid | None:
        """Geometry of its first image file; None if that can't be opened."""
        return self.headers[0].grid if self.headers else None

    def header(self, role: str) -> Header | None:
        """The first header of a role; None if there is none."""
        return next((h for h in self.headers if h.role == role), None)


@dataclass(frozen=True)
class Survey:
    """All facts of a dataset.

    Attributes:
        spec: The declarations of the dataset.
        reading: How files are read.
        normalisation: Scheme of each channel.
        cases: Facts of every case, also of the test set.
        labels_in: The place of the label table: ``data.labels``, or a file.
        wishes: Settings that findings depend on: ``spacing`` (as ``plan.spacing``) and ``ram_gb``, the memory of the
            machine where it is not this one.
    """

    spec: DataSpec
    reading: ReadOptions
    normalisation: tuple[str, ...]
    cases: tuple[CaseFacts, ...]
    labels_in: str = "data.labels"
    wishes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def readable(self) -> list[CaseFacts]:
        """Cases whose first image has a grid."""
        return [facts for facts in self.cases if facts.grid is not None]


def case_headers(dataset: Dataset, case: Case, *, test: bool) -> CaseFacts:
    """Facts of a case from its headers alone."""
    reading = dataset.reading
    groups = dict.fromkeys(case.image_groups)
    named = [name for group in groups for name in names_within(reading.bands, group, reading.image_groups)]
    n_bands = len(named or reading.bands) or len(bands_wanted(dataset.spec))
    refusal, opened = "", None
    try:
        opened = dataset.open(case)
    except _DAMAGE as error:
        refusal = " ".join(str(error).split())
    if opened is not None and not case.images[0].is_dir() and formats.find_format(case.images[0]) is None:
        return CaseFacts(case, test, _of_sample(opened))
    headers = headers_of(case, n_bands * (len(case.days) if case.in_file else 1))
    return CaseFacts(case, test, headers, refusal)


def _of_sample(opened: CaseReader) -> tuple[Header, ...]:
    """Headers of a case that only its dataset can read."""
    case = opened.case
    image = Header(case.images[0], "image", SampleSource(opened, "image"))
    return (image,) if case.label is None else (image, Header(case.label, "label", SampleSource(opened, "label")))


def with_contents(facts: CaseFacts, spec: DataSpec, reading: ReadOptions, *, drawn: bool = True) -> CaseFacts:
    """The facts with those of the cells; every file is read once, what can't be read is noted.

    Args:
        facts: Facts of the headers.
        spec: The declarations of the dataset.
        reading: How files are read.
        drawn: Keep a thumbnail.
    """
    damage: list[str] = []
    thumbnail = None if facts.grid is None or not drawn else ThumbnailTally(facts.grid)
    channels: tuple[ChannelFacts, ...] = ()
    if facts.grid is not None:
        try:
            channels = _channels(facts, spec, reading, thumbnail)
        except _DAMAGE as error:
            damage.append(" ".join(str(error).split()))
    label, inside = None, None
    try:
        source = _label_source(facts, spec, reading)
        label = None if source is None else _label(source, spec.labels, thumbnail)
    except _DAMAGE as error:
        damage.append(" ".join(str(error).split()))
    try:
        inside = _inside(facts)
    except _DAMAGE as error:
        damage.append(" ".join(str(error).split()))
    small = None if thumbnail is None or not channels else thumbnail.result()
    return replace(facts, damage=tuple(damage), channels=channels, label=label, inside=inside, thumbnail=small)


def boxes_of(grid: Grid) -> list[Box]:
    """Windows in which a file is read: a volume at once, a scene in windows of about a million cells."""
    return [Box.whole(grid.shape)] if grid.ndim == 3 else tiles(grid.shape, (256,) * grid.ndim)


def _channels(
    facts: CaseFacts, spec: DataSpec, reading: ReadOptions, thumbnail: ThumbnailTally | None
) -> tuple[ChannelFacts, ...]:
    sources = [h.source for h in facts.headers if h.role == "image" and h.source is not None]
    groups = facts.case.groups_of_images or [""] * len(sources)
    sources = [embedded(source, reading.embedding_of(group)) for source, group in zip(sources, groups)]
    named = named_bands(sources, facts.case, spec, reading)
    tallies = {key: ChannelTally(name, int(np.prod(sources[key[0]].grid.shape))) for key, name in named.items()}
    for number, source in enumerate(sources):
        own = {channel: tally for (index, channel), tally in tallies.items() if index == number}
        if own:
            _tally(source, own, reading, thumbnail)
    return tuple(tally.facts() for tally in tallies.values())


def _tally(
    source: Source, tallies: Mapping[int, ChannelTally], reading: ReadOptions, thumbnail: ThumbnailTally | None
) -> None:
    """Count the cells of some channels of a file, and draw them if it is on the grid of the thumbnail."""
    drawn = thumbnail if thumbnail is not None and source.grid.shape == thumbnail.grid.shape else None
    names = [tally.name for tally in tallies.values()]
    for box in boxes_of(source.grid):
        cells, valid = _read(source, box, list(tallies), reading)
        for tally, values in zip(tallies.values(), cells, strict=True):
            tally.add(values, valid)
        if drawn is not None:
            drawn.add_image(box, cells, names, valid)


def _read(
    source: Source, box: Box, channels: Sequence[int], reading: ReadOptions
) -> tuple[Shaped[np.ndarray, "c *s"], Bool[np.ndarray, " *s"] | None]:
    """Cells of a window, and where they are data; None if that is not known."""
    cells, valid = source.read_known(box, channels)
    if reading.nodata is None:
        return cells, valid
    tagged = np.asarray((cells != reading.nodata).any(axis=0))
    return cells, tagged if valid is None else valid & tagged


def _label_source(facts: CaseFacts, spec: DataSpec, reading: ReadOptions) -> Source | None:
    """The label's own file, not brought to the image's grid; shapes are drawn on it."""
    header = facts.header("label")
    if header is None or header.error:
        return None
    source = header.source
    if source is None and facts.grid is not None and formats.suffix(header.path) in formats.VECTORS:
        from medseg.formats.vector import rasterised  # here, as it imports pandas, which few files need

        values = {c.name: c.values[0] for c in spec.labels.classes}
        return rasterised(
            header.path, facts.grid, attribute=reading.attribute, layer=reading.layer, values=values,
            all_touched=reading.all_touched,
        )  # fmt: skip
    if source is not None and reading.mask_colours:
        return ColourMask(source, reading.mask_colours, spec.labels)
    return source


def declared_values(table: LabelTable) -> dict[int, int]:
    """Training index of each raw value that the table declares."""
    indices = {v: i for i, c in enumerate(table.classes) for v in c.values}
    return indices | dict.fromkeys(table.ignore_values, IGNORE)


def _label(source: Source, table: LabelTable, thumbnail: ThumbnailTally | None) -> LabelFacts:
    declared = declared_values(table)
    tally = LabelTally(int(np.prod(source.grid.shape)), source.dtype.kind == "f")
    whole = np.full(source.grid.shape, IGNORE, dtype=np.int16) if countable(source.grid.shape) else None
    for box in boxes_of(source.grid):
        cells, valid = source.read_known(box, (0,))
        raw = cells[0]
        inside = np.ones(raw.shape, dtype=bool) if valid is None else valid | np.isin(raw, list(declared))
        tally.add(raw, inside)
        index = np.where(inside, _indexed(raw, declared), np.int16(IGNORE))
        if whole is not None:
            whole[box.slices] = index
        if thumbnail is not None and thumbnail.grid.shape == source.grid.shape:
            thumbnail.add_label(box, index)
    return tally.facts(None if whole is None else parts_of(whole, background=table.background))


def _indexed(raw: Shaped[np.ndarray, "..."], declared: Mapping[int, int]) -> npt.NDArray[np.int16]:
    """Training indices, ``IGNORE`` for values that are not declared; floats are rounded."""
    if raw.dtype.kind == "f":
        raw = np.rint(np.nan_to_num(raw, nan=-32768.0, posinf=32767.0, neginf=-32768.0)).astype(np.int64)
    index_map = np.full(raw.shape, IGNORE, dtype=np.int16)
    for value, index in declared.items():
        index_map[raw == value] = index
    return index_map


def _inside(facts: CaseFacts) -> float | None:
    header = facts.header("valid")
    if header is None or header.source is None:
        return None
    cells = sum(int(np.count_nonzero(header.source.read(box, (0,)))) for box in boxes_of(header.source.grid))
    return cells / int(np.prod(header.source.grid.shape))


def root_of(dataset: Dataset) -> Path | None:
    """Folder of a dataset; None if it has none."""
    root = getattr(dataset, "root", None)
    return None if root is None else Path(root)
