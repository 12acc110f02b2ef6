"""Betti matching: which components, loops and cavities of two images lie in the same place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from medseg.errors import InputError

_PLATE = 2
"""Cells by which the first axis grows: those of the plate, and a gap behind it that is in no image."""


class Features(NamedTuple):
    """Cells at which features are born and die as the threshold falls, of all dimensions together.

    Attributes:
        birth: Index along each axis of the cell whose value is the threshold at which each feature appears.
        death: The same of the cell at which it vanishes; -1 along every axis where that is at no cell of the image.
    """

    birth: Int[np.ndarray, "n d"]
    death: Int[np.ndarray, "n d"]


class Matching(NamedTuple):
    """The features of two images: row i of ``shared`` and of ``shared_label`` is one feature of both.

    Attributes:
        shared: Features of the first image that the second has in the same place.
        shared_label: The same features in the second image.
        false: Features that the first image alone has.
        missed: Features that the second image alone has.
        unmatched: Number of false and missed features of each dimension.
    """

    shared: Features
    shared_label: Features
    false: Features
    missed: Features
    unmatched: tuple[int, ...]


def match_features(pred: Float[np.ndarray, " *s"], label: Float[np.ndarray, " *s"]) -> Matching:
    """The matching of a pair of images, see ``match_pairs``."""
    return match_pairs([pred], [label])[0]


def match_pairs(
    preds: Sequence[Float[np.ndarray, " *s"]], labels: Sequence[Float[np.ndarray, " *s"]], threads: int = 1
) -> list[Matching]:
    r"""Match components, loops and cavities of pairs of images by the place where they are (Betti matching).

    A feature is a bar of the barcode of the cells above a falling threshold: cells are connected across faces. Bars
    of both images are matched through the image of the larger values, which contains the two: a bar of an image
    and one of that image belong together if the first is mapped to the second (induced matching). Where two components
    of an image meet, that which is born later dies; so a stronger false component may take the partner of a weaker
    true one that it meets.

    The component that is born first never dies and would match that of the other image wherever they are. So both
    images get a plate of ones in front of the first axis, which becomes that component: every component
    of the images is matched by its place, and an empty image has none.

    Args:
        preds: Images with values in [0, 1], in 2D or 3D.
        labels: As many, of the same shapes; those with values of 0 and 1 only are faster.
        threads: Pairs at the same time; each takes memory of its own.

    Raises:
        InputError: ``topolosses`` is not installed.

    References:
        Stucki et al., Topologically Faithful Image Segmentation via Induced Matching of Persistence Barcodes, ICML
        2023 (without the plate); Stucki et al., Efficient Betti Matching Enables Topology-Aware 3D Segmentation via
        Persistent Homology, 2024, whose compiled code this calls.
    """
    pairs = [(_entry(pred), _entry(label)) for pred, label in zip(preds, labels, strict=True)]
    results: list[Any] = []
    for start in range(0, len(pairs), threads):
        results += compiled().compute_matching(*map(list, zip(*pairs[start : start + threads], strict=True)))
    return [_matching(result, preds[0].ndim) for result in results]


def _matching(result: Any, ndim: int) -> Matching:
    """What ``topolosses`` returns, without the plate."""

    def features(name: str) -> Features:
        return Features(*(_cells(getattr(result, f"{name}_{end}_coordinates"), ndim) for end in ("birth", "death")))

    return Matching(
        shared=features("input1_matched"),
        shared_label=features("input2_matched"),
        false=features("input1_unmatched"),
        missed=features("input2_unmatched"),
        unmatched=tuple(int(n) for n in result.num_unmatched_input1 + result.num_unmatched_input2),
    )


def _entry(values: Float[np.ndarray, " *s"]) -> Float[np.ndarray, " *t"]:
    """When each cell enters as the threshold falls, with the plate in front."""
    padded = np.pad(values.astype(np.float64), [(_PLATE, 0), *[(0, 0)] * (values.ndim - 1)])
    padded[0] = 1
    return np.ascontiguousarray(1 - padded)


def _cells(by_dimension: Any, ndim: int) -> Int[np.ndarray, "n d"]:
    """Cells of the image itself, without the plate."""
    cells = np.concatenate([np.asarray(cells, dtype=np.int64).reshape(-1, ndim) for cells in by_dimension])
    cells[:, 0] -= _PLATE
    cells[cells[:, 0] < 0] = -1
    return cells


@cache
def compiled() -> ModuleType:
    """The compiled matching of ``topolosses``, without the rest of that package and what it imports.

    Raises:
        InputError: It is not installed, or has no such part.
    """
    package = find_spec("topolosses")
    folders = (package.submodule_search_locations or []) if package else []
    for folder in folders:
        for suffix in EXTENSION_SUFFIXES:
            path = Path(folder, "losses", "betti_matching", "src", f"betti_matching{suffix}")
            if path.is_file():
                loader = ExtensionFileLoader("betti_matching", str(path))
                spec = spec_from_loader("betti_matching", loader)
                assert spec is not None
                module = module_from_spec(spec)
                loader.exec_module(module)
                return module
    raise InputError(
        "Betti matching (loss betti_matching, metric betti_matching_error) needs topolosses, not installed here; pip "
        "install 'medseg[topology]'"
    )
