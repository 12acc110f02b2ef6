"""What became of every tensor, and the refusals where that is too little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

from torch import Tensor

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights.check_inputs import preparation
from medseg.weights.fit import Fitted, Rules, shape_of
from medseg.weights.names import Match
from medseg.weights.order import WARNING
from medseg.weights.pretrained import Pretrained
from medseg.weights.report import How, Report, Row, percent, some

_RANDOM = "random"


@dataclass(frozen=True)
class Loading:
    """All that is known of one loading, before it is done.

    Attributes:
        own: Tensors of the module.
        firsts: Of each parameter, the name that counts.
        found: The weights.
        pairs: Names of the module beside those of the file.
        fitted: What the module gets.
        misfits: Both shapes, of what is in the file but does not fit.
        rules: How it was fitted.
    """

    own: Mapping[str, Tensor]
    firsts: Mapping[str, str]
    found: Pretrained
    pairs: Match
    fitted: Mapping[str, Fitted]
    misfits: Mapping[str, str]
    rules: Rules


def report(loading: Loading, warnings: Sequence[str]) -> Report:
    """The account of a loading: rows of the module in its order, then those that only the file has."""
    used = set(loading.pairs.pairs.values())
    rows = [_row(loading, name) for name in loading.own]
    rows += [Row(name, "unexpected", t.numel()) for name, t in loading.found.state.items() if name not in used]
    wrong = [f"{name} ({shapes})" for name, shapes in loading.misfits.items()]
    if wrong:
        warnings = [*warnings, f"of another shape in the file, left as initialised: {some(wrong)}"]
    if loading.pairs.by_order:
        warnings = [*warnings, WARNING]
    return Report(
        source=loading.found.source,
        rows=tuple(rows),
        channels=_origins(loading),
        warnings=tuple(warnings),
        prefix=loading.pairs.told(),
        normalisation=preparation(loading.found),
        digest=loading.found.digest,
    )


def _row(loading: Loading, name: str) -> Row:
    numbers = loading.own[name].numel()
    first = loading.firsts.get(name)
    if first is not None and first != name:
        return Row(name, _how(loading, first), numbers, f"the same tensor as {first}", counts=False)
    note = loading.fitted[name].note if name in loading.fitted else loading.misfits.get(name, "")
    return Row(name, _how(loading, name), numbers, note, counts=first is not None)


def _how(loading: Loading, name: str) -> How:
    fitted = loading.fitted.get(name)
    if fitted is None:
        return "random" if name in loading.firsts else "kept"
    if fitted.origins and all(origin == _RANDOM for origin in fitted.origins):
        return "random"
    changed = bool(fitted.note)
    return "adapted" if changed else "copied"


def _origins(loading: Loading) -> tuple[tuple[str, str], ...]:
    """Where each channel is from, in the first of the stems; or in its own, where stems take different ones."""
    rules = loading.rules
    if not rules.stems:
        return ()
    if rules.inputs:
        return tuple(
            (c.name, origin)
            for name, own in rules.inputs.items()
            for c, origin in zip(own.wanted, _origins_of(loading, name) or _nowhere(own.wanted), strict=True)
        )
    told = next((f.origins for name, f in loading.fitted.items() if name in rules.stems), None)
    return tuple((c.name, origin) for c, origin in zip(rules.wanted, told or _nowhere(rules.wanted), strict=True))


def _origins_of(loading: Loading, stem: str) -> tuple[str, ...]:
    return loading.fitted[stem].origins if stem in loading.fitted else ()


def _nowhere(wanted: Sequence[Channel]) -> tuple[str, ...]:
    return ("random: the file has no such kernel",) * len(wanted)


def refuse_little(done: Report, pairs: Match, misfits: Mapping[str, str], least_share: float) -> InputError:
    """The error for weights that cover too little of the module."""
    missing = [name for name in done.named("random") if name not in misfits]
    differences = {
        "missing": some(missing),
        "unexpected": some(done.named("unexpected")),
        "wrong shape": some([f"{name} {shapes}" for name, shapes in misfits.items()], 2),
    }
    parts = [
        f"model.encoder.weights={done.source} covers {percent(done.share)} of the encoder's parameters, expected "
        f"at least {percent(least_share)}",
        *(f"{kind}: {listed}" for kind, listed in differences.items() if listed),
        f"best of the prefixes tried: {pairs.strip or 'none'} in the file, {pairs.add or 'none'} here",
        "give the weights of this very network, or accept these by "
        f"model.encoder.least_share={floor(done.share * 100) / 100:g}",
    ]
    return InputError("; ".join(parts))


def refuse_nothing(own: Mapping[str, Tensor], found: Pretrained, by_name: Match, names: Sequence[str]) -> InputError:
    """The error for weights of which nothing fits.

    Args:
        own: Tensors of the module.
        found: The weights.
        by_name: The best match without regard to shapes.
        names: Of the module's parameters.
    """
    start = f"model.encoder.weights={found.source}: nothing in it fits the encoder"
    way = "it is of another network, or of another size of it: give its own weights, or choose that model.encoder"
    if by_name.covered * 2 > sum(own[name].numel() for name in names):
        name = next(iter(by_name.pairs))
        shapes = f"{shape_of(found.state[by_name.pairs[name]])} in the file, {shape_of(own[name])} here"
        return InputError(f"{start}: names agree, but shapes do not, such as {name} {shapes}; {way}")
    return InputError(
        f"{start}: none of its {len(found.state)} names ({some(list(found.state))}) is one of the encoder's "
        f"{len(names)} ({some(names)}), whatever they begin with, nor are its shapes the encoder's in order; {way}"
    )
