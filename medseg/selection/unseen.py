"""Out-of-fold prediction: each case by the network of a member that did not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from omegaconf import OmegaConf

from medseg.data.case import Case, first_five
from medseg.data.dataset import Dataset
from medseg.errors import InputError
from medseg.factory import split
from medseg.factory.dataset import build_dataset
from medseg.prediction import restore
from medseg.sample import Sample
from medseg.selection.members import Member
from medseg.training.rerun import check_targets


class Unseen:
    """The out-of-fold cases of some members, and predictions of them.

    Attributes:
        source: The dataset of the first run.
        cases: The out-of-fold cases by name, in alphabetical order.

    Args:
        members: The members.
        root: Folder of the dataset; None for where the first run read it.
        device: ``auto``, ``cpu``, ``cuda`` and so on.
        trust: Modules whose classes the stored configurations may name.

    Raises:
        InputError: The stored configuration names classes that are neither medseg's own nor trusted, or cases are
            missing.
    """

    def __init__(
        self, members: Sequence[Member], *, root: str | None, device: str, trust: Sequence[str] | str = ()
    ) -> None:
        self._members, self._device, self._trust = members, device, trust
        self._loaded: dict[tuple[Path, bool | None], restore.FilePredictor] = {}
        self.source, self.cases = _out_of_fold(members[0], root, trust)

    def read(self, case: str) -> Sample:
        """A labelled case."""
        return self.source.read(self.cases[case])

    def in_order_of_networks(self) -> list[str]:
        """The cases, those of the same networks one after another, so that each network is loaded once."""
        return sorted(self.cases, key=lambda case: ([member.network_of[case] for member in self._members], case))

    def probability(self, place: int, sample: Sample, flips: bool | None) -> Float[np.ndarray, "k *s"]:
        """Probabilities by the network of a member that did not see the case; its other networks are dropped.

        Args:
            place: Of the member.
            sample: The case.
            flips: Mirrors at test time; None as the training says.
        """
        member = self._members[place]
        network = member.networks[member.network_of[sample.case]]
        key = (network.path, flips)
        if key not in self._loaded:
            own = {other.path for other in member.networks}
            self._loaded = {other: held for other, held in self._loaded.items() if other[0] not in own}
            self._loaded[key] = restore.predictor(network, device=self._device, flips=flips, trust=self._trust)
        return self._loaded[key].arrays.index_and_prob(sample)[1]


def _out_of_fold(member: Member, root: str | None, trust: Sequence[str] | str) -> tuple[Dataset, Mapping[str, Case]]:
    network = member.networks[0]
    stored = {key: network.metadata.config[key] for key in ("data", "split")}
    check_targets(stored, str(network.path), trust)
    config = OmegaConf.create(stored)
    if root is not None:
        config.data.root = root
    source = build_dataset(config)
    by_name = {case.id: case for case in split.labelled(config.split, source)}
    if missing := sorted(member.network_of.keys() - by_name.keys()):
        raise InputError(
            f"runs: {len(missing)} out-of-fold cases are not in the data of {network.path} ({first_five(missing)}); "
            "set data.root to the folder that the runs were trained on"
        )
    return source, {case: by_name[case] for case in sorted(member.network_of)}
