"""Class weights that the data decide: ``class_weights=auto`` of a loss term becomes numbers by the training cases."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.factory.dataset import store_dir
from medseg.labels import LabelTable
from medseg.losses.class_weights import POWERS, balanced
from medseg.planning.fingerprint import Fingerprint, fingerprint

WORDS = tuple(POWERS)
"""What may stand for weights from the data."""
_LOG = logging.getLogger(__name__)


def words(cfg: DictConfig) -> dict[str, str]:
    """Terms of the loss whose class weights are a word of ``POWERS``, and the word."""
    terms = cfg.loss.get("terms") or {}
    own = {str(name): term.get("class_weights") for name, term in terms.items() if OmegaConf.is_dict(term)}
    return {name: word for name, word in own.items() if isinstance(word, str) and word in POWERS}


def with_weights(cfg: DictConfig, weights: Mapping[str, Mapping[str, float]]) -> DictConfig:
    """The configuration with these class weights by name of the term; a copy, if there are any."""
    if not weights:
        return cfg
    changed = cfg.copy()
    for name, by_class in weights.items():
        OmegaConf.update(changed, f"loss.terms.{name}.class_weights", dict(by_class), merge=False, force_add=True)
    return changed


def without_words(cfg: DictConfig) -> DictConfig:
    """The configuration with no class weights where a word stands for them: to try a loss before data are read."""
    return with_weights(cfg, {name: {} for name in words(cfg)})


def from_cases(cfg: DictConfig, source: Dataset, cases: Sequence[Case]) -> DictConfig:
    """The configuration with class weights by the training cases where a word stands for them; prints them.

    Args:
        cfg: ``conf/train.yaml``, composed.
        source: The dataset.
        cases: The training cases that have labels.
    """
    wanted = words(cfg)
    if not wanted:
        return cfg
    cells = cells_of(fingerprint(source, cases, store_dir(cfg, source), counted=True), source.spec.labels)
    weights = {name: balanced(cells, POWERS[word]) for name, word in wanted.items()}
    for name, by_class in weights.items():
        listed = ", ".join(f"{output} {weight:g}" for output, weight in by_class.items())
        _LOG.info("loss.terms.%s.class_weights=%s: %s", name, wanted[name], listed)
    return with_weights(cfg, weights)


def kept(cfg: DictConfig, stored: Mapping[str, Any]) -> DictConfig:
    """The configuration with the class weights of an earlier run where a word stands for them.

    Args:
        cfg: That of the command, which resumes the run.
        stored: That of the run, with its weights as numbers.
    """
    terms = (stored.get("loss") or {}).get("terms") or {}
    own = {name: (terms.get(name) or {}).get("class_weights") for name in words(cfg)}
    return with_weights(cfg, {name: weights for name, weights in own.items() if isinstance(weights, Mapping)})


def cells_of(pooled: Fingerprint, labels: LabelTable) -> dict[str, int]:
    """Cells of each output of a network: of each region, or of each class."""
    cells = dict(pooled.foreground)
    if labels.background:
        cells = {labels.names[0]: pooled.background or 0} | cells
    if not labels.regions:
        return cells
    by_index = [cells[name] for name in labels.names]
    return {region.name: sum(by_index[i] for i in region.members) for region in labels.regions}
