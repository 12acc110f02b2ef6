"""CasePath: facts of a case in the features of an encoder, and the class of the case from these features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.facts import CaseFacts
from medseg.models.encoders.encoder import Feature
from medseg.models.network import ModelSpec

FILM = "film"
"""Value of ``model.facts``: features are scaled and shifted by facts."""
_HIDDEN = 64
Logits = Tensor | list[Tensor]


class FactsFilm(nn.Module):
    """Scales and shifts every channel of every feature, by numbers that are a function of the facts.

    It begins as the identity.

    Args:
        facts: Numbers that encode the facts.
        features: What is changed, fine to coarse.

    References:
        Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018.
    """

    def __init__(self, facts: int, features: Sequence[Feature]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(facts, _HIDDEN), nn.GELU())
        levels = [nn.Linear(_HIDDEN, 2 * feature.channels) for feature in features]
        for parameter in (parameter for level in levels for parameter in level.parameters()):
            nn.init.zeros_(parameter)
        self.levels = nn.ModuleList(levels)
        self._tokens = [feature.tokens for feature in features]

    def forward(self, features: Sequence[Tensor], facts: Float[Tensor, "b f"]) -> list[Tensor]:
        """The features for these facts."""
        hidden = self.trunk(facts)
        changed = []
        for feature, level, tokens in zip(features, self.levels, self._tokens, strict=True):
            shape = (feature.shape[0], 1, -1) if tokens else (feature.shape[0], -1, *[1] * (feature.ndim - 2))
            scale, shift = (part.to(feature.dtype).view(shape) for part in level(hidden).chunk(2, dim=1))
            changed.append(feature * (1 + scale) + shift)
        return changed


class CaseHead(nn.Module):
    """Logits of the class of a case, from the mean and the maximum of each channel of each feature, and the facts.

    Args:
        facts: Numbers that encode the facts; 0 without facts.
        features: What is read, fine to coarse.
        classes: Number of classes, m.
    """

    def __init__(self, facts: int, features: Sequence[Feature], classes: int) -> None:
        super().__init__()
        width = 2 * sum(feature.channels for feature in features)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width + facts, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, classes))
        self._layouts = [(feature.tokens, feature.prefix) for feature in features]

    def forward(self, features: Sequence[Tensor], facts: Float[Tensor, "b f"]) -> Float[Tensor, "b m"]:
        """Logits of each class."""
        pooled = []
        for feature, (tokens, prefix) in zip(features, self._layouts, strict=True):
            cells = feature[:, prefix:].transpose(1, 2) if tokens else feature.flatten(2)
            pooled += [cells.float().mean(dim=2), cells.float().amax(dim=2)]
        logits: Tensor = self.layers(torch.cat([self.norm(torch.cat(pooled, dim=1)), facts], dim=1))
        return logits


class CasePath(nn.Module):
    """What a network does with facts of a case between its encoder and its decoder.

    Attributes:
        takes_facts: Whether it reads facts.
        classifies: Whether it gives logits of the class of a case.

    Args:
        spec: Data and plan.
        features: What the encoder gives.
        facts: ``film``, or None for features without facts.
    """

    def __init__(self, spec: ModelSpec, features: Sequence[Feature], facts: str | None) -> None:
        super().__init__()
        missing = CaseFacts().encoded_by(spec.facts)
        width = len(missing)
        self.film = FactsFilm(width, features) if facts == FILM else None
        self.head = CaseHead(width, features, spec.case_classes) if spec.case_classes else None
        self.takes_facts = width > 0
        self.classifies = self.head is not None
        # torch.export can't store a tensor without cells
        self.register_buffer("missing", torch.from_numpy(missing) if width else None, persistent=False)

    def forward(
        self,
        features: Sequence[Tensor],
        facts: Float[Tensor, "b f"] | None,
        decode: Callable[[Sequence[Tensor]], Logits],
        *,
        named: bool,
    ) -> Logits | Mapping[str, Logits]:
        """Logits of each cell; with ``named`` in a mapping, with ``case_logits``, if there is a class of cases.

        Args:
            features: Of the encoder.
            facts: Encoded; None where all are missing.
            decode: The decoder.
            named: See above.
        """
        encoded = self._missing(features[0]) if facts is None else facts
        logits = decode(features if self.film is None else self.film(features, encoded))
        if self.head is None or not named:
            return logits
        return {"logits": logits, "case_logits": self.head(features, encoded)}

    def _missing(self, feature: Tensor) -> Float[Tensor, "b f"]:
        """All facts as missing, for a batch of features."""
        if not self.takes_facts:
            return feature.new_zeros((feature.shape[0], 0), dtype=torch.float32)
        return self.get_buffer("missing").expand(feature.shape[0], -1)


def case_path(spec: ModelSpec, features: Sequence[Feature], facts: str | None) -> CasePath | None:
    """The path for the facts and classes of these data; None where there is nothing to do.

    Args:
        spec: Data and plan.
        features: What the encoder gives.
        facts: ``model.facts``: ``film`` or None.

    Raises:
        InputError: Another value, or ``film`` for data without facts.
    """
    if facts not in (None, FILM):
        raise InputError(f"model.facts={facts}: expected {FILM}, or null for features without facts")
    if facts == FILM and not spec.facts:
        raise InputError(
            "model.facts=film: the cases have no facts; add data.table=FILE.csv with a column for each, or leave it out"
        )
    return CasePath(spec, features, facts) if facts or spec.case_classes else None
