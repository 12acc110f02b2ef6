"""Cross-entropy of the class of a case, for networks that classify cases next to their cells."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.labels import LabelTable


class CaseCrossEntropyLoss(nn.Module):
    """Mean cross-entropy over the patches of cases whose class is known; 0 where there is none.

    Each patch is to find the class of its case, also where it does not show what the class depends on.

    Args:
        labels: Classes of cells, of which nothing is read.
        label_smoothing: Share of the target that is spread evenly over the classes, in [0, 1).
    """

    needs: ClassVar[tuple[str, ...]] = ("case_logits", "case_label")
    finest: ClassVar[bool] = True

    def __init__(self, labels: LabelTable, label_smoothing: float = 0.0) -> None:
        super().__init__()
        del labels
        self.label_smoothing = label_smoothing

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        *,
        case_logits: Float[Tensor, "b m"],
        case_label: Int[Tensor, " b"],
    ) -> Float[Tensor, ""]:
        """The loss of a batch; logits and labels of cells are not read."""
        del logits, label, valid
        has_class = case_label >= 0
        if not has_class.any():
            return case_logits.float().sum() * 0
        of_cases = case_logits.float()[has_class]
        return functional.cross_entropy(of_cases, case_label[has_class], label_smoothing=self.label_smoothing)
