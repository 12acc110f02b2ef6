"""Mirrors: the axes along which images may be flipped without confusing left and right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medseg.labels import LabelTable
from medseg.transforms.spatial import Rotation
from medseg.transforms.turns import RandomRotate90
from medseg.transforms.window import coarse_axis, rotation_planes


@dataclass(frozen=True)
class Mirrors:
    """The mirrors of a training, which are those of its test-time average.

    Attributes:
        axes: Array axes that may be flipped.
        lateral_axis: The axis across the body, whose flip exchanges left and right classes; None if unknown.
        warning: One line if left and right restrict the mirrors, or may be confused; else empty.
    """

    axes: tuple[int, ...]
    lateral_axis: int | None
    warning: str = ""


def allowed_mirrors(
    configured: Sequence[int], labels: LabelTable, *, lateral_axis: int | None, turned_with: Sequence[int] = ()
) -> Mirrors:
    """The mirrors of the configuration that a label table allows.

    Without lateral classes all are allowed. With them,

    - an unknown lateral axis allows none, as any of them may exchange the sides;
    - a class whose mirror image has no name forbids the lateral one;
    - an axis that rotations bring into the lateral one (``far_turned``) is not flipped: half a turn and a flip
      of that axis are a lateral flip, which would exchange no class.

    Args:
        configured: Axes that the configuration mirrors.
        labels: Table with its pairs and one-sided names.
        lateral_axis: The axis across the body, if it is known.
        turned_with: Axes that share a plane of far rotations with the lateral axis.

    Example:
        >>> table = LabelTable.declare({"background": 0, "left eye": 1, "right eye": 2})
        >>> allowed_mirrors((0, 1, 2), table, lateral_axis=0, turned_with=(1,)).axes
        (0, 2)
    """
    axes = tuple(configured)
    sided = [*labels.one_sided, *(name for pair in labels.paired_names for name in pair)]
    lateral = bool(axes) if lateral_axis is None else lateral_axis in axes
    undeclared = _undeclared(labels.undeclared_sides) if lateral else ""
    if not sided:
        return Mirrors(axes, lateral_axis, undeclared)
    if lateral_axis is None:
        return Mirrors((), None, _unknown_axis(sided) if axes else "")
    axes = _without(axes, turned_with)
    if not (labels.one_sided and lateral):
        return Mirrors(axes, lateral_axis, undeclared)
    return Mirrors(_without(axes, (lateral_axis,)), lateral_axis, _no_partner(labels.one_sided))


def _without(axes: Sequence[int], excluded: Sequence[int]) -> tuple[int, ...]:
    """The axes that are not excluded."""
    return tuple(axis for axis in axes if axis not in excluded)


def _undeclared(names: Sequence[str]) -> str:
    """Warning about names with a side that are in no pair; empty without such names."""
    if not names:
        return ""
    return (
        f"{_few(names)}: data.pairs does not name them, and mirrored images keep their classes, so that left and right "
        "are learned as one; set data.pairs=null to find pairs by their names, or name them"
    )


def _unknown_axis(names: Sequence[str]) -> str:
    """Warning about names with a side in images whose lateral axis is unknown."""
    return (
        f"{_few(names)}: the axis across the body is unknown, so images are not mirrored; set data.lateral_axis=0 "
        "(rows) or 1 (columns) of 2D images, or native: false in a plan of volumes"
    )


def _no_partner(names: Sequence[str]) -> str:
    """Warning about names whose mirror image has no name."""
    return (
        f"{_few(names)}: no class is the mirror image, so images are not mirrored from left to right; name the "
        "partners by data.pairs=[[LEFT, RIGHT], ...], or set data.pairs=[] to mirror all the same"
    )


def far_turned(
    patch_shape: Sequence[int],
    spacing: Sequence[float],
    lateral_axis: int | None,
    *,
    rotation: Rotation | None = None,
    turns: RandomRotate90 | None = None,
    anisotropy: float = 3.0,
) -> tuple[int, ...]:
    """Axes that a rotation by more than a right angle turns into the lateral axis, or the lateral axis into them.

    Args:
        patch_shape: Shape of a patch, in cells.
        spacing: Spacing of its cells.
        lateral_axis: The axis across the body; None gives no axis.
        rotation: Settings of rotations; None for none.
        turns: Settings of rotations by multiples of 90 degrees; None for none.
        anisotropy: Ratio from which an axis is coarse.

    Example:
        >>> far_turned((32, 32, 8), (1.0, 1.0, 5.0), 0, rotation=Rotation()), far_turned(
        ...     (32, 32, 32), (1.0, 1.0, 1.0), 0, rotation=Rotation()
        ... )
        ((1,), ())
    """
    coarse = coarse_axis(patch_shape, spacing, anisotropy)
    far = bool(rotation and rotation.p and rotation.largest(patch_shape, spacing, coarse) > 90)
    if not far and not (turns and turns.p):
        return ()
    planes = rotation_planes(len(patch_shape), coarse)
    return tuple(sorted({a for plane in planes if lateral_axis in plane for a in plane} - {lateral_axis}))


def _few(names: Sequence[str]) -> str:
    """The first names in quotes, and how many more there are."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(repr(name) for name in names[:4]) + more
