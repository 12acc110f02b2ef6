"""Load weights into an encoder, and account for every tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights import essential, frames, order
from medseg.weights import inflate as inflating
from medseg.weights.channels import UNNAMED
from medseg.weights.check_inputs import compare, trained_channels
from medseg.weights.coverage import Loading, refuse_little, refuse_nothing, report
from medseg.weights.fit import Fitted, Inputs, Rules, fit, plausible, shape_of
from medseg.weights.names import Match, match
from medseg.weights.options import WeightOptions
from medseg.weights.positions import COMPUTED, Grids, known
from medseg.weights.pretrained import Pretrained
from medseg.weights.report import Report


def load(
    module: nn.Module,
    found: Pretrained,
    *,
    stem: str | Sequence[str] | None,
    channels: Sequence[Channel],
    options: WeightOptions = WeightOptions(),  # noqa: B008  frozen
    statistics: Mapping[str, Sequence[float]] | None = None,
    grids: Grids | None = None,
    inflate: inflating.How = "centre",
    stem_layout: Literal["first", "last"] = "first",
    inputs: Mapping[str, Inputs] | None = None,
    left_out: Callable[[str], bool] = lambda name: False,
    upstream: order.Shapes = MappingProxyType({}),
    generator: torch.Generator | None = None,
) -> Report:
    """Copy into a module what a file has for it, adapted where channels, grids or axes differ.

    Names need not begin alike; see ``names.match``. If none fits, equal shapes in the same order do, with a warning;
    see ``order.in_order``. A parameter of another shape is adapted if it is the stem (``channels.adapt``), a position
    (``positions``) or a kernel of images in a network of volumes (``inflate.inflate``), and else stays as it was
    initialised, with a warning. Buffers that follow from a window or grid stay the module's own where shapes differ.
    **Nothing is changed unless all is accepted**, and nothing of a module on the meta device, which is only compared
    with the file.

    Args:
        module: Initialised; parameters and buffers are changed in place, in their own dtype and device.
        found: The weights.
        stem: Names in ``module`` of the kernels that take the image (``[o, c, *k]``, or linear on flattened
            patches, ``[o, c * k]``), one or several; None where any channels fit.
        channels: Of the data, in order.
        options: What the user says of the weights, and what need not fit.
        statistics: ``mean`` and ``std`` of the data's channels, in raw values; see ``compare.compare``.
        grids: Grids of tokens and windows, where the encoder knows them. The module's own are read from it where
            it says so, as timm's and MONAI's do; what nobody tells is taken to be square.
        inflate: How kernels of images become kernels of volumes.
        stem_layout: Whether the patches of a linear stem hold their channels first or last.
        inputs: Channels by stem, where stems take different ones, each once; None where all take all of ``channels``.
        left_out: Whether the network of the file has a tensor of this name (of the module) that the module leaves
            out on purpose.
        upstream: Shapes of all tensors of the module's network by name, in order, if the module leaves some out.
        generator: For random kernels; None for torch's own.

    Returns:
        What became of every tensor of the module, and of those of the file that it has no place for.

    Raises:
        InputError: No name fits, too few parameters or not all essential parts are covered, values are not finite or
            quantised, or the strategy has nothing to go by.
    """
    found = options.describe(found)
    own, grids = _Own.of(module), grids or Grids()
    stems = _stems(module, own, stem)
    pairs = _match(own, found, stems, upstream, None if inputs else len(found.channels or channels))
    found, notes = _still(own, found, pairs, stems, options.frames)
    trained, guess = ((), "") if inputs else _trained(own, found, pairs, stems, channels)
    axes = _axes(own, found, pairs, stems, grids)
    rules = Rules(
        stems, trained, tuple(channels), options.adapt, grids, axes, inflate, stem_layout, inputs or {}, generator
    )
    fitted, misfits = _fit_all(module, own, found, pairs, rules, notes)
    fresh = {name: _finished(name, f, own, found, pairs) for name, f in fitted.items()}
    loading = Loading(own.tensors, own.aliases(fitted), found, pairs, fitted, misfits, rules)
    done = report(loading, [guess] if guess else _differences(loading, statistics))
    _check_accepted(done, loading, module, options, left_out)
    put(module, fresh)
    return done


def _still(
    own: _Own, found: Pretrained, pairs: Match, stems: frozenset[str], count: int | None
) -> tuple[Pretrained, Mapping[str, str]]:
    """Weights of clips as those of single images, and how their tensors have changed; see ``frames.without_time``."""
    still = frames.without_time(found.state, own.tensors, pairs.pairs, stems, count)
    return found.with_state(still.state), still.notes


def _stems(module: nn.Module, own: _Own, stem: str | Sequence[str] | None) -> frozenset[str]:
    """Names of the kernels that take the image.

    Raises:
        ValueError: The module has no such tensor.
    """
    stems = frozenset([stem] if isinstance(stem, str) else stem or ())
    if unknown := stems - own.tensors.keys():
        raise ValueError(f"{type(module).__name__} has no {sorted(unknown)}, which the encoder calls its stem")
    return stems


def _differences(loading: Loading, statistics: Mapping[str, Sequence[float]] | None) -> Sequence[str]:
    """Warnings about channels, units and offsets, where the file says what it was trained on."""
    found, rules = loading.found, loading.rules
    if not found.channels:
        return ()
    return compare(found, rules.wanted, statistics, by_name=rules.strategy not in UNNAMED)


def _check_accepted(
    done: Report, loading: Loading, module: nn.Module, options: WeightOptions, left_out: Callable[[str], bool]
) -> None:
    """Raise unless enough of the module and all of its essential parts are covered, or the user accepts less.

    Raises:
        InputError: They are not.
    """
    if done.share < options.least_share:
        raise refuse_little(done, loading.pairs, loading.misfits, options.least_share)
    lacking = essential.problems(done, module, loading.pairs, loading.rules.stems, left_out)
    accepted = {*options.accept, *(["stem"] if options.adapt == "random" else [])}
    if refused := {part: names for part, names in lacking.items() if part not in accepted}:
        raise essential.refuse(done.source, refused)


def _noted(fitted: Fitted, note: str) -> Fitted:
    """With what became of its axis of time ahead of the other notes."""
    return replace(fitted, note=", ".join(n for n in (note, fitted.note) if n))


def put(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into those of a module, in place; into one on the meta device, which holds none, nothing."""
    if not any(tensor.is_meta for tensor in module.state_dict().values() if isinstance(tensor, Tensor)):
        module.load_state_dict(tensors, strict=False)


