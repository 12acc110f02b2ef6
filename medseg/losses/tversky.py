"""Tversky loss, plain and focal, which weighs false negatives apart from false positives; IoU is one of them."""

from jaxtyping import Float
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.focal import above_zero
from medseg.losses.overlap import OverlapLoss, SoftCounts


def tversky_index(
    counts: SoftCounts, *, false_positives: float = 0.3, false_negatives: float = 0.7, smooth: float = 1e-5
) -> Float[Tensor, "n k"]:
    r"""Soft Tversky index of each class.

    .. math:: (\sum p g + \epsilon) /
        (\sum p g + \alpha \sum p (1 - g) + \beta \sum (1 - p) g + \epsilon)

    Soft Dice (with a pseudo-count twice as large) for alpha = beta = 1/2, and soft IoU for alpha = beta = 1.

    Args:
        counts: Soft counts.
        false_positives: Their weight alpha, not negative.
        false_negatives: Their weight beta, not negative; larger than alpha, missed cells cost more.
        smooth: Pseudo-count epsilon, in cells.

    Returns:
        Scores in [0, 1], 1 is perfect.

    References:
        Salehi et al., Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep Networks, 2017.
    """
    wrong = false_positives * (counts.predicted - counts.both) + false_negatives * (counts.labelled - counts.both)
    return (counts.both + smooth) / (counts.both + wrong + smooth)


class TverskyLoss(OverlapLoss):
    r"""Mean over classes of one minus the Tversky index, to the power gamma; see ``tversky_index``.

    .. math:: \sum_k (1 - T_k)^\gamma / k

    Attributes:
        false_positives: Weight alpha of false positives.
        false_negatives: Weight beta of false negatives.
        gamma: Exponent. Below 1, classes that are nearly right keep a large gradient.

    References:
        Abraham and Khan, A Novel Focal Tversky Loss Function with Improved Attention U-Net for Lesion Segmentation,
        2019 (whose exponent is 1/gamma, with gamma = 4/3).
    """

    def __init__(
        self, labels: LabelTable, *, false_positives: float = 0.3, false_negatives: float = 0.7, gamma: float = 1.0,
        smooth: float = 1e-5, batch: bool = True, background: bool = False,
    ) -> None:  # fmt: skip
        weights = (false_positives, false_negatives)
        if not (min(weights) >= 0 and max(weights) > 0 and gamma > 0):
            raise InputError(
                "loss tversky: expected false_positives and false_negatives >= 0, not both 0, and gamma > 0, got "
                f"false_positives={false_positives}, false_negatives={false_negatives}, gamma={gamma}"
            )
        super().__init__(labels, "tversky", smooth=smooth, batch=batch, background=background)
        self.false_positives, self.false_negatives, self.gamma = *weights, gamma

    def cost(self, counts: SoftCounts) -> Float[Tensor, " n"]:
        """Mean over classes, in [0, 1]."""
        index = tversky_index(
            counts, false_positives=self.false_positives, false_negatives=self.false_negatives, smooth=self.smooth
        )
        return counts.mean(above_zero(1 - index) ** self.gamma)
