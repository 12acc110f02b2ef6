"""ReadOptions: how the files of a case are read and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from medseg.data.case import Case
from medseg.data.layout.dates import DateLayout
from medseg.data.layout.image_groups import group_names
from medseg.data.reading.masks import DateMask
from medseg.errors import InputError
from medseg.formats.colours import Colours, colours_by_name
from medseg.formats.embeddings import KINDS, SCALES, TESSERA, scales_path
from medseg.geometry.tolerance import GRID_TOLERANCE, checked_tolerance

Nonfinite = Literal["error", "mask"]
"""What to do with NaN and infinite cells: raise, or mark them as not valid."""


def _embeddings_of(value: str | Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Kind of embeddings by image group, those of ``data.embeddings``; without a group for all images."""
    kinds = {"": value} if isinstance(value, str) else dict(value)
    for kind in kinds.values():
        if kind not in KINDS:
            raise InputError(f"data.embeddings={value}: choose {' or '.join(KINDS)}")
    return tuple(sorted(kinds.items()))


_PARSE: dict[str, Callable[[Any], Any]] = {
    "bands": tuple,
    "mask_colours": colours_by_name,
    "dates": DateLayout.from_config,
    "embeddings": _embeddings_of,
    "date_masks": DateMask.from_config,
}
"""How the value of a key of the configuration becomes that of an option."""
_LATER = {"dates": None, "image_groups": (), "absent": "error", "embeddings": (), "date_masks": None}
"""Usual values of options that were added after keys of caches were made."""
_CHOICES = {
    "nonfinite": ("error", "mask"), "other_grid": ("error", "align"), "other_crs": ("error", "warp"),
    "absent": ("error", "allow"),
}  # fmt: skip


@dataclass(frozen=True)
class ReadOptions:
    """How the files of a case are read and checked; stored in checkpoints, as prediction needs it too.

    Attributes:
        nonfinite: ``error`` raises on NaN and infinite cells of the image (in a volume they are a defect).
            ``mask`` sets these values to 0 and marks their cells as not valid (in a scene they are nodata).
            In a label they always raise.
        grid_tolerance: Displacement, in cells, up to which the grids of two files count as one: the
            largest between corresponding corners. Headers written by different software differ by
            rounding. At most 1.
        bands: Names of the bands of the image files, in order, which override the names in the files; empty to use
            those.
        other_grid: What to do with a file on another grid of the same CRS: ``error``, or ``align`` it
            on the grid of the case's first image (nearest cell for labels, linear for images).
        other_crs: What to do with a file in another CRS: ``error`` or ``warp``.
        attribute: Field of vector labels that holds the class (value or name); None burns 1.
        layer: Layer of vector labels; None takes the only one.
        all_touched: Whether vector labels burn every cell that a shape touches, not only those whose
            centre lies inside.
        nodata: Value of image cells without data where files do not tag it; a cell has no data if all
            bands that are read have this value.
        mask_colours: RGB of each class name, or several, for labels that show classes as colours.
        dates: Layout of the dates of time series in files; None where there is no time axis.
        image_groups: Names of the image groups, of which a case has a file each, in their order; the first has the
            grid of the case. Empty where folders of images have no names.
        absent: What to do with a case that lacks some channels, as a file, a band or an image group is missing:
            ``error``, or ``allow``, by which they are 0 in the network's input.
        embeddings: Image groups whose files hold embeddings, with their kind; of images without groups that of "".
        date_masks: Band that says where an image, or a date of a time series, has no data; None for none.
    """

    nonfinite: Nonfinite = "error"
    grid_tolerance: float = GRID_TOLERANCE
    bands: tuple[str, ...] = ()
    other_grid: Literal["error", "align"] = "error"
    other_crs: Literal["error", "warp"] = "error"
    attribute: str | None = None
    layer: str | None = None
    all_touched: bool = False
    nodata: float | None = None
    mask_colours: Colours = ()
    dates: DateLayout | None = None
    image_groups: tuple[str, ...] = ()
    absent: Literal["error", "allow"] = "error"
    embeddings: tuple[tuple[str, str], ...] = ()
    date_masks: DateMask | None = None

    def __post_init__(self) -> None:
        checked_tolerance(self.grid_tolerance, "data.grid_tolerance")

    @classmethod
    def from_config(cls, **settings: Any) -> ReadOptions:
        """Options from the keys of ``conf/data`` that have the same names; others are ignored.

        The image groups are those of ``images``, the one of ``reference`` first.

        Raises:
            InputError: An unknown choice.
        """
        options = {f.name: settings[f.name] for f in fields(cls) if settings.get(f.name) is not None}
        for name, parse in _PARSE.items():
            if name in options:
                options[name] = parse(options[name])
        for name, choices in _CHOICES.items():
            if options.get(name, choices[0]) not in choices:
                raise InputError(f"data.{name}={options[name]}: choose {' or '.join(choices)}")
        if isinstance(settings.get("images"), Mapping):
            options["image_groups"] = group_names(settings["images"], settings.get("reference"))
        return cls(**options)

    @property
    def no_images(self) -> str:
        """End of the stems of files in folders of images that are none."""
        return SCALES if TESSERA in dict(self.embeddings).values() else ""

    def embedding_of(self, group: str = "") -> str:
        """Kind of embeddings that the files of an image group hold; empty for other images."""
        kinds = dict(self.embeddings)
        return kinds.get(group, kinds.get("", ""))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, part of the cache key; omits later options when unset, so that earlier keys stay valid."""
        stored = asdict(self)
        return {name: value for name, value in stored.items() if name not in _LATER or value != _LATER[name]}


def check_groups(reading: ReadOptions) -> None:
    """Raise on embeddings of a group that is none."""
    unknown = [group for group, _ in reading.embeddings if group and group not in reading.image_groups]
    if unknown:
        groups = list(reading.image_groups)
        raise InputError(f"data.embeddings names {unknown}, the image groups of data.images are {groups}")


def with_scales(case: Case, reading: ReadOptions) -> Case:
    """The case with the files of scales that its embeddings have."""
    kinds = [reading.embedding_of(group) for group in case.groups_of_images or [""] * len(case.images)]
    files = [scales_path(path) for path, kind in zip(case.images, kinds) if kind == TESSERA]
    return replace(case, further=tuple(path for path in files if path.is_file()))
