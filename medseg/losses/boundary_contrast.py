"""Contrast of boundary cells: features at the borders of classes are pulled together by class, in training only."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.deep_supervision import coarsen
from medseg.losses.features import as_maps
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.semantic_boundaries import boundary_cells
from medseg.losses.targets import counted_cells, or_one, target_of
from medseg.losses.term import FeatureShape


def contrast(
    anchors: Float[Tensor, "n d"],
    classes: Int[Tensor, " n"],
    memory: Float[Tensor, "k m d"],
    stored: Bool[Tensor, "k m"],
    *,
    temperature: float = 0.1,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Mean negative log-probability of remembered features of an anchor's own class, against those of others; in nats.

    .. math:: - \frac{1}{|A|} \sum_{a \in A} \frac{1}{|P_a|} \sum_{p \in P_a}
        \log \frac{e^{a p / \tau}}{e^{a p / \tau} + \sum_{n \in N_a} e^{a n / \tau}}

    with P the features in memory of the class of an anchor and N those of all other classes. A are the anchors that
    have both; without any the loss is 0.

    Args:
        anchors: Unit vectors.
        classes: Class of each anchor.
        memory: Unit vectors of each class.
        stored: Which places of the memory are taken.
        temperature: Tau, positive.
        gather: Take the anchors of all ranks, see ``sum_over_ranks``.

    References:
        Khosla et al., Supervised Contrastive Learning, 2020; van den Oord et al., 2018 (InfoNCE).
    """
    of_class = functional.one_hot(classes.long(), len(memory)).bool()[:, :, None]
    own, other = (of_class & stored).flatten(1), (~of_class & stored).flatten(1)
    used = own.any(1) & other.any(1)
    own, other = own[used], other[used]
    similar = torch.einsum("nd,kmd->nkm", anchors[used], memory).flatten(1) / temperature
    against = similar.masked_fill(~other, -torch.inf).logsumexp(1, keepdim=True)
    each = functional.softplus(against - similar) * own  # -log(e^s / (e^s + e^against))
    sums = torch.stack([(each.sum(1) / own.sum(1)).sum(), used.sum().float()])
    total, n = sum_over_ranks(sums, gather=gather)
    return total / or_one(n)


