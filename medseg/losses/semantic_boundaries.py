"""Semantic boundaries: stages of the encoder also predict where each class ends, in training only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.features import as_maps, to_shape
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.targets import counted_cells, memberships, or_one, target_of
from medseg.losses.term import FeatureShape


def boundary_cells(
    target: Bool[Tensor, "b k *s"], counted: Bool[Tensor, "b *s"], radius: int
) -> tuple[Bool[Tensor, "b k *s"], Bool[Tensor, "b k *s"]]:
    """Cells at the boundary of each structure, and cells of which it is known whether they are.

    A cell is at the boundary of a structure if the cube of ``radius`` cells around it holds counted cells of the
    structure and counted cells outside of it. Where it does not, and holds a cell that does not count, it is not
    known. Cells that do not count are neither. Outside of the patch there is nothing.

    Args:
        target: True where a cell belongs to a structure.
        counted: False where a cell is ignored or invalid.
        radius: In cells, 1 or more; the band is two cells wide for 1.

    Example:
        >>> label = torch.tensor([[[False, False, True, True, True]]])
        >>> boundary_cells(label, torch.ones(1, 5, dtype=torch.bool), 1)[0].int().tolist()
        [[[0, 1, 1, 0, 0]]]
    """
    inside = _dilated(target & counted[:, None], radius)
    outside = _dilated(~target & counted[:, None], radius)
    boundary = inside & outside & counted[:, None]
    unknown = _dilated(~counted[:, None], radius)
    return boundary, (boundary | ~unknown) & counted[:, None]


def _dilated(cells: Bool[Tensor, "b k *s"], radius: int) -> Bool[Tensor, "b k *s"]:
    """True where any cell of the cube around is; one axis after the other."""
    grown = cells.float().flatten(0, 1)[:, None]
    for axis in range(2, grown.ndim):
        lines = grown.movedim(axis, -1)
        pooled = functional.max_pool1d(lines.flatten(0, -2)[:, None], 2 * radius + 1, stride=1, padding=radius)
        grown = pooled[:, 0].unflatten(0, lines.shape[:-1]).movedim(-1, axis)
    return grown[:, 0].unflatten(0, cells.shape[:2]) > 0


def boundary_cross_entropy(
    logits: Float[Tensor, "b k *s"],
    boundary: Bool[Tensor, "b k *s"],
    counted: Bool[Tensor, "b k *s"],
    *,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Binary cross-entropy in which the few cells of boundaries weigh as much as all others; in nats.

    .. math:: - \sum_{s,k} (\beta g \log p + (1 - \beta) (1 - g) \log (1 - p)) / \sum_{s,k} 1

    over the counted cells s of all structures k, with p the sigmoid of ``logits``, g the ``boundary`` and beta the
    share of counted cells that are no boundary (Xie and Tu, Holistically-Nested Edge Detection, 2015). Zero, with
    zero gradient, where no cell counts.

    Args:
        logits: A score of each structure's boundary.
        boundary: True on boundaries.
        counted: False where a cell does not count.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.
    """
    scores = torch.where(counted, logits.float(), 0.0)
    each = functional.binary_cross_entropy_with_logits(scores, boundary.float(), reduction="none") * counted
    sums = [(each * boundary).sum(), (each * ~boundary).sum(), (boundary & counted).sum(), counted.sum()]
    on, off, at, cells = sum_over_ranks(torch.stack([value.float() for value in sums]), gather=gather)
    share = at / or_one(cells)
    return ((1 - share) * on + share * off) / or_one(cells)


class SemanticBoundaryLoss(nn.Module):
    """Boundaries of each class from the features of the encoder, by a head that only training has.

    Every feature but the coarsest gives one map, the coarsest one a structure; for each structure the maps are joined
    by a convolution of its own (CASENet's head). Structures are the classes but the background, or regions. The loss
    is ``boundary_cross_entropy`` of the joined maps and of those of the coarsest feature alone, added up.

    Args:
        labels: Meaning of the outputs.
        radius: Cells on either side of a border that are its boundary.

    Raises:
        InputError: A radius below 1.

    References:
        Ishikawa et al., Boosting Semantic Segmentation with Semantic Boundaries (SBCB), 2023; Yu et al., CASENet,
        2017, whose weights of boundary and other cells are those above, over all classes together. Theirs has a
        further loss on a class-less boundary; its cells are those of the union, which the joined maps see already.
    """

    needs: ClassVar[tuple[str, ...]] = ("features", "annotated")
    finest: ClassVar[bool] = True
    members: Tensor

    def __init__(self, labels: LabelTable, *, radius: int = 1) -> None:
        super().__init__()
        if radius < 1:
            raise InputError(f"loss semantic_boundaries: got radius {radius}, expected 1 cell or more")
        self.radius = radius
        rows = memberships(labels)
        self.register_buffer("members", rows if labels.regions or not labels.background else rows[1:], persistent=False)
        self.declared: tuple[FeatureShape, ...] = ()
        self.sides = nn.ModuleList()
        self.joined: nn.Module = nn.Identity()

    def attach(self, features: Sequence[FeatureShape], encoder: nn.Module) -> None:
        """Build the head for features as an encoder declares them, fine to coarse."""
        del encoder
        self.declared = tuple(features)
        structures = len(self.members)
        convolution = nn.Conv2d if len(features[0].stride) == 2 else nn.Conv3d
        outputs = [*[1] * (len(features) - 1), structures]
        self.sides = nn.ModuleList(
            convolution(feature.channels, n, 1) for feature, n in zip(features, outputs, strict=True)
        )
        self.joined = convolution(structures * len(features), structures, 1, groups=structures)

    def head(
        self, features: Sequence[Tensor], shape: Sequence[int]
    ) -> tuple[Float[Tensor, "b k *s"], Float[Tensor, "b k *s"]]:
        """Scores of each structure's boundary: of all features joined, and of the coarsest alone."""
        maps = as_maps(features, self.declared, shape)
        *fine, coarse = [to_shape(side(one), shape) for side, one in zip(self.sides, maps, strict=True)]
        by_structure = [part for one in coarse.split(1, dim=1) for part in (one, *fine)]
        joined: Tensor = self.joined(torch.cat(by_structure, dim=1))
        return joined, coarse

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        *,
        features: Sequence[Tensor],
        annotated: Bool[Tensor, "b o"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss in nats, of boundaries of annotated structures; the logits of the segmentation are not used."""
        del logits
        boundary, counted = boundary_cells(target_of(label, self.members), counted_cells(label, valid), self.radius)
        if annotated is not None:
            own = annotated[:, -len(self.members) :]
            counted = counted & own.view(*own.shape, *[1] * (label.ndim - 1))
        with torch.autocast(label.device.type, enabled=False):
            scores = self.head(features, label.shape[1:])
        parts = [boundary_cross_entropy(one, boundary, counted, gather=self.training) for one in scores]
        return parts[0] + parts[1]
