"""Parts of an encoder without which the rest of its weights is worth little, however few parameters they have."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence

from torch import nn

from medseg.errors import InputError
from medseg.weights.names import Match, dotted
from medseg.weights.positions import ABSOLUTE, ALONG_AXIS, TABLE
from medseg.weights.report import Report, some

PARTS = ("stem", "positions", "norm", "deeper")
"""Kernels that take the image; learned positions; normalisation; further layers that only the file has."""
_STATISTICS = ("running_mean", "running_var")
_RESULT = {
    "stem": "the kernel that takes the image would stay random",
    "positions": "learned positions would stay random",
    "norm": "normalisation would stay as initialised",
    "deeper": "the file has further layers of the same kind, so it is of a larger network",
}
_FIX = {
    "stem": "give weights with such a kernel, or set model.encoder.adapt=random to train it anew",
    "positions": "give weights with positions",
    "norm": "give weights with normalisation",
    "deeper": "choose that network",
}


def problems(
    done: Report, module: nn.Module, pairs: Match, stems: Collection[str], left_out: Callable[[str], bool]
) -> dict[str, list[str]]:
    """Names of tensors by the essential part that is not covered by the weights.

    Args:
        done: The account of the loading.
        module: What weights are loaded into.
        pairs: Names of the module and their partners in the file.
        stems: Kernels that take the image.
        left_out: Whether the network of the file has a tensor of this name that the encoder leaves out on purpose.
    """
    random, kept = done.named("random"), done.named("kept")
    norms, parents = set(_normalisation(module)), _parents(done.named("copied", "adapted"))
    parts = {
        "stem": [name for name in random if name in stems],
        "positions": [name for name in random if _is_lost_position(name, parents)],
        "norm": [name for name in [*random, *kept] if name in norms and _up(_up(name)) in parents],
        "deeper": _deeper(done.named("unexpected"), pairs, left_out),
    }
    return {part: names for part, names in parts.items() if names}


def _is_lost_position(name: str, parents: Collection[str]) -> bool:
    """Whether it is a learned position of a module of which the file has other tensors."""
    return any(pattern.search(name) for pattern in (ABSOLUTE, TABLE, ALONG_AXIS)) and _up(name) in parents


def _up(name: str) -> str:
    return name.rpartition(".")[0]


def _parents(names: Sequence[str]) -> set[str]:
    """Every module that holds one of these tensors, at any depth: a module without any is absent from the file."""
    found = {""}
    for name in names:
        while name:
            name = _up(name)
            found.add(name)
    return found


def refuse(source: str, found: dict[str, list[str]]) -> InputError:
    """The error for weights that lack essential parts, or continue where the encoder ends."""
    told = "; ".join(f"{some(names)}: {_RESULT[part]}" for part, names in found.items())
    fixes = ", ".join(dict.fromkeys(_FIX[part] for part in found))
    return InputError(
        f"model.encoder.weights={source}: {told}; {fixes}, or accept it by model.encoder.accept=[{','.join(found)}]"
    )


def _normalisation(module: nn.Module) -> Iterator[str]:
    """Names of the parameters and statistics of layers that normalise."""
    for name, layer in module.named_modules():
        if "norm" in type(layer).__name__.lower():
            own = [leaf for leaf, _ in layer.named_parameters(recurse=False)]
            own += [leaf for leaf, _ in layer.named_buffers(recurse=False) if leaf in _STATISTICS]
            yield from (f"{name}.{leaf}" if name else leaf for leaf in own)


def _deeper(unexpected: Sequence[str], pairs: Match, left_out: Callable[[str], bool]) -> list[str]:
    """Unexpected names that differ from those of covered tensors by the number of a layer only."""
    covered = list(pairs.pairs)
    spelt = dotted([*unexpected, *covered]) if pairs.dotted else {name: name for name in [*unexpected, *covered]}
    known = {_skeleton(spelt[name]) for name in covered if re.search(r"\.\d+\.", f".{spelt[name]}")}
    found = []
    for name in unexpected:
        own = spelt[name]
        if own.startswith(pairs.strip):
            own = pairs.add + own[len(pairs.strip) :]
            if _skeleton(own) in known and not left_out(own):
                found.append(own)
    return found


def _skeleton(name: str) -> str:
    return ".".join("#" if part.isdigit() else part for part in name.split("."))
