"""CascadedPredictor: a network that sees, besides the image, the classes that a first predictor found in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from medseg.inference.case_logits import Placement
from medseg.inference.predictor import CasePredictor, Predictor, Prepare
from medseg.inference.tiling import Tiling
from medseg.sample import DataSpec, Sample, with_class_channel


class CascadedPredictor(Predictor[Prepare]):
    """The second network of a cascade, with the first predictor in front of it.

    The classes that the first one finds are a further channel of the image, of one number a cell. They are decided row
    by row as every prediction, so a case never has logits of both stages in memory.

    Args:
        network: The second network.
        first: Predicts the cells of the image; it takes images without the further channel.
        prepare: Preprocessing of the second network.
        tiling: Its windows, flips and precision.
        spec: Channels of the image files and labels, without the further channel.
        device: Where the network runs.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        first: CasePredictor[Prepare],
        prepare: Prepare,
        tiling: Tiling,
        spec: DataSpec,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(network, prepare=prepare, tiling=tiling, spec=spec, device=device)
        self.first = first

    def prepared(self, sample: Sample, *, in_place: bool = False) -> tuple[Sample, Placement]:
        """The second network's view of a sample, and where its cells lie; the first predictor runs before."""
        image = with_class_channel(sample.image, self.first.index(sample))
        present = None if sample.present is None else np.append(sample.present, True)
        return super().prepared(replace(sample, image=image, present=present), in_place=True)
