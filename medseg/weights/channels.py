"""The kernel that takes the image, for other channels than it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights.bands import partners, with_wavelengths

UNNAMED = ("mean", "repeat", "random")
"""Those that do not ask which channel is which."""
_RANDOM = "random"


@dataclass(frozen=True)
class _Part:
    """What one wanted channel gets: shares of trained channels (none: zero), or random values; and why."""

    shares: dict[int, float]
    words: str
    random: bool = False


def adapt(
    kernel: Float[Tensor, "o t *k"],
    trained: Sequence[Channel],
    wanted: Sequence[Channel],
    strategy: str = "auto",
    *,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "o w *k"], tuple[str, ...]]:
    r"""A kernel for the wanted channels, from that of the trained ones.

    .. math:: K'_w = s \sum_t A_{wt} K_t, \quad s = t / n

    with rows of A that sum to 1 or are all 0, t the number of trained channels, n that of wanted channels whose
    row is not 0. So the response has the size that the next layer expects:

    - channels that are the same, in whatever order, give the very response of the trained kernel;
    - ``mean``: on an image that is equal in all channels, the response is exactly that of the trained kernel;
      so for ``repeat`` if the number of wanted channels is a multiple of the trained;
    - all the others (random rows aside): exactly so where trained channels have equal kernels, and else nearly.

    The strategies, of which each applies to all channels:

    - ``name``: copied from the channel of the same name (``B04``, ``B4`` and ``red`` are one), else random;
    - ``wavelength``: linear between the two nearest trained wavelengths; outside their range the nearest
      channel; without a wavelength the mean. Red, green and blue alone have 640, 550 and 470 nm;
    - ``mean``: of all trained channels;
    - ``repeat``: the trained channels in turn;
    - ``zero``: as ``name``, but zero instead of random: a new channel starts without influence;
    - ``random``: normal, with the standard deviation of the trained kernel and mean 0, not multiplied by s;
    - ``auto``: by name where names agree, else by wavelength where both are known, else the mean.

    Args:
        kernel: Trained, in any floating dtype; computed in float32.
        trained: Channels on its second axis.
        wanted: Channels of the data.
        strategy: One of ``STRATEGIES``.
        generator: For random values; None for torch's own.

    Returns:
        The kernel, and for each wanted channel where it is from.

    Raises:
        InputError: An unknown strategy, or one that finds nothing to go by.

    Example:
        >>> kernel = torch.tensor([[[3.0], [6.0], [9.0]]])
        >>> adapt(kernel, [Channel("R"), Channel("G"), Channel("B")], [Channel("CT")])
        (tensor([[[18.]]]), ('mean of all 3, times 3',))
    """
    check_strategy(strategy)
    if len(trained) != kernel.shape[1]:
        raise ValueError(f"{len(trained)} channels of a kernel of {kernel.shape[1]}")
    parts = _RULES[strategy](with_wavelengths(trained), with_wavelengths(wanted))
    factor = len(trained) / sum(bool(part.shares) or part.random for part in parts)
    exact = kernel.float()
    mixed = torch.einsum("ot...,wt->ow...", exact, _shares(parts, len(trained), factor))
    if new := [w for w, part in enumerate(parts) if part.random]:
        mixed[:, new] = _drawn_like(exact, len(new), generator)
    times = "" if abs(factor - 1) < 1e-6 else f", times {factor:.3g}"
    return mixed.to(kernel.dtype), tuple(part.words + (times if part.shares else "") for part in parts)


def _drawn_like(
    kernel: Float[Tensor, "o t *k"], channels: int, generator: torch.Generator | None
) -> Float[Tensor, "o w *k"]:
    """Normal values for some channels, with the standard deviation of the kernel and mean 0."""
    drawn = torch.randn((kernel.shape[0], channels, *kernel.shape[2:]), generator=generator)
    return drawn * kernel.std(correction=0)


def check_strategy(strategy: str) -> None:
    """Raise unless the name is one of ``STRATEGIES``.

    Raises:
        InputError: It is not.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"model.encoder.adapt={strategy} is no strategy; choose one of {', '.join(STRATEGIES)}")


def _shares(parts: Sequence[_Part], n_trained: int, factor: float) -> Float[Tensor, "w t"]:
    """The matrix s A of ``adapt``."""
    shares = torch.zeros(len(parts), n_trained)
    for row, part in zip(shares, parts, strict=True):
        for i, share in part.shares.items():
            row[i] = share * factor
    return shares


