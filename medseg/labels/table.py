"""LabelTable: raw file value -> class -> training index -> saved value -> colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.errors import BadInput
from medseg.labels.classes import IGNORE, PALETTE, LabelClass, Region
from medseg.labels.declared import grouped

_TABLE = 1 << 16  # range of values up to which a look-up table is made
_UNKNOWN = -2


@dataclass(frozen=True)
class LabelTable:
    """The one declared meaning of label values; printed at start and kept in every checkpoint.

    Attributes:
        classes: Position is the training index.
        ignore_values: Raw values that become ``IGNORE``.
        regions: Outputs of a region-based network in painting order; empty for softmax classes.
        pairs: Training indices of (left, right) classes that a mirror across the body exchanges.
        background: Whether index 0 is what no class covers, and is not scored. Land cover has none:
            there every class counts.
    """

    classes: tuple[LabelClass, ...]
    ignore_values: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    background: bool = True

    def __post_init__(self) -> None:
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise BadInput(f"label table: class names must be unique, came {names}")
        values = [v for c in self.classes for v in c.values] + list(self.ignore_values)
        if len(set(values)) != len(values):
            raise BadInput(f"label table: a raw value may belong to one class only, came {sorted(values)}")
        if len(self.classes) < 2:
            raise BadInput(f"label table: needs at least two classes, of which one may be the background, came {names}")
        if self.regions and not self.background:
            raise BadInput("label table: regions need a background, which cells outside of all of them get")

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by training index."""
        return tuple(c.name for c in self.classes)

    @property
    def titles(self) -> tuple[str, ...]:
        """Class names for people, by training index: a raw value without a name is called after its smallest region.

        Example:
            >>> labels = {"background": 0, "tumour": [1, 2], "core": 2}
            >>> LabelTable.declare(labels, regions_class_order=[1, 2]).titles
            ('background', 'tumour (value 1)', 'core')
        """
        return tuple(self._title(index, one) for index, one in enumerate(self.classes))

    def _title(self, index: int, one: LabelClass) -> str:
        around = sorted((region for region in self.regions if index in region.members), key=lambda r: len(r.members))
        if not around or one.name != f"value_{one.values[0]}":
            return one.name
        return f"{around[0].name} (value {one.values[0]})"

    @property
    def n_classes(self) -> int:
        """Number of classes with the background, k."""
        return len(self.classes)

    @property
    def n_outputs(self) -> int:
        """Channels of the network's logits: one per region if there are regions, else per class."""
        return len(self.regions) or len(self.classes)

    @property
    def targets(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """What is scored: (name, training indices) of each region, or of each class but the background."""
        if self.regions:
            return tuple((r.name, r.members) for r in self.regions)
        return tuple((c.name, (i,)) for i, c in enumerate(self.classes) if i > 0 or not self.background)

    @property
    def saved_dtype(self) -> np.dtype[Any]:
        """Smallest unsigned (or, with negative values, signed) type that holds the saved values."""
        low, high = min(c.saved for c in self.classes), max(c.saved for c in self.classes)
        kinds = (np.uint8, np.uint16, np.uint32) if low >= 0 else (np.int8, np.int16, np.int32)
        return next(np.dtype(k) for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max)

    def mirror(self) -> tuple[int, ...]:
        """Training index that each training index becomes when left and right are exchanged."""
        swap = list(range(self.n_classes))
        for left, right in self.pairs:
            swap[left], swap[right] = right, left
        return tuple(swap)

    def mirror_outputs(self) -> tuple[int, ...]:
        """Permutation of the network's outputs under a mirror across the body.

        Raises:
            BadInput: A region's mirror image is not itself a region.
        """
        swap = self.mirror()
        if not self.regions:
            return swap
        members = [frozenset(r.members) for r in self.regions]
        order = []
        for region in self.regions:
            image = frozenset(swap[m] for m in region.members)
            if image not in members:
                raise BadInput(
                    f"region {region.name!r} has no mirror image among the regions; declare it or drop left/right pairs"
                )
            order.append(members.index(image))
        return tuple(order)

    def region_matrix(self) -> npt.NDArray[np.bool_]:
        """``[n_regions, n_classes]``: true where a class belongs to a region."""
        matrix = np.zeros((len(self.regions), self.n_classes), dtype=bool)
        for row, region in enumerate(self.regions):
            matrix[row, list(region.members)] = True
        return matrix

    def to_index(self, raw: npt.NDArray[Any], *, where: str = "label") -> npt.NDArray[np.int16]:
        """Training index of each cell, ``IGNORE`` for ignored raw values.

        Args:
            raw: Any integer array, or floats with integral values.
            where: Named in the error, usually the file.

        Raises:
            BadInput: A value is not integral or stands in no class; names values and cell counts.
        """
        known = {v: i for i, c in enumerate(self.classes) for v in c.values} | dict.fromkeys(self.ignore_values, IGNORE)
        if raw.dtype.kind in "iu" and raw.size and int(raw.max()) - int(raw.min()) < _TABLE:
            low = int(raw.min())  # a look-up is twenty times as fast as sorting the values
            table = np.full(int(raw.max()) - low + 1, _UNKNOWN, dtype=np.int16)
            for value, index in known.items():
                if 0 <= value - low < len(table):
                    table[value - low] = index
            found = table[raw.astype(np.intp) - low] if low else table[raw]
            if not (found == _UNKNOWN).any():
                return found
        values, inverse = np.unique(raw, return_inverse=True)
        unknown = [v for v in values.tolist() if v not in known]
        if unknown:
            counts = {v: int((raw == v).sum() if v == v else np.isnan(raw).sum()) for v in unknown[:5]}
            raise BadInput(
                f"{where}: label values {counts} (value: cells) are not in the label table "
                f"{ {c.name: list(c.values) for c in self.classes} }; add them to data.labels, or to its ignore list"
            )
        of_value = np.array([known[v] for v in values.tolist()], dtype=np.int16)
        return of_value[inverse].reshape(raw.shape)

    def to_saved(self, index: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values to write for an array of training indices.

        Raises:
            ValueError: An index is not in ``[0, k)``; a prediction holds no ``IGNORE``.
        """
        if index.size and not 0 <= index.min() <= index.max() < self.n_classes:
            raise ValueError(f"training indices in [0, {self.n_classes}) expected, came {index.min()} to {index.max()}")
        return np.array([c.saved for c in self.classes], dtype=self.saved_dtype)[index]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` is its inverse."""
        return {
            "classes": [
                {"name": c.name, "values": list(c.values), "saved": c.saved, "colour": list(c.colour)}
                for c in self.classes
            ],
            "ignore_values": list(self.ignore_values),
            "regions": [{"name": r.name, "members": list(r.members), "paint": r.paint} for r in self.regions],
            "pairs": [list(p) for p in self.pairs],
            "background": self.background,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> LabelTable:
        """Rebuild what ``to_dict`` gave."""
        return cls(
            classes=tuple(
                LabelClass(c["name"], tuple(c["values"]), c["saved"], tuple(c["colour"])) for c in stored["classes"]
            ),
            ignore_values=tuple(stored["ignore_values"]),
            regions=tuple(Region(r["name"], tuple(r["members"]), r["paint"]) for r in stored["regions"]),
            pairs=tuple((p[0], p[1]) for p in stored["pairs"]),
            background=stored.get("background", True),  # older checkpoints know tables with one only
        )

    @classmethod
    def declare(
        cls,
        labels: Mapping[str, int | Sequence[int]],
        *,
        regions_class_order: Sequence[int] | None = None,
        merge: bool = False,
        pairs: Sequence[Sequence[str]] = (),
        colours: Mapping[str, Sequence[int]] | None = None,
        background: str | None = "background",
    ) -> LabelTable:
        """Build a table from ``name: value`` or ``name: [values]``, as in nnU-Net's ``dataset.json``.

        The background becomes index 0; ``ignore`` names raw values to ignore. A list of values is a region
        (possibly overlapping others) unless ``merge``.

        Args:
            labels: Name to raw value or values.
            regions_class_order: Raw value painted by each region, in order; needed with regions.
            merge: Take lists as several raw values of one softmax class, not as regions.
            pairs: (left, right) class names.
            colours: RGB by class name; the rest come from a palette.
            background: Name of the class that is not scored; the class of value 0 where none has this
                name. None if every class counts; they are then in the order of their raw values.

        Raises:
            BadInput: No such background, unknown names in ``pairs``, or an incomplete region order.

        Example:
            >>> LabelTable.declare({"background": 0, "liver": 1, "ignore": 9}).ignore_values
            (9,)
        """
        groups, regions, ignore = grouped(labels, regions_class_order, merge=merge, background=background)
        names = list(groups)
        unknown = [n for pair in pairs for n in pair if n not in names]
        if unknown:
            raise BadInput(f"label table: left/right pairs name {unknown}, classes are {names}")
        chosen = {n: tuple(c) for n, c in (colours or {}).items()}
        return cls(
            classes=tuple(
                LabelClass(n, v, v[0], chosen.get(n, PALETTE[i % len(PALETTE)]))  # type: ignore[arg-type]
                for i, (n, v) in enumerate(groups.items(), start=int(background is None))  # black is for a background
            ),
            ignore_values=ignore,
            regions=regions,
            pairs=tuple((names.index(a), names.index(b)) for a, b in pairs),
            background=background is not None,
        )