@dataclass(frozen=True)
class _Own:
    """What a module holds.

    Attributes:
        tensors: Parameters and buffers by name, as its ``state_dict`` has them.
        names: Names of each parameter; more than one where it is shared.
    """

    tensors: dict[str, Tensor]
    names: list[list[str]]

    @classmethod
    def of(cls, module: nn.Module) -> _Own:
        tensors = {name: t for name, t in module.state_dict().items() if isinstance(t, Tensor)}
        shared: dict[int, list[str]] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if name in tensors:
                shared.setdefault(id(parameter), []).append(name)
        return cls(tensors, list(shared.values()))

    @property
    def parameters(self) -> dict[str, int]:
        """Numbers of each parameter."""
        return {name: self.tensors[name].numel() for names in self.names for name in names}

    def aliases(self, covered: Mapping[str, object]) -> dict[str, str]:
        """Of each parameter: the name that counts, a covered one if there is any."""
        firsts = ((names, next((n for n in names if n in covered), names[0])) for names in self.names)
        return {name: first for names, first in firsts for name in names}


def _match(own: _Own, found: Pretrained, stems: frozenset[str], upstream: order.Shapes, count: int | None) -> Match:
    """Names of the module and their partners in the file: by name, else by order.

    Raises:
        InputError: No parameter has a partner of its shape.
    """
    numbers = own.parameters
    shapes = {name: t.shape for name, t in found.state.items()}
    pairs = _by_name(own, numbers, shapes, stems, count)
    if not pairs.covered:
        network = upstream or {name: t.shape for name, t in own.tensors.items()}
        pairs = order.in_order(own.tensors, numbers, network, shapes, stems) or pairs
    if pairs.covered:
        return pairs
    raise refuse_nothing(own.tensors, found, match(numbers, list(shapes), lambda *_: True), list(numbers))


