"""The entries of ``cfg.streams``, held to the kinds of their values and to what the method uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.data.streams import MAIN
from medseg.errors import InputError
from medseg.methods.method import Method
from medseg.runtime.values import shown

WITHOUT_LABEL = "unlabelled"
"""What ``cases`` says for those that ``split`` leaves without labels."""
PARTS = ("data", "split", "sampling", "transform")
"""Parts of the configuration of which a stream may have its own."""


@dataclass(frozen=True)
class StreamSettings:
    """One entry of ``cfg.streams``, as it is written there.

    Attributes:
        rate: Samples for each sample of the main stream.
        labelled: Whether labels are read.
        data: Keys on top of those of ``cfg.data``, or with ``_target_`` a dataset of its own; None for the main one.
        split: Keys on top of those of ``cfg.split``; None for all cases of a dataset of its own, and for the split of
            the main one.
        cases: Names of cases; ``unlabelled`` for those of the main dataset that have no label, or that
            ``split.n_labelled`` leaves without; None for all.
        sampling: As ``data``, of ``cfg.sampling``.
        transform: As ``data``, of ``cfg.transform``.
        strong: Keys of a second view on top of those of ``transform``; None for one view.
    """

    rate: float = 1.0
    labelled: bool = True
    data: Mapping[str, Any] | None = None
    split: Mapping[str, Any] | None = None
    cases: str | Sequence[str] | None = None
    sampling: Mapping[str, Any] | None = None
    transform: Mapping[str, Any] | None = None
    strong: Mapping[str, Any] | None = None


def stream_settings(cfg: DictConfig, method: type[Method]) -> dict[str, StreamSettings]:
    """The entries of ``cfg.streams``, which the method uses.

    Raises:
        InputError: A key or value that no stream has, or a stream that the method does not use or lacks.
    """
    content: Any = OmegaConf.to_container(cfg.get("streams") or OmegaConf.create({}), resolve=True)
    streams = {str(name): _settings(str(name), entry) for name, entry in content.items() if entry is not None}
    if streams and cfg.get("first_stage"):
        raise InputError(f"streams={list(streams)}: the second stage of a cascade has one stream; leave them out")
    _check_use(_option(cfg), method, streams)
    return streams


def _check_use(word: str, method: type[Method], streams: Mapping[str, StreamSettings]) -> None:
    """Raise on streams without labels that the method does not use, or lacks."""
    without = [name for name, one in streams.items() if not one.labelled]
    if without and method.unlabelled == "refused":
        raise InputError(
            f"{word} does not use the unlabelled stream {without[0]}; leave it out ('~streams.{without[0]}'), or "
            "choose a method that does, such as method=mean_teacher"
        )
    if not without and method.unlabelled == "needed":
        raise InputError(f"{word} needs a stream without labels; add streams=unlabelled split.n_labelled=N")
    plain = [name for name in without if method.views and streams[name].strong is None]
    if plain:
        raise InputError(
            f"{word} compares two views, and the stream {plain[0]} has one; add '+streams.{plain[0]}.strong={{}}'"
        )


def _option(cfg: DictConfig) -> str:
    """The method as words of a command name it."""
    module = str(cfg.method.get("_target_", "")).rpartition(".")[0]
    return f"method={module.rpartition('.')[2]}"


def _settings(name: str, entry: Any) -> StreamSettings:
    """One entry, held to the kinds of its values."""
    key = f"streams.{name}"
    if not name.isidentifier() or name == MAIN:
        raise InputError(f"{key}: expected a name of letters, digits and underscores other than {MAIN}")
    if not isinstance(entry, dict):
        raise InputError(f"{key}={shown(entry)}: expected a mapping, such as {{labelled: false, cases: unlabelled}}")
    keys = [field.name for field in fields(StreamSettings)]
    if wrong := [k for k in entry if k not in keys]:
        raise InputError(f"{key}.{wrong[0]} is no setting of a stream, which takes {', '.join(keys)}")
    _check_numbers(key, entry)
    for part in (*PARTS, "strong"):
        if not isinstance(entry.get(part), (dict, type(None))):
            raise InputError(
                f"{key}.{part}={shown(entry[part])}: expected keys on top of those of the training, such as "
                f"{{KEY: VALUE}}; a whole option is chosen by '+{part}@{key}.{part}=OPTION'"
            )
    _check_cases(key, entry.get("cases"), entry, entry.get("labelled", True))
    return StreamSettings(**entry)


def _check_numbers(key: str, entry: Mapping[str, Any]) -> None:
    """Raise on a rate or a truth value that is none."""
    rate, with_labels = entry.get("rate", 1.0), entry.get("labelled", True)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
        raise InputError(f"{key}.rate={shown(rate)}: expected a number above 0: samples for each of the main stream")
    if not isinstance(with_labels, bool):
        raise InputError(f"{key}.labelled={shown(with_labels)}: expected true or false")


def _check_cases(key: str, cases: object, entry: Mapping[str, object], with_labels: bool) -> None:
    """Raise on what ``cases`` can't be."""
    words = [cases] if isinstance(cases, str) else cases
    if cases is not None and not (isinstance(words, list) and words and all(isinstance(w, str) for w in words)):
        raise InputError(
            f"{key}.cases={shown(cases)}: expected {WITHOUT_LABEL}, a list of names such as [siteB_*], or null"
        )
    if cases == WITHOUT_LABEL and (with_labels or entry.get("data") is not None):
        fix = f"{key}.labelled=false" if with_labels else f"{key}.cases=null, which takes all cases of its dataset"
        raise InputError(f"{key}.cases={cases}: are those of the main dataset without a label; set {fix}")
