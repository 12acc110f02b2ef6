"""LabelTable: raw file value -> class -> training index -> saved value -> colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.labels.classes import PALETTE, LabelClass, Region
from medseg.labels.codes import ClassCodes, codes_of, stored_codes
from medseg.labels.declared import declared_pairs, detected, grouped
from medseg.labels.laterality import laterality
from medseg.labels.lookup import look_up
from medseg.labels.stored import RAW, SAVED, class_of, pair_of, region_of, wholes
from medseg.runtime.values import listed, mapped, shown, text, truth

_MOST_CLASSES = np.iinfo(np.int16).max + 1  # training indices are int16


@dataclass(frozen=True)
class LabelTable:
    """The declared meaning of label values; printed at start and stored in every checkpoint.

    Attributes:
        classes: Classes by training index.
        ignore_values: Raw values that become ``IGNORE``.
        regions: Outputs of a region-based network in painting order; empty for softmax classes.
        pairs: Training indices of (left, right) classes that a mirror across the body exchanges.
        one_sided: Names of classes and regions of one side whose mirror image is no class: a mirror across the
            body would show structures that have no name.
        background: Whether index 0 is the background, which is not scored. Land cover has none:
            every class counts.
        codes: Codes of classes and regions in a terminology, by name; they change no prediction.
    """

    classes: tuple[LabelClass, ...]
    ignore_values: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    background: bool = True
    one_sided: tuple[str, ...] = ()
    codes: tuple[tuple[str, ClassCodes], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise InputError(f"label table: class names must be unique, got {names}")
        values = [v for c in self.classes for v in c.values] + list(self.ignore_values)
        if len(set(values)) != len(values):
            raise InputError(f"label table: a raw value may belong to one class only, got {sorted(values)}")
        if len(self.classes) < 2:
            raise InputError(
                f"label table: got {names}, expected at least two classes, of which one may be the background; medseg "
                "segments classes, and does not predict continuous values (regression)"
            )
        self._check_limits()
        if self.regions and not self.background:
            raise InputError("label table: regions need a background, which cells outside of all of them get")

    def _check_limits(self) -> None:
        """Raise on values that no label file can hold, and on more classes than there are training indices."""
        if len(self.classes) > _MOST_CLASSES:
            raise InputError(
                f"label table: got {len(self.classes):,} classes, expected at most {_MOST_CLASSES:,}; merge some"
            )
        least, most = SAVED
        if any(c.saved < 0 for c in self.classes):
            most = (1 << 31) - 1
        for c in self.classes:
            if not least <= c.saved <= most:
                raise InputError(
                    f"label table: class {shown(c.name, repr)} has the value {shown(c.saved)}, expected whole numbers "
                    f"from {least} to {most}, which label files can hold; write smaller values"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by training index."""
        return tuple(c.name for c in self.classes)

    @property
    def titles(self) -> tuple[str, ...]:
        """Display names of classes, by training index: a raw value without a name gets that of its smallest region.

        Example:
            >>> labels = {"background": 0, "tumour": [1, 2], "core": 2}
            >>> LabelTable.declare(labels, regions_class_order=[1, 2]).titles
            ('background', 'tumour (value 1)', 'core')
        """
        return tuple(self._title(index, one) for index, one in enumerate(self.classes))

    def _title(self, index: int, one: LabelClass) -> str:
        """Display name of a class."""
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
        """The scored structures: (name, training indices) of each region, or of each class but the background."""
        if self.regions:
            return tuple((r.name, r.members) for r in self.regions)
        return tuple((c.name, (i,)) for i, c in enumerate(self.classes) if i > 0 or not self.background)

    @property
    def saved_dtype(self) -> np.dtype:
        """Smallest unsigned (or, with negative values, signed) type that holds the saved values."""
        low, high = min(c.saved for c in self.classes), max(c.saved for c in self.classes)
        kinds = (np.uint8, np.uint16, np.uint32) if low >= 0 else (np.int8, np.int16, np.int32)
        return next(np.dtype(k) for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max)

    @property
    def paired_names(self) -> tuple[tuple[str, str], ...]:
        """(left, right) names of the pairs."""
        return tuple((self.names[left], self.names[right]) for left, right in self.pairs)

    @property
    def undeclared_sides(self) -> tuple[str, ...]:
        """Names with left or right, of classes and regions that a mirror does not exchange."""
        swap = self.mirror()
        fixed = [c.name for i, c in enumerate(self.classes) if swap[i] == i]
        fixed += [r.name for r in self.regions if {swap[m] for m in r.members} == set(r.members)]
        lateral = laterality(list(dict.fromkeys(fixed))).names  # a region of one class has its name
        return tuple(name for name in lateral if name not in self.one_sided)

    def mirror(self) -> tuple[int, ...]:
        """Training index that each training index becomes when left and right are exchanged."""
        swap = list(range(self.n_classes))
        for left, right in self.pairs:
            swap[left], swap[right] = right, left
        return tuple(swap)

    def mirror_outputs(self) -> tuple[int, ...]:
        """Permutation of the network's outputs under a mirror across the body.

        Raises:
            InputError: A region's mirror image is not itself a region.
        """
        swap = self.mirror()
        if not self.regions:
            return swap
        members = [frozenset(r.members) for r in self.regions]
        order = []
        for region in self.regions:
            image = frozenset(swap[m] for m in region.members)
            if image not in members:
                raise InputError(
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

    def to_index(self, raw: Shaped[np.ndarray, "..."], *, where: str = "label") -> npt.NDArray[np.int16]:
        """Training index of each cell, ``IGNORE`` for ignored raw values.

        Args:
            raw: Any integer array, or floats within 0.001 of integers, which are rounded.
            where: Name of the file, for messages.

        Raises:
            InputError: A value is not integral or belongs to no class; names values and cell counts.
        """
        return look_up(raw, self.classes, self.ignore_values, where=where)

    def to_saved(self, index: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Values to write for an array of training indices.

        Raises:
            ValueError: An index is not in ``[0, k)``; a prediction holds no ``IGNORE``.
        """
        if index.size and not 0 <= index.min() <= index.max() < self.n_classes:
            raise ValueError(f"training indices in [0, {self.n_classes}) expected, got {index.min()} to {index.max()}")
        return np.array([c.saved for c in self.classes], dtype=self.saved_dtype)[index]

    def to_dict(self) -> dict[str, object]:
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
        } | self._optional()

    def _optional(self) -> dict[str, object]:
        """Parts of the stored form that only tables with them have: those without keep their keys in caches."""
        parts: dict[str, object] = {"one_sided": list(self.one_sided)} if self.one_sided else {}
        return parts | ({"codes": stored_codes(self.codes)} if self.codes else {})

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> LabelTable:
        """The table of a stored form; the inverse of ``to_dict``.

        Raises:
            InputError: An invalid form; names the key.
        """
        fields = mapped(stored, "labels", ["classes", "ignore_values", "regions", "pairs"])
        classes = tuple(class_of(c) for c in listed(fields["classes"], "labels.classes"))
        last = len(classes) - 1
        table = cls(
            classes=classes,
            ignore_values=wholes(fields["ignore_values"], "labels.ignore_values", *RAW),
            regions=tuple(region_of(r, last) for r in listed(fields["regions"], "labels.regions")),
            pairs=tuple(pair_of(p, last) for p in listed(fields["pairs"], "labels.pairs")),
            background=truth(fields.get("background", True), "labels.background"),  # older tables all have one
            one_sided=tuple(
                text(n, "labels.one_sided") for n in listed(fields.get("one_sided", ()), "labels.one_sided")
            ),
        )
        return table.with_codes(fields.get("codes"), "labels.codes")

    def with_codes(self, codes: object, key: str = "data.codes") -> LabelTable:
        """The table with codes of classes in a terminology, as ``codes_of`` takes them; unchanged for None."""
        if codes is None:
            return self
        return replace(self, codes=codes_of(codes, [name for name, _ in self.targets], key))

    @classmethod
    def declare(
        cls,
        labels: Mapping[Any, Any] | Sequence[str],
        *,
        regions_class_order: Sequence[int] | None = None,
        merge: bool = False,
        pairs: Sequence[Sequence[str]] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        background: str | None = "background",
    ) -> LabelTable:
        """Build a table from ``name: value`` or ``name: [values]``, as in nnU-Net's ``dataset.json``.

        The background becomes index 0; ``ignore`` names raw values to ignore. A list of values is a region
        (possibly overlapping others) unless ``merge``.

        Args:
            labels: Name to raw value or values; or raw value to name; or names, of the values 0, 1, ...
            regions_class_order: Raw value painted by each region, in order; needed with regions.
            merge: Take lists as several raw values of one softmax class, not as regions.
            pairs: (left, right) class names. None finds them by their names, see ``laterality``; an empty list
                means none.
            colours: RGB by class name; other classes get theirs from a palette.
            background: Name of the class that is not scored; the class of value 0 where none has this
                name. None if every class counts; they are then in the order of their raw values.

        Raises:
            InputError: No such background, unknown names in ``pairs``, or an incomplete region order.

        Example:
            >>> LabelTable.declare({"background": 0, "liver": 1, "ignore": 9}).ignore_values
            (9,)
        """
        groups, regions, ignore = grouped(labels, regions_class_order, merge=merge, background=background)
        names = list(groups)
        indices, one_sided = detected(names, regions) if pairs is None else (declared_pairs(pairs, names), ())
        by_name = {n: tuple(c) for n, c in (colours or {}).items()}
        return cls(
            classes=tuple(
                LabelClass(n, v, v[0], by_name.get(n, PALETTE[i % len(PALETTE)]))  # type: ignore[arg-type]
                for i, (n, v) in enumerate(groups.items(), start=int(background is None))  # black is for a background
            ),
            ignore_values=ignore,
            regions=regions,
            pairs=indices,
            background=background is not None,
            one_sided=one_sided,
        )