class BoundaryContrastLoss(nn.Module):
    """Contrast of features at the borders of classes with a memory from an averaged encoder.

    The training has a second encoder, the exponential average of the first one, and a projection of one feature of
    each. In each step, up to ``samples`` cells of each class next to a border are drawn; the projections of the first
    encoder are contrasted with the memory, and then those of the averaged one enter it, the oldest ones leave. All of
    it is stored in checkpoints, and dropped after the training. It takes the memory of a second encoder. Patches that
    do not annotate every region have no anchors.

    Args:
        labels: Meaning of the outputs; cells are contrasted by class, of regions too.
        feature: Position of the feature, from the finest on.
        width: Numbers of a projection.
        samples: Cells of each class and step.
        memory: Places for each class.
        temperature: See ``contrast``.
        momentum: Share of the averaged encoder and projection that stays in each step.

    Raises:
        InputError: A value out of range.

    References:
        Zhou et al., Hyper-pixel-wise Contrastive Learning Augmented Segmentation Network for Old Landslide Detection
        (HPCL-Net), 2023; He et al., Momentum Contrast, 2020. Theirs contrasts windows around corrected boundary
        cells; here a cell of a feature is such a window already.
    """

    needs: ClassVar[tuple[str, ...]] = ("features", "image")
    finest: ClassVar[bool] = True
    members: Tensor
    memory: Tensor
    stored: Tensor
    place: Tensor

    def __init__(
        self,
        labels: LabelTable,
        *,
        feature: int = 0,
        width: int = 64,
        samples: int = 64,
        memory: int = 512,
        temperature: float = 0.1,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        if min(width, samples) < 1 or memory < samples or feature < 0:
            raise InputError(
                f"loss boundary_contrast: got feature {feature}, width {width}, samples {samples} and memory {memory}, "
                "expected a feature of 0 or more, 1 or more of the others, and at least as much memory as samples"
            )
        if not (temperature > 0 and 0 <= momentum < 1):
            raise InputError(
                f"loss boundary_contrast: got temperature {temperature} and momentum {momentum}, expected above 0, and "
                "in [0, 1)"
            )
        self.feature, self.width, self.samples = feature, width, samples
        self.temperature, self.momentum = temperature, momentum
        self.declared: tuple[FeatureShape, ...] = ()
        self.register_buffer("members", torch.eye(labels.n_classes, dtype=torch.bool), persistent=False)
        self.register_buffer("memory", torch.zeros(labels.n_classes, memory, width))
        self.register_buffer("stored", torch.zeros(labels.n_classes, memory, dtype=torch.bool))
        self.register_buffer("place", torch.zeros(labels.n_classes, dtype=torch.int64))
        self.projection: nn.Module = nn.Identity()
        self.averaged = nn.ModuleDict()
        self._encoder: tuple[nn.Module, ...] = ()  # a tuple, so that its parameters stay the network's

    def attach(self, features: Sequence[FeatureShape], encoder: nn.Module) -> None:
        """Build the projection, and copy it and the encoder.

        Raises:
            InputError: The encoder has no feature of this position.
        """
        if self.feature >= len(features):
            raise InputError(
                f"loss boundary_contrast: got feature {self.feature}, the encoder has {len(features)}; expected 0 to "
                f"{len(features) - 1}"
            )
        self.declared, self._encoder = tuple(features), (encoder,)
        convolution = nn.Conv2d if len(features[0].stride) == 2 else nn.Conv3d
        channels = features[self.feature].channels
        self.projection = nn.Sequential(
            convolution(channels, channels, 1), nn.ReLU(), convolution(channels, self.width, 1)
        )
        copies = {"encoder": copy.deepcopy(encoder), "projection": copy.deepcopy(self.projection)}
        self.averaged = nn.ModuleDict(copies).requires_grad_(False)

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        *,
        features: Sequence[Tensor],
        image: Float[Tensor, "b c *s"],
    ) -> Float[Tensor, ""]:
        """Loss in nats, and a step of the average and of the memory; the logits are not used."""
        del logits
        shape = label.shape[1:]
        projected = self._projected(features, shape, self.projection)
        cells = self._drawn(label, valid, projected.shape[2:])
        anchors, classes = projected.movedim(1, -1)[cells[:-1]], cells[-1]
        loss = contrast(
            anchors,
            classes,
            self.memory.clone(),
            self.stored.clone(),
            temperature=self.temperature,
            gather=self.training,
        )
        with torch.no_grad():
            self._average()
            keys = self._projected(self.averaged["encoder"](image), shape, self.averaged["projection"])
            self._remember(keys.movedim(1, -1)[cells[:-1]], classes)
        return loss

    def _projected(
        self, features: Sequence[Tensor], shape: Sequence[int], projection: nn.Module
    ) -> Float[Tensor, "b d *g"]:
        """Unit vectors of each cell of the feature."""
        one = as_maps(features, self.declared, shape)[self.feature]
        with torch.autocast(one.device.type, enabled=False):
            return functional.normalize(projection(one), dim=1)

    def _drawn(self, label: Tensor, valid: Tensor, grid: Sequence[int]) -> tuple[Any, ...]:
        """Indices of drawn cells of the feature on each axis, the batch first, and the class of each cell."""
        at_label = coarsen(label, grid)
        at_label = at_label.masked_fill(at_label >= len(self.members), IGNORE)  # a set of regions, see losses.partial
        counted = counted_cells(at_label, coarsen(valid, grid))
        at_border = boundary_cells(target_of(at_label, self.members), counted, 1)[0].any(1)
        index = torch.where(at_border, at_label.long(), IGNORE)
        drawn = []
        for number in range(len(self.members)):
            places = (index == number).nonzero()
            order = torch.randperm(len(places), device="cpu")[: self.samples].to(places.device)
            drawn.append(places[order])
        cells = torch.cat(drawn)
        classes = index[tuple(cells.T)]
        return (*cells.T, classes)

    def _average(self) -> None:
        """One step of the exponential average of parameters; buffers are copied."""
        for average, current in zip(self.averaged.values(), (*self._encoder, self.projection), strict=True):
            for parameter, now in zip(average.parameters(), current.parameters(), strict=True):
                parameter.lerp_(now.detach(), 1 - self.momentum)
            for buffer, now_buffer in zip(average.buffers(), current.buffers(), strict=True):
                buffer.copy_(now_buffer)

    def _remember(self, keys: Float[Tensor, "n d"], classes: Int[Tensor, " n"]) -> None:
        """Let keys enter the memory of their class, where the oldest ones were."""
        size = self.memory.shape[1]
        for number in classes.unique().tolist():
            own = keys[classes == number]
            places = (self.place[number] + torch.arange(len(own), device=keys.device)) % size
            self.memory[number, places], self.stored[number, places] = own, True
            self.place[number] = (self.place[number] + len(own)) % size
