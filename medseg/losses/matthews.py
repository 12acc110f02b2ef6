"""Matthews correlation coefficient (MCC) as a loss: cells that are rightly not of a class count as well."""

from jaxtyping import Float
from torch import Tensor

from medseg.labels import LabelTable
from medseg.losses.overlap import OverlapLoss, SoftCounts


def matthews_correlation(counts: SoftCounts, *, smooth: float = 1e-5) -> Float[Tensor, "n k"]:
    r"""Correlation of probability and label of each class, over cells.

    .. math:: \frac{TP \cdot TN - FP \cdot FN}{\sqrt{(TP + FP)(TP + FN)(TN + FP)(TN + FN)}} =
        \frac{\overline{p g} - \bar p \bar g}{\sqrt{(\bar p (1 - \bar p) + e) (\bar g (1 - \bar g) + e)}}

    with soft counts, and means over cells, which do not overflow; e = ``smooth`` / cells. 0 for a class that all or
    none of the cells have: its correlation is undefined.

    Args:
        counts: Soft counts.
        smooth: Pseudo-count, in cells.

    Returns:
        Scores in [-1, 1], 1 is perfect.

    References:
        Abhishek and Hamarneh, Matthews Correlation Coefficient Loss for Deep Convolutional Networks: Application to
        Skin Lesion Segmentation, 2021 (of two classes; here of each class against the others).
    """
    cells = counts.cells.clamp(min=1)
    both, predicted, labelled = counts.both / cells, counts.predicted / cells, counts.labelled / cells
    variances = (predicted * (1 - predicted) + smooth / cells) * (labelled * (1 - labelled) + smooth / cells)
    return (both - predicted * labelled) / variances.sqrt()


class MatthewsLoss(OverlapLoss):
    """One minus the mean correlation of the classes that some counted cells have and others do not.

    With no such class the loss is 0 and so is its gradient. See ``matthews_correlation``.
    """

    def __init__(
        self, labels: LabelTable, *, smooth: float = 1e-5, batch: bool = True, background: bool = False
    ) -> None:
        super().__init__(labels, "mcc", smooth=smooth, batch=batch, background=background)

    def cost(self, counts: SoftCounts) -> Float[Tensor, " n"]:
        """Mean over the classes, in [0, 2]."""
        defined = ((counts.labelled > 0) & (counts.labelled < counts.cells)).to(counts.both.dtype)
        lost = (1 - matthews_correlation(counts, smooth=self.smooth)) * defined
        return lost.sum(dim=1) / defined.sum(dim=1).clamp(min=1)