def _by_name(
    own: _Own, numbers: Mapping[str, int], shapes: order.Shapes, stems: frozenset[str], count: int | None
) -> Match:
    """The best match of names; of several networks in a file, one comes first whose stem takes ``count`` channels."""
    buffers = [name for name in own.tensors if name not in numbers]

    def fits(name: str, partner: str) -> bool:
        return plausible(name, own.tensors[name].shape, shapes[partner], stems)

    def fits_exactly(name: str, partner: str) -> bool:
        return fits(name, partner) and (name not in stems or list(shapes[partner][1:2]) == [count])

    pairs = match(numbers, list(shapes), fits_exactly, extra=buffers)
    if all(name in pairs.pairs and fits_exactly(name, pairs.pairs[name]) for name in stems):
        return pairs
    return match(numbers, list(shapes), fits, extra=buffers)


def _trained(
    own: _Own, found: Pretrained, pairs: Match, stems: frozenset[str], wanted: Sequence[Channel]
) -> tuple[tuple[Channel, ...], str]:
    """Channels of the file's stem, and a warning if they are guessed; none where there is no stem."""
    for name in sorted(stems):
        mine, partner = own.tensors[name], pairs.pairs.get(name)
        takes = mine.shape[1]
        if takes % len(wanted) or (mine.ndim > 2 and takes != len(wanted)):
            raise ValueError(f"{name} takes {takes} channels, the data has {len(wanted)}")
        if partner is None:
            continue
        tensor = found.state[partner]
        cells = prod(mine.shape[2:]) if mine.ndim > 2 else takes // len(wanted)
        count = tensor.shape[1] if tensor.ndim > 2 else tensor.numel() // (len(mine) * cells)
        if count:
            return trained_channels(found, count, wanted)
    return (), ""


def _axes(own: _Own, found: Pretrained, pairs: Match, stems: frozenset[str], grids: Grids) -> tuple[int, int]:
    """Spatial axes of the file's images and of the module's, from kernels, or else from the grids."""
    kernels = [name for name in (*sorted(stems), *own.tensors) if _is_kernel(name, own.tensors[name])]
    mine = own.tensors[kernels[0]].ndim - 2 if kernels else grids.ndim or 2
    partner = next((found.state[pairs.pairs[name]].ndim for name in kernels if name in pairs.pairs), 0)
    file = partner - 2 if partner in (4, 5) else grids.trained_ndim or mine
    return file, mine


def _is_kernel(name: str, tensor: Tensor) -> bool:
    """Whether it is a kernel of images or volumes; positions on a grid have as many axes."""
    return tensor.ndim in (4, 5) and "pos" not in name


def _fit_all(
    module: nn.Module, own: _Own, found: Pretrained, pairs: Match, rules: Rules, notes: Mapping[str, str]
) -> tuple[dict[str, Fitted], dict[str, str]]:
    """What the module gets, with ``notes`` on tensors of the file; and of what does not fit, both shapes in words."""
    fitted, misfits = {}, {}
    for name, partner in pairs.pairs.items():
        mine, tensor = own.tensors[name], found.state[partner]
        if COMPUTED.search(name) and mine.shape != tensor.shape:
            continue
        result = fit(name, mine, tensor, replace(rules, grids=known(module, name, rules.grids)))
        if result is None:
            misfits[name] = f"{shape_of(tensor)} in the file, {shape_of(mine)} here"
        else:
            fitted[name] = _noted(result, notes.get(partner, ""))
    firsts = own.aliases(fitted)
    return {name: f for name, f in fitted.items() if firsts.get(name, name) == name}, misfits


def _finished(name: str, fitted: Fitted, own: _Own, found: Pretrained, pairs: Match) -> Tensor:
    """A tensor in the module's dtype.

    Raises:
        InputError: It is quantised, or not finite in the file or in that dtype.
    """
    mine, tensor = own.tensors[name], found.state[pairs.pairs[name]]
    start = f"model.encoder.weights={found.source}: {name} holds"
    if mine.is_floating_point() and not tensor.is_floating_point() and name in own.parameters:
        raise InputError(
            f"{start} {_plain(tensor.dtype)}, expected floating numbers; the weights are quantised: give the file "
            "from before that"
        )
    cast = fitted.tensor.to(mine.dtype)
    for values in (tensor, cast):  # a stem mixes channels, so that one bad value would be many
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise InputError(
                f"{start} {bad} values of {values.numel()} that are not finite as {_plain(values.dtype)}; the "
                "training that wrote them diverged, or they are too large: give another file"
            )
    return cast


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
