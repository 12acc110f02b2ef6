"""Partners by order: the last resort for a file whose names fit nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from medseg.weights.names import Match

WARNING = (
    "no name of the file fits: tensors were taken in their order, in which all shapes are those of the network; layers "
    "of one shape may be in each other's place, so compare what the network gives with what its authors show"
)
_LEAST = 8
"""Tensors below which equal shapes in the same order may be chance."""
_COUNTER = "num_batches_tracked"
_LEAVES = {"weight", "bias", "running_mean", "running_var", _COUNTER}
"""Last parts of names that mean the same in every network; they have to agree."""
Shapes = Mapping[str, Sequence[int]]


def in_order(
    own: Collection[str], numbers: Mapping[str, int], network: Shapes, file: Shapes, stems: Collection[str]
) -> Match | None:
    """The tensors of a file as those of a network with the same shapes in the same order; None if there is a doubt.

    Every shape has to agree but for the channels of the stem, the number of classes of the last layer, and layers at
    the end of the network that a file without classifier lacks, or the other way round: at most one weight with its
    bias. Counters of batches are left out where the other side has none.

    Args:
        own: Names of the tensors to load.
        numbers: Numbers of values in those that are parameters.
        network: Shapes by name of the whole network, in its order; it may have more tensors than are to be loaded.
        file: Shapes by name, in the order of the file.
        stems: Names of the kernels that take the image.

    Example:
        >>> shapes = [(4, 3, 3, 3), *[(4,)] * 4, (8, 4, 1, 1), *[(8,)] * 4, (10, 8), (10,)]
        >>> ours, theirs = ({f"{start}{i}": s for i, s in enumerate(shapes)} for start in ("layer", "number"))
        >>> in_order(["layer0"], {"layer0": 108}, ours, theirs, ["layer0"]).pairs
        {'layer0': 'number0'}
    """
    if _scalars(network) != _scalars(file):
        network, file = _without_counters(network), _without_counters(file)
    body = len(_without_classifier(network))
    if body < _LEAST or body != len(_without_classifier(file)):
        return None
    ours, theirs = list(network), list(file)
    if not all(_agree(a, b, network, file, stems) for a, b in zip(ours[:body], theirs[:body], strict=True)):
        return None
    if not all(network[a][1:] == file[b][1:] for a, b in zip(ours[body:], theirs[body:], strict=False)):
        return None
    pairs = {a: b for a, b in zip(ours, theirs, strict=False) if a in own}
    return Match(pairs, sum(n for name, n in numbers.items() if name in pairs), by_order=True)


def _agree(name: str, partner: str, network: Shapes, file: Shapes, stems: Collection[str]) -> bool:
    """Whether two tensors have the same shape, but for the channels of a stem, and the same role if names say it."""
    ours, theirs = tuple(network[name]), tuple(file[partner])
    roles = {name.rpartition(".")[2], partner.rpartition(".")[2]}
    if len(roles & _LEAVES) > 1:
        return False
    if name in stems and len(ours) == len(theirs) > 2:
        return ours[:1] + ours[2:] == theirs[:1] + theirs[2:]
    return ours == theirs


def _scalars(shapes: Shapes) -> int:
    return sum(not len(shape) for shape in shapes.values())


def _without_counters(shapes: Shapes) -> dict[str, Sequence[int]]:
    return {name: shape for name, shape in shapes.items() if not name.endswith(_COUNTER)}


def _without_classifier(shapes: Shapes) -> list[str]:
    """Names without those of a linear layer at the end."""
    names = list(shapes)
    last = [tuple(shapes[name]) for name in names[-2:]]
    if len(last) == 2 and len(last[0]) == 2 and last[1] == last[0][:1]:
        return names[:-2]
    return names[:-1] if last and len(last[-1]) == 2 else names