def _all_mean(trained: Sequence[Channel], wanted: Sequence[Channel]) -> list[_Part]:
    return [_mean(trained) for _ in wanted]


def _all_random(trained: Sequence[Channel], wanted: Sequence[Channel]) -> list[_Part]:
    return [_Part({}, _RANDOM, random=True) for _ in wanted]


def _repeated(trained: Sequence[Channel], wanted: Sequence[Channel]) -> list[_Part]:
    places = [w % len(trained) for w in range(len(wanted))]
    return [_Part({i: 1.0}, f"repeated from {trained[i].name}") for i in places]


def _all_by_wavelength(trained: Sequence[Channel], wanted: Sequence[Channel]) -> list[_Part]:
    known = any(c.wavelength_nm is not None for c in trained)
    _need(known, "wavelength", "a wavelength", trained, wanted)
    return [_by_wavelength(trained, c) or _mean(trained) for c in wanted]


def _named(trained: Sequence[Channel], wanted: Sequence[Channel]) -> list[_Part]:
    return _copied_or(_Part({}, f"{_RANDOM}: no such name", random=True), "name", trained, wanted)


def _named_or_zero(trained: Sequence[Channel], wanted: Sequence[Channel]) -> list[_Part]:
    return _copied_or(_Part({}, "zero"), "zero", trained, wanted)


def _best_known(trained: Sequence[Channel], wanted: Sequence[Channel]) -> list[_Part]:
    """By name, else by wavelength, else the mean."""
    copied = _copied(trained, wanted)
    return [part or _by_wavelength(trained, c) or _mean(trained) for part, c in zip(copied, wanted, strict=True)]


_RULES: dict[str, Callable[[Sequence[Channel], Sequence[Channel]], list[_Part]]] = {
    "auto": _best_known,
    "name": _named,
    "wavelength": _all_by_wavelength,
    "mean": _all_mean,
    "repeat": _repeated,
    "zero": _named_or_zero,
    "random": _all_random,
}
STRATEGIES = tuple(_RULES)


def _copied(trained: Sequence[Channel], wanted: Sequence[Channel]) -> list[_Part | None]:
    """The channel of the same name; None where there is none."""
    same = partners(trained, wanted)
    return [None if i is None else _Part({i: 1.0}, f"copied from {trained[i].name}") for i in same]


def _copied_or(other: _Part, strategy: str, trained: Sequence[Channel], wanted: Sequence[Channel]) -> list[_Part]:
    """The channel of the same name, else ``other``; at least one has to be copied."""
    copied = _copied(trained, wanted)
    _need(any(copied), strategy, "a name in common", trained, wanted)
    return [part or other for part in copied]


def _need(met: bool, strategy: str, what: str, trained: Sequence[Channel], wanted: Sequence[Channel]) -> None:
    if not met:
        ours, theirs = (", ".join(c.name for c in channels) for channels in (wanted, trained))
        raise InputError(
            f"model.encoder.adapt={strategy} needs {what}: the data has {ours}, the weights have {theirs}; "
            "choose mean, repeat or random"
        )


def _mean(trained: Sequence[Channel]) -> _Part:
    return _Part({i: 1 / len(trained) for i in range(len(trained))}, f"mean of all {len(trained)}")


def _by_wavelength(trained: Sequence[Channel], channel: Channel) -> _Part | None:
    """Linear between the two nearest wavelengths, outside of all the nearest; None if either side is unknown."""
    known = sorted((c.wavelength_nm, i) for i, c in enumerate(trained) if c.wavelength_nm is not None)
    nm = channel.wavelength_nm
    if nm is None or not known:
        return None
    (lowest, first), (highest, last) = known[0], known[-1]
    if lowest <= nm <= highest:
        return _between(trained, known, nm)
    nearest = first if nm < lowest else last
    return _Part({nearest: 1.0}, f"{trained[nearest].name}, the nearest to {nm:g} nm")


def _between(trained: Sequence[Channel], known: Sequence[tuple[float, int]], nm: float) -> _Part:
    """Linear between the neighbours of a wavelength among the ``known`` ones: (nm, place in ``trained``)."""
    below, i = max(pair for pair in known if pair[0] <= nm)
    above, j = min(pair for pair in known if pair[0] >= nm)
    if below == above or i == j:
        return _Part({i: 1.0}, f"{trained[i].name}, of the same {nm:g} nm")
    share = (nm - below) / (above - below)
    words = f"{1 - share:.2f} {trained[i].name} + {share:.2f} {trained[j].name}, by wavelength {nm:g} nm"
    return _Part({i: 1 - share, j: share}, words)
