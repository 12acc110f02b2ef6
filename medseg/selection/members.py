"""Members: configurations that may predict together, each with a network for every fold and the cases it never saw."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg import checkpoint
from medseg.checkpoint import Checkpoint
from medseg.data.case import first_five
from medseg.errors import InputError, rename_keys
from medseg.inference.ensemble import check_same
from medseg.prediction.checkpoints import runs_of
from medseg.sweeps.runs import FOLD
from medseg.training.resume import differences


@dataclass(frozen=True)
class Member:
    """A configuration: the networks of its folds.

    Attributes:
        name: Unique among the members.
        networks: Checkpoint of each fold.
        network_of: The network that predicts each out-of-fold case, by its place in ``networks``.
    """

    name: str
    networks: tuple[Checkpoint, ...]
    network_of: Mapping[str, int]


def read_members(runs: Sequence[str | Path], checkpoint_name: str = "best") -> list[Member]:
    """The members of a selection.

    Args:
        runs: Folders: cross-validations, each with a run for every fold, or single runs.
        checkpoint_name: Which checkpoint of each run: ``best`` or ``last``.

    Raises:
        InputError: A folder without runs, a run without a checkpoint, networks with other classes or channels than the
            first, members of other cases or other data, or a case that was trained on by the network that would
            predict it.
    """
    if not runs:
        raise InputError("runs=[]: expected folders of cross-validations or of runs, such as runs=[runs/a,runs/b]")
    folders = [Path(run) for run in runs]
    members = [
        _member(name, [_checkpoint(run, checkpoint_name) for run in _runs(folder)])
        for name, folder in zip(_names(folders), folders, strict=True)
    ]
    for member in members[1:]:
        _check_cases(members[0], member)
    _check_networks([network for member in members for network in member.networks])
    return members


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell all folders apart."""
    absolute = [Path(os.path.abspath(folder)) for folder in folders]
    for depth in range(1, max(len(path.parts) for path in absolute) + 1):
        names = ["/".join(path.parts[-depth:]) for path in absolute]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"runs={list(map(str, folders))}: a folder is listed twice; list each once")


def _runs(folder: Path) -> list[Path]:
    """The run folders of a cross-validation, or the folder itself if it is a run.

    Raises:
        InputError: Neither.
    """
    runs = runs_of(folder)
    if not runs:
        raise InputError(
            f"runs: {folder} holds no run (a folder with config.yaml and checkpoints), and no cross-validation; give "
            "the run_dir of medseg-train, or of medseg-train -m split.fold=0,1,2,3,4"
        )
    return runs


def _checkpoint(run: Path, name: str) -> Checkpoint:
    path = run / "checkpoints" / f"{name}.ckpt"
    if not path.is_file():
        raise InputError(f"runs: {run} has no checkpoints/{name}.ckpt; train it to its end, or leave it out")
    return checkpoint.read(path)


def _member(name: str, networks: Sequence[Checkpoint]) -> Member:
    """Assign each out-of-fold case its network.

    Raises:
        InputError: A network that was trained on its validation cases, two networks for one case, or networks that
            differ in more than their fold.
    """
    network_of: dict[str, int] = {}
    for network in networks[1:]:
        _check_alike(networks[0], network)
    for number, network in enumerate(networks):
        train, val = _part(network, "train"), _part(network, "val")
        if seen := sorted(set(val) & set(train)):
            raise InputError(
                f"runs: {network.path} was trained on {len(seen)} of the cases that it validates on "
                f"({first_five(seen)}), as with split.fold=all; only predictions of unseen cases are evidence"
            )
        for case in val:
            if network_of.setdefault(case, number) != number:
                raise InputError(
                    f"runs: case {case} validates in {networks[network_of[case]].path} and in {network.path}; a "
                    "configuration has one run for each fold: name several configurations or seeds one by one"
                )
    return Member(name, tuple(networks), network_of)


def _check_alike(first: Checkpoint, other: Checkpoint) -> None:
    """Raise if two networks of a configuration differ in more than their fold."""
    differing = dict(differences(first.metadata.config, other.metadata.config))
    if more := [key for key in differing if key != FOLD]:
        values = " and ".join(map(str, differing[more[0]]))
        raise InputError(
            f"runs: {first.path} and {other.path} differ in {more[0]} ({values}); name each configuration one by one: "
            "of a sweep over folds and settings, the folder of each setting"
        )


def _part(network: Checkpoint, part: str) -> list[str]:
    cases = network.metadata.provenance.get("data", {}).get(part)
    if not isinstance(cases, list):
        raise InputError(f"runs: {network.path} does not say which cases its run trained on; train it again")
    return [str(case) for case in cases]


def _check_cases(first: Member, other: Member) -> None:
    """Raise if two members have out-of-fold predictions of other cases."""
    for one, two in ((first, other), (other, first)):
        if lacking := sorted(one.network_of.keys() - two.network_of.keys()):
            raise InputError(
                f"runs: {two.name} has no out-of-fold prediction of {len(lacking)} cases of {one.name} "
                f"({first_five(lacking)}); finish its folds, or give runs of the same folds and data"
            )


def _check_networks(networks: Sequence[Checkpoint]) -> None:
    """Raise if networks take other channels, give other classes, or were trained on other files."""
    files: dict[str, tuple[str, Path]] = {}
    for network in networks:
        with rename_keys(("checkpoint:", "runs:")):
            check_same(networks[0].metadata.spec.of_files, network.metadata.spec.of_files, str(network.path))
        digests: Mapping[str, Any] = network.metadata.provenance.get("data", {}).get("files") or {}
        for case, digest in digests.items():
            if files.setdefault(case, (digest, network.path))[0] != digest:
                raise InputError(
                    f"runs: case {case} had other files in {files[case][1]} than in {network.path}; give runs of the "
                    "same data"
                )
