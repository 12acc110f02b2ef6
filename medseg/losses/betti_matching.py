"""Betti matching loss: components, loops and cavities of the probability against those of the label, by their place."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medseg.errors import InputError, nearest
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import ratio
from medseg.losses.structures import StructureLoss, Structures
from medseg.topology.matching import Features, Matching, compiled, match_pairs


def betti_matching(
    prob: Float[Tensor, "m *s"], target: Bool[Tensor, "m *s"], *, levels: int | None = None
) -> Float[Tensor, " m"]:
    r"""Cost of the matching of each of several maps of a structure.

    .. math:: \sum_{(p, q)} (b_p - b_q)^2 + (d_p - d_q)^2 + \sum_{p} (b_p - d_p)^2 / 2 + \sum_{q} (b_q - d_q)^2 / 2

    over matched pairs of features, and those p of the probability and q of the label without a partner; b and d are
    the values at which a feature appears and vanishes as the threshold falls. See ``match_pairs`` for
    what is matched; the matching is a constant to the gradient. Half of the cost in the authors' code. As many maps are
    matched at the same time as torch has threads.

    Args:
        prob: Probability of the structure; 0 where a cell does not count.
        target: True where a cell belongs to it; false where a cell does not count.
        levels: Steps that the probability is rounded to for the matching, so that features of less than a step are
            left out; None for none.

    Returns:
        Costs, not negative. Differentiable in ``prob``.
    """
    mask = target.to(prob.dtype)
    rough = prob.detach() if levels is None else (prob.detach() * (levels - 1)).round() / (levels - 1)
    preds, labels = list(rough.cpu().numpy()), list(mask.cpu().numpy())
    matchings = match_pairs(preds, labels, threads=torch.get_num_threads())
    costs = [_cost(*maps) for maps in zip(prob, mask, matchings, strict=True)]
    return torch.stack(costs) if costs else prob.flatten(1).sum(dim=1)


def _cost(prob: Float[Tensor, " *s"], mask: Float[Tensor, " *s"], matching: Matching) -> Float[Tensor, ""]:
    shared, false = _values(prob, matching.shared), _values(prob, matching.false)
    expected, missed = _values(mask, matching.shared_label), _values(mask, matching.missed)
    alone = torch.cat([false, missed])
    return (shared - expected).square().sum() + (alone[:, 0] - alone[:, 1]).square().sum() / 2


def _values(image: Float[Tensor, " *s"], features: Features) -> Float[Tensor, "n 2"]:
    """Values at which features appear and vanish; 0 where that is at no cell."""
    values = []
    for cells in features:
        index = torch.from_numpy(cells).to(image.device)
        at = image[tuple(index.clamp(min=0).T)]
        values.append(torch.where(index[:, 0] >= 0, at, 0.0))
    return torch.stack(values, dim=1)


class BettiMatchingLoss(StructureLoss):
    """Mean Betti matching over images and structures: softmax classes without the background, or sigmoid regions.

    No loss on its own: it looks at a few cells of each image, so it goes with Dice and cross-entropy. The matching runs
    on the CPU, some seconds for 64^3 cells of one structure early in a training, one later; ``structures`` and
    ``levels`` make it cheaper. In training the mean is that of all ranks.

    Attributes:
        structures: Positions of the structures that are matched.
        levels: See ``betti_matching``.
    """

    def __init__(
        self, labels: LabelTable, *, structures: Sequence[str] | None = None, levels: int | None = None
    ) -> None:
        """Set up.

        Args:
            labels: Meaning of the outputs.
            structures: Names of the classes or regions that are matched; all if absent.
            levels: See ``betti_matching``.

        Raises:
            InputError: A name is unknown, there are fewer than two levels, or ``topolosses`` is not installed.
        """
        super().__init__(labels)
        compiled()
        names = [name for name, _ in labels.targets]
        wanted = names if structures is None else [structures] if isinstance(structures, str) else list(structures)
        for name in wanted:
            if name not in names:
                raise InputError(
                    f"loss betti_matching: structures: {name} is none of the table; {nearest(name, names)}"
                )
        if not wanted:
            raise InputError("loss betti_matching: structures: got none, expected some names, or null for all")
        if levels is not None and levels < 2:
            raise InputError(f"loss betti_matching: levels must be at least 2, or null for no rounding, got {levels}")
        self.levels = levels
        self.structures = [names.index(name) for name in wanted]

    def cost(self, structures: Structures) -> Float[Tensor, ""]:
        """Loss, not negative; it grows with the number of features."""
        prob, target = (cells[:, self.structures] for cells in structures[:2])
        shown = prob.new_ones(prob.shape[:2], dtype=torch.bool)
        if structures.annotated is not None:
            shown = structures.annotated[:, self.structures]
        costs = betti_matching(prob[shown], target[shown], levels=self.levels)
        return ratio(costs.sum(), shown.sum().to(prob.dtype), gather=self.training)
