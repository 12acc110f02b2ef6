"""Supervised training: a network, a loss, patches in, whole cases judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import fsum, nan
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medseg.labels import IGNORE, LabelTable
from medseg.losses.weighted_sum import WeightedSum
from medseg.methods.method import Method, gathered
from medseg.methods.outputs import Logits, encoder_features, split_outputs
from medseg.methods.streams import labelled
from medseg.methods.val_patches import fixed_patches
from medseg.sample import Batch

Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]
"""(logits or list of logits fine to coarse, label, valid) -> (loss, its parts by name).

A ``WeightedSum`` gets as a fourth argument what its terms may ask for by name, see ``medseg.losses.term.needs``.
"""
Judge = Callable[..., np.ndarray]
"""(pred, label, valid) of a whole case -> counts, such as a confusion matrix.

Of a case that does not annotate every class, ``annotated=`` tells which outputs of the network it does.
"""
Summarise = Callable[..., dict[str, float]]
"""Counts of all cases -> scores by the end of their key; ``dice`` is one of them.

Where some case does not annotate every class, ``annotated=`` has what ``Judge`` got of each case, None for all.
"""


class Supervised(Method):
    """Trains on labelled patches; validates on whole cases.

    ``val/loss`` is the training loss on fixed patches of each validation case (``fixed_patches``), cut from the logits
    that the scores come from too: those of overlapping windows, without augmentation, at full resolution. It is
    the mean over cases, of a large one the mean over its tiles; cases without a counted cell are left out.

    Args:
        network: Maps ``[b, c, *s]`` to logits ``[b, k, *s]``, or in training to a list of them, or to a mapping
            of ``logits`` and other outputs by name; it also takes ``Batch.context_for`` it.
        loss: Called with logits, label and valid.
        logits: Maps (image ``[c, *s]``, network) to logits ``[k, *s]``, for whole cases; likewise.
        decide: Maps such logits to training indices ``[*s]``.
        judge: Counts of a whole case.
        summarise: Scores of all cases, from their counts.
        labels: The label table.
        patch: Cells of the patches of ``val/loss`` on each axis.
        val_patches: How many of them in each case; with 0 there is no ``val/loss``.
        case_scores: Of a network that classifies cases, scores of (probabilities ``[n, m]``, classes ``[n]``) of all
            cases by name, logged as ``val/case_<name>``; None without such.
        shared: What every ``Method`` takes.
    """

    monitor = ("val/dice", "max")

    def __init__(
        self,
        network: nn.Module,
        *,
        loss: Loss,
        logits: Callable[..., Tensor],
        decide: Callable[[Tensor], Tensor],
        judge: Judge,
        summarise: Summarise,
        labels: LabelTable,
        patch: Sequence[int],
        val_patches: int = 4,
        case_scores: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(network, **shared)
        self.loss = loss
        self.logits = logits
        self.decide = decide
        self.judge = judge
        self.summarise = summarise
        self.labels = labels
        self.patch = tuple(patch)
        self.val_patches = val_patches
        self._counts: dict[str, np.ndarray] = {}
        self._annotated: dict[str, np.ndarray | None] = {}
        self._held_out: dict[str, list[float | None]] = {}
        self.case_scores = case_scores
        self._classes: dict[str, tuple[np.ndarray, int]] = {}

    @classmethod
    def monitors(cls, scores: Sequence[str]) -> tuple[str, ...]:
        """``val/loss`` and the scores of validation."""
        return ("val/loss", *(f"val/{name}" for name in scores))

    def infer(self, image: Tensor, network: nn.Module, **context: Tensor) -> Tensor:
        """Training indices ``[*s]`` of a whole image ``[c, *s]``."""
        return self.decide(self.logits(image, network, **context))

    def training_step(self, batch: Batch | Mapping[str, Batch], batch_idx: int) -> Tensor:
        """Loss of one batch of augmented patches; of several streams, of all of their patches together."""
        batch = labelled(batch)
        loss, parts = self.supervised_loss(batch)
        self.log_losses({"loss": loss, **parts}, len(batch.image))
        return loss

    def supervised_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of labelled patches, and its parts by name."""
        return self.loss_of(batch, *self.outputs_of(batch))

    def outputs_of(self, batch: Batch, network: nn.Module | None = None) -> tuple[Logits, dict[str, Any]]:
        """Logits of patches, and what loss terms may ask for besides: other outputs, and features of the encoder.

        Args:
            batch: The patches.
            network: What gives them; None for the network that is trained.
        """
        network = self.network if network is None else network
        wanted = isinstance(self.loss, WeightedSum) and self.loss.reads_features
        with encoder_features(network, wanted=wanted) as features:
            logits, named = split_outputs(network(batch.image, **batch.context_for(network)))
        return logits, {**named, **features}

    def loss_of(self, batch: Batch, logits: Logits, further: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of what ``outputs_of`` gave for labelled patches, and its parts by name."""
        inside = self._inside(batch)
        further = {**further, **_of_cases(batch), "annotated": batch.annotated, "soft": None}
        if batch.soft is not None:
            first, *space = inside
            further["soft"] = batch.soft[(first, slice(None), *space)]
        further["image"] = batch.image[(slice(None), *inside)]
        return self._loss(logits, batch.label[inside], batch.valid[inside], further)

    def _loss(
        self, logits: Any, label: Tensor, valid: Tensor, further: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, which gets what its terms may ask for if it has terms."""
        if isinstance(self.loss, WeightedSum):
            return self.loss(logits, label, valid, {**further, "progress": self.progress})
        return self.loss(logits, label, valid)

    def _inside(self, batch: Batch) -> tuple[slice, ...]:
        """The cells of a batch that the network gives logits of: all but its margin."""
        space = batch.label.shape[1:]
        margin = getattr(self.network, "margin", ()) or (0,) * len(space)
        return (slice(None), *(slice(m, n - m) for m, n in zip(margin, space, strict=True)))

    def on_validation_epoch_start(self) -> None:
        """Forget the counts of the last round."""
        super().on_validation_epoch_start()
        self._counts, self._held_out, self._annotated, self._classes = {}, {}, {}, {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one whole case (or a tile of a large one), from overlapping windows."""
        context: dict[str, Any] = {name: fact[0] for name, fact in batch.context_for(self.network).items()}
        case_logits: list[Tensor] = []
        if self.case_scores is not None:
            context["case_logits"] = case_logits
        logits = self.logits(batch.image[0], self.network, **context)
        self._add_class(batch, case_logits)
        label, valid = batch.label[0].cpu().numpy(), batch.valid[0].cpu().numpy()
        own = {} if batch.annotated is None else {"annotated": batch.annotated[0].cpu().numpy()}
        counts = self.judge(self.decide(logits).cpu().numpy(), label, valid, **own)
        case = batch.cases[0]
        self._annotated[case] = own.get("annotated")
        if self.val_patches:
            tiles = self._held_out.setdefault(case, [])
            tiles.append(self._loss_of(logits, batch, label, valid & (label != IGNORE), f"{case} {len(tiles)}"))
        self._counts[case] = self._counts[case] + counts if case in self._counts else counts

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss`` and the scores of all cases: ``val/dice``, ``val/dice/<class>`` and what else there is."""
        super().on_validation_epoch_end()
        counts, annotated = gathered(self._counts), gathered(self._annotated)
        own = [annotated[case] for case in counts]
        partial = {"annotated": own} if any(outputs is not None for outputs in own) else {}
        for name, score in self.summarise(list(counts.values()), **partial).items():
            self.log(f"val/{name}", score, prog_bar=name == "dice")
        self._log_classes()
        if self.val_patches:
            tiles = [[loss for loss in of_case if loss is not None] for of_case in gathered(self._held_out).values()]
            means = [fsum(losses) / len(losses) for losses in tiles if losses]  # the order of cases does not matter
            self.log("val/loss", fsum(means) / len(means) if means else nan)

    def _log_classes(self) -> None:
        """Log how well the classes of cases are found, if the network gives them."""
        if self.case_scores is not None:
            for name, score in self.case_scores(*_joined(list(gathered(self._classes).values()))).items():
                self.log(f"val/case_{name}", score)

    def _add_class(self, batch: Batch, case_logits: Sequence[Tensor]) -> None:
        """Keep the probabilities of the class of a case in every window; of a large case, in those of all tiles."""
        if not case_logits or batch.case_label is None:
            return
        prob = torch.cat(list(case_logits)).softmax(dim=1).numpy()
        before, label = self._classes.get(batch.cases[0], (prob[:0], int(batch.case_label[0])))
        self._classes[batch.cases[0]] = np.concatenate([before, prob]), label

    def _loss_of(self, logits: Tensor, batch: Batch, label: np.ndarray, counted: np.ndarray, name: str) -> float | None:
        """Loss on the patches of one tile; None where none of their cells counts."""
        cuts = fixed_patches(label, counted, self.patch, self.val_patches, name=name)
        if not any(counted[cut].any() for cut in cuts):
            return None
        places: list[Any] = [(..., *cut) for cut in cuts]
        whole = (logits, batch.label[0], batch.valid[0], batch.image[0])
        of_logits, of_label, of_valid, image = (torch.stack([cells[place] for place in places]) for cells in whole)
        annotated = None if batch.annotated is None else batch.annotated.expand(len(places), -1)
        return float(self._loss(of_logits, of_label, of_valid, {"image": image, "annotated": annotated})[0])


def _of_cases(batch: Batch) -> dict[str, Tensor]:
    """Facts and classes of the cases of a batch, which terms may ask for; those that there are."""
    named = {"facts": batch.facts, "case_label": batch.case_label}
    return {name: value for name, value in named.items() if value is not None}


def _joined(cases: Sequence[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean probability of each case over its windows ``[n, m]``, and its class ``[n]``."""
    means = [prob.mean(axis=0) for prob, _ in cases]
    return np.array(means).reshape(len(cases), -1), np.array([label for _, label in cases], dtype=np.int64)
