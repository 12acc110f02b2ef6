"""Rerun: the configuration of an earlier run, and the differences between its results and those of the repetition."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.hydra_app.conf import conf_dir
from medseg.runtime.values import leaves
from medseg.training.stored_config import read_config

_OWN = ("rerun", "run_dir", "cache_dir", "trust", "engine")
"""Keys of the command itself, which are not those of the earlier run."""
_DIRECTIVES = ("_target_", "_partial_", "_recursive_", "_convert_")


def configuration(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration of the run ``cfg.rerun``, with the single keys that the command overrides.

    Data and weights are read from where the earlier run read them. Keys that a newer version has in addition get their
    defaults.

    Args:
        cfg: The configuration that the command composes.
        overrides: Words of the command, such as ``rerun=runs/a`` and ``seed=1``.

    Raises:
        InputError: No such run; a configuration that names other classes than medseg's own options do, unless their
            module is in ``cfg.trust``; or an override of a group, or of a key that it does not have.
    """
    file = Path(str(cfg.rerun)) / "config.yaml"
    stored = _read(file)
    check_targets(stored, str(file), cfg.get("trust") or ())
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    repeated = OmegaConf.create({key: value for key, value in plain.items() if key not in stored} | stored)
    run_dir = Path("runs") / str(stored.get("name", "rerun")) / Path(str(cfg.run_dir)).name
    keys = {word.partition("=")[0] for word in overrides}
    repeated.run_dir = str(cfg.run_dir) if "run_dir" in keys else str(run_dir)
    repeated.cache_dir, repeated.trust, repeated.engine = cfg.cache_dir, cfg.trust, cfg.engine
    repeated.rerun = repeated.ckpt_path = repeated.sweep = None
    OmegaConf.set_struct(repeated, True)
    for word in overrides:
        key, _, value = word.partition("=")
        if key.partition(".")[0] in _OWN:
            continue
        if key not in dict(leaves(stored, empty=True)) or "/" in key:
            raise InputError(
                f"{key}: is no single key of {file}, whose options are those of the earlier run; override keys such "
                "as seed or trainer.max_steps, or train without rerun"
            )
        OmegaConf.update(repeated, key, yaml.safe_load(value))
    return repeated


def _read(file: Path) -> dict[str, object]:
    if not file.is_file():
        raise InputError(f"rerun={file.parent}: has no config.yaml; expected the folder of a run")
    return read_config(file, "restore it, or train without rerun")


def check_targets(config: Mapping[str, object], source: str, trust: Sequence[str] | str) -> None:
    """Raise if a configuration would build anything that medseg's own options do not name, before Hydra sees it.

    Args:
        config: Plain values.
        source: Name of the file, for messages.
        trust: Modules of the user, whose classes are allowed too.

    Raises:
        InputError: A class or a setting that is not allowed; names the key and how to trust the class.
    """
    from medseg.factory import trust as trusting

    trusted, own = trusting.names(trust), set(_own_targets())
    for key, node in trusting.nodes(dict(config), "config", source):
        if not isinstance(node, Mapping):
            continue
        _check_directives(node, f"{source}: {key}")
        for word, target in _class_paths(node):
            if target not in own and not _is_below(str(target), trusted):
                raise InputError(
                    f"{source}: {key}.{word}={str(target)[:200]}: medseg's own options name no such class; if it is "
                    f"your own, add trust=[{str(target).partition('.')[0][:60]}]"
                )


def _check_directives(node: Mapping[object, object], at: str) -> None:
    """Raise on a word of Hydra, such as ``_args_``, that no option of medseg has."""
    words = [str(word) for word in node]
    if strange := [w for w in words if w.startswith("_") and w.endswith("_") and w not in _DIRECTIVES]:
        raise InputError(f"{at}.{strange[0]}: is no setting of an option; take it out, or train without rerun")


def _is_below(target: str, trusted: Sequence[str]) -> bool:
    """Whether a class path is that of a trusted module or class, or lies in one."""
    return any(target == name or target.startswith(f"{name}.") for name in trusted)


def _class_paths(node: Mapping[object, object]) -> Iterator[tuple[str, object]]:
    """Class paths that a mapping would import, each with its key: ``_target_``, and metrics by their class paths."""
    from medseg.metrics.registry import class_paths

    if node.get("_target_") is not None:
        yield "_target_", node["_target_"]
    for path in class_paths(node.get("metrics")):
        yield "metrics", path


def _own_targets() -> Iterator[str]:
    """Every class that an option of the package names."""
    for path in sorted(conf_dir().rglob("*.yaml")):
        yield from (
            str(value)
            for key, value in leaves(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
            if key.endswith("_target_")
        )


def differences(earlier: Path, now: Path) -> list[str]:
    """Lines that list the differences of two runs: code, libraries, machine, data, weights; then scores.

    Args:
        earlier: Folder of the run that was repeated.
        now: Folder of the repetition.
    """
    before, after = (_json(folder / "provenance.json") for folder in (earlier, now))
    return [*_of_provenance(before, after), *_of_scores(_means(earlier), _means(now))]


def _of_provenance(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Lines about code, libraries, machine, data and weights."""
    for key, what in (("medseg", "medseg"), ("code", "code"), ("python", "Python"), ("hardware", "machine")):
        if before.get(key) != after.get(key):
            yield f"{what} differs: {_short(before.get(key))} then, {_short(after.get(key))} now"
    if libraries := _changes(before.get("packages") or {}, after.get("packages") or {}):
        yield f"libraries differ: {libraries}"
    for key, part in (("data", "data"), ("weights", "initial weights")):
        if _digest(before, key) != _digest(after, key):
            yield f"the {part} differ in content (digest in provenance.json)"


def _digest(provenance: Mapping[str, Any], key: str) -> object:
    """Digest of a part; None if there is none."""
    return (provenance.get(key) or {}).get("digest")


def _of_scores(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    """A line about the scores, if both runs have some."""
    if old and new:
        scores = _changes(old, {name: new.get(name) for name in old})
        yield f"scores differ: {scores}" if scores else "all scores are those of the earlier run"


def _changes(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """The names whose values differ, with both values; empty if there are none."""
    names = dict.fromkeys([*old, *new])
    differing = [name for name in names if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {old.get(name)} then, {new.get(name)} now" for name in differing)


def _means(folder: Path) -> dict[str, Any]:
    """Mean of each metric of a run; empty without scores."""
    summary = _json(folder / "metrics.json").get("summary") or {}
    return {name: entry.get("mean") for name, entry in summary.items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
