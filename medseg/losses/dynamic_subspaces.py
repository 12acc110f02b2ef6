"""Dynamic subspace learners: features of a class come close in parts of an embedding, of which training adds more."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.deep_supervision import coarsen
from medseg.losses.features import as_maps
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.targets import counted_cells, or_one
from medseg.losses.term import FeatureShape

_BORDER, _MARGIN = 1.2, 0.2
"""Distance that divides pairs of one class from pairs of two, and how far beyond it a pair costs nothing."""
_KEPT = 0.5
"""Share of the range of importance above which a number stays with its learner."""
_LEAST = 10
"""A learner of this many numbers or fewer is not divided."""
_SLOW = 0.02
"""Share of a step in the running mean of the score, and in the centres."""


def pair_costs(embedding: Float[Tensor, "n d"], classes: Int[Tensor, " n"]) -> Float[Tensor, "4"]:
    r"""Sum and number of what pairs of one class cost, and of what pairs of two classes cost.

    A pair of one class costs max(0, d - 1.2 + 0.2), one of two classes max(0, 1.2 + 0.2 - d), with d their distance;
    pairs that cost nothing are not counted.

    Args:
        embedding: Unit vectors.
        classes: Class of each.

    References:
        Wu et al., Sampling Matters in Deep Embedding Learning, 2017 (which draws pairs by their distance; here all of
        them are taken).
    """
    distance = ((2 - 2 * embedding @ embedding.T).clamp(min=0) + 1e-8).sqrt()
    same = classes[:, None] == classes[None]
    costs = (distance - _BORDER + _MARGIN).relu(), (_BORDER + _MARGIN - distance).relu()
    pairs = same & ~torch.eye(len(classes), dtype=torch.bool, device=classes.device), ~same
    sums = [value for cost, pair in zip(costs, pairs, strict=True)
            for value in ((cost * pair).sum(), (pair & (cost > 0)).sum().to(cost.dtype))]  # fmt: skip
    return torch.stack(sums)


def unit_parts(embedding: Float[Tensor, "n d"], owner: Int[Tensor, " d"]) -> Float[Tensor, "n d"]:
    """Each vector with the numbers of every learner divided by their length."""
    parts = functional.one_hot(owner).to(embedding.dtype)
    length = (embedding.square() @ parts + 1e-12).sqrt()
    return embedding / length[:, owner]


def staying(importance: Float[Tensor, " d"]) -> Bool[Tensor, " d"]:
    """Which numbers stay with a learner that is divided: those of large importance; all where none stands out.

    Args:
        importance: Sum over samples of a number times the gradient of the loss.
    """
    size = importance.abs()
    least, most = size.aminmax()
    return (size - least > _KEPT * (most - least)) | (most <= least)


def recall_at_one(embedding: Float[Tensor, "n d"], classes: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Share of the vectors whose nearest other one is of the same class (recall at 1)."""
    distance = torch.cdist(embedding, embedding).fill_diagonal_(torch.inf)
    return (classes[distance.argmin(dim=1)] == classes).float().mean()


