"""FixMatch: confident classes of the weak view are the labels of the strong one."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from medseg.methods.consistency import Consistency
from medseg.methods.pseudo_labels import hard


class FixMatch(Consistency):
    """``Consistency`` with hard targets: the likeliest class of each cell, or the likelier state of each region.

    The divergence is then the cross-entropy. ``threshold`` and ``weight`` are those of the paper. With ``cutmix``,
    views are mixed as French et al. do it, whose teacher is an average of the network; here it is the network itself.

    References:
        Sohn et al., FixMatch: simplifying semi-supervised learning with consistency and confidence, 2020. French et
        al., Semi-supervised semantic segmentation needs strong, varied perturbations, 2020.
    """

    def target(self, prob: Float[Tensor, "b k *s"]) -> Float[Tensor, "b k *s"]:
        """1 for the likeliest class, or for regions of more than 0.5; else 0."""
        return hard(prob, regions=bool(self.labels.regions))