class DynamicSubspaceLoss(nn.Module):
    r"""Margin loss of an embedding of a feature, in subspaces of which the training adds more.

    Cells of one class in one image are drawn into bags. A bag is the mean of its cells' features, weighted by a map of
    attention, and a linear layer embeds it. The numbers of the embedding belong to learners; at first there is one.
    A bag belongs to the learner whose centre, a running mean of bags, is nearest. In the numbers of a learner, its bags
    of one class come close and those of different classes go apart (``pair_costs``): the loss is the mean cost of
    pairs of one class plus that of pairs of two.

    The score is a running mean of ``recall_at_one``. A learner is added where the score has not been better for
    ``patience`` steps, and was better than ever since the last one was added: the last learner is divided. It keeps
    the numbers of large importance (``staying``); the rest is drawn anew, for the new learner. From the share ``joint``
    of the budget on, all numbers are trained together, with all bags.

    Attention, embedding and learners are stored in checkpoints, and dropped after the training. Of a patch that
    does not annotate every class, the background is in no bag; of regions, such a patch has no bags.

    Args:
        labels: Meaning of the outputs; bags are of classes, with regions too.
        feature: Position of the feature, from the finest on.
        width: Numbers of the embedding.
        bags: Of each class and image, at most.
        cells: In a bag, at most.
        max_learners: Learners, at most.
        patience: Steps without a better score before a learner is added.
        joint: Share of the budget after which all numbers are trained together.

    Raises:
        InputError: A value out of range.

    References:
        Adiga et al., Attention-based Dynamic Subspace Learners for Medical Image Analysis, 2022. Theirs embeds images
        that have one class each; clusters all of them again and again, for which the centres stand here; divides by the
        mutual information of a validation; and draws masks from the attention, for which there are labels here.
    """

    needs: ClassVar[tuple[str, ...]] = ("features", "progress", "annotated")
    finest: ClassVar[bool] = True
    owner: Tensor
    importance: Tensor
    centres: Tensor
    learners: Tensor
    score: Tensor
    best: Tensor
    waited: Tensor
    improved: Tensor

    def __init__(
        self,
        labels: LabelTable,
        *,
        feature: int = 1,
        width: int = 64,
        bags: int = 4,
        cells: int = 16,
        max_learners: int = 4,
        patience: int = 500,
        joint: float = 0.8,
    ) -> None:
        super().__init__()
        if feature < 0 or min(width, bags, cells, max_learners, patience) < 1:
            raise InputError(
                f"loss dynamic_subspaces: got feature {feature}, width {width}, bags {bags}, cells {cells}, "
                f"max_learners {max_learners} and patience {patience}, expected a feature of 0 or more, and 1 or more "
                "of the others"
            )
        if not 0 <= joint <= 1:
            raise InputError(f"loss dynamic_subspaces: got joint {joint}, expected a share in [0, 1]")
        self.labels, self.feature, self.width, self.bags, self.cells = labels, feature, width, bags, cells
        self.max_learners, self.patience, self.joint = max_learners, patience, joint
        self.declared: tuple[FeatureShape, ...] = ()
        self.attention: nn.Module = nn.Identity()
        self.embedding: nn.Linear = nn.Linear(1, width)
        self.register_buffer("owner", torch.zeros(width, dtype=torch.int64))
        self.register_buffer("importance", torch.zeros(width))
        self.register_buffer("centres", torch.zeros(max_learners, 1))
        for name, start in (("learners", 1), ("waited", 0), ("improved", False), ("score", 0.0), ("best", 0.0)):
            self.register_buffer(name, torch.tensor(start))

    def attach(self, features: Sequence[FeatureShape], encoder: nn.Module) -> None:
        """Build the attention and the embedding for a feature as an encoder declares it.

        Raises:
            InputError: The encoder has no feature of this position.
        """
        del encoder
        if self.feature >= len(features):
            raise InputError(
                f"loss dynamic_subspaces: got feature {self.feature}, the encoder has {len(features)}; expected 0 to "
                f"{len(features) - 1}"
            )
        self.declared = tuple(features)
        convolution = nn.Conv2d if len(features[0].stride) == 2 else nn.Conv3d
        channels = features[self.feature].channels
        widths = (channels, max(4, channels // 8), max(4, channels // 32), 1)
        first, second, last = (convolution(*pair, 3, padding=1) for pair in pairwise(widths))
        self.attention = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last, nn.Sigmoid())
        self.embedding = nn.Linear(channels, self.width)
        self.centres = torch.zeros(self.max_learners, channels)

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        *,
        features: Sequence[Tensor],
        progress: float = 0.0,
        annotated: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss, a distance between unit vectors, and a step of the centres and of the score; no logits are used."""
        del logits
        together = progress >= self.joint
        if not together:
            self._grow()
        one = as_maps(features, self.declared, label.shape[1:])[self.feature]
        cells, bag, classes = self._drawn(label, valid, one.shape[2:], annotated)
        with torch.autocast(one.device.type, enabled=False):
            weight = self.attention(one).movedim(1, -1)[cells]
            inside = (torch.arange(len(classes), device=bag.device)[:, None] == bag[None]).to(one.dtype)
            pooled = (inside @ (one.movedim(1, -1)[cells] * weight)) / (inside @ weight).clamp(min=1e-6)
            embedding = unit_parts(self.embedding(pooled), self.owner)
        owner, nearest = self.owner, self._nearest(pooled.detach())
        if together:
            embedding = functional.normalize(embedding, dim=1)
            owner, nearest = torch.zeros_like(owner), torch.zeros_like(nearest)
        costs = [pair_costs(embedding[nearest == n][:, owner == n], classes[nearest == n]) for n in owner.unique()]
        close, n_close, apart, n_apart = sum_over_ranks(torch.stack(costs).sum(dim=0), gather=self.training)
        loss = close / or_one(n_close) + apart / or_one(n_apart)
        self._observe(loss, embedding, classes)
        return loss

    def _drawn(
        self, label: Tensor, valid: Tensor, grid: Sequence[int], annotated: Tensor | None
    ) -> tuple[tuple[Tensor, ...], Int[Tensor, " n"], Int[Tensor, " m"]]:
        """Indices of drawn cells of the feature, the batch first, the bag of each, and the class of each bag."""
        at_label = coarsen(label, grid)
        counted = counted_cells(at_label, coarsen(valid, grid))
        if annotated is not None and self.labels.background and not self.labels.regions:
            whole = annotated.all(dim=1).view(-1, *[1] * len(grid))
            counted = counted & (whole | (at_label != 0))
        drawn, classes = [], []
        for number in range(self.labels.n_classes):
            for image in range(len(label)):
                places = (counted[image] & (at_label[image] == number)).nonzero()
                order = torch.randperm(len(places), device="cpu")[: self.bags * self.cells].to(places.device)
                places = functional.pad(places[order], (1, 0), value=image)
                groups = [group for group in places.chunk(self.bags) if len(group)]
                drawn += groups
                classes += [number] * len(groups)
        sizes = torch.tensor([len(group) for group in drawn], dtype=torch.int64, device=label.device)
        bag = torch.repeat_interleave(torch.arange(len(drawn), device=label.device), sizes)
        cells = torch.cat(drawn) if drawn else torch.zeros(0, label.ndim, dtype=torch.int64, device=label.device)
        return tuple(cells.T), bag, torch.tensor(classes, dtype=torch.int64, device=label.device)

    @torch.no_grad()
    def _nearest(self, pooled: Float[Tensor, "m c"]) -> Int[Tensor, " m"]:
        """Learner of each bag, and a step of the centres; a new one begins at the bag that is farthest from all."""
        points = functional.normalize(pooled, dim=1)
        centres = self.centres[: int(self.learners)]
        if not len(points):
            return torch.zeros(0, dtype=torch.int64, device=points.device)
        for n in range(len(centres)):
            if not centres[n].any():
                centres[n] = points[torch.cdist(points, centres[: max(n, 1)]).amin(dim=1).argmax()]
        nearest = torch.cdist(points, centres).argmin(dim=1)
        for n in nearest.unique():
            centres[n].lerp_(points[nearest == n].mean(dim=0), _SLOW)
        return nearest

    def _observe(self, loss: Tensor, embedding: Float[Tensor, "m d"], classes: Int[Tensor, " m"]) -> None:
        """One step of the running mean of the score and of the importance of numbers."""
        if len(classes) < 2 or not loss.requires_grad:
            return
        (gradient,) = torch.autograd.grad(loss, embedding, retain_graph=True)
        values = embedding.detach()
        self.importance += (values * gradient).sum(dim=0)
        self.score.lerp_(recall_at_one(values, classes), _SLOW)
        better = self.score > self.best
        self.waited.copy_(torch.where(better, 0, self.waited + 1))
        self.improved |= better
        self.best.copy_(torch.maximum(self.best, self.score))

    @torch.no_grad()
    def _grow(self) -> None:
        """Divide the last learner where the score no longer rises."""
        number = int(self.learners)
        last = self.owner == number - 1
        due = bool(self.improved) and int(self.waited) >= self.patience
        if not due or number == self.max_learners or int(last.sum()) <= _LEAST:
            return
        leave = last.clone()
        leave[last] = ~staying(self.importance[last])
        if not leave.any():
            return
        self.owner[leave] = number
        self.learners += 1
        drawn = torch.empty(int(leave.sum()), self.embedding.in_features)
        nn.init.xavier_uniform_(drawn, generator=torch.Generator().manual_seed(number))  # the same on every rank
        self.embedding.weight[leave] = drawn.to(self.embedding.weight)
        self.embedding.bias[leave] = 0.0
        self.importance.zero_()
        self.improved.fill_(False)
        self.waited.zero_()
