"""Runs a command: Hydra in front, one-line errors with the nearest right name, exit code 2."""

from __future__ import annotations

import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medseg.errors import BadInput
from medseg.hydra_app import options
from medseg.hydra_app.local_paths import check_local
from medseg.hydra_app.overrides import from_data, varied, with_open_mappings
from medseg.hydra_app.ranges import check_ranges
from medseg.runtime import disk, signals


def conf_dir() -> Path:
    """Folder of the configuration: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def run(config_name: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose ``conf/<config_name>.yaml`` with the command line's overrides and run ``task`` on it.

    Bad input (``BadInput``, every error of the configuration, a disk that is full or can't be written) is printed as
    one line and ends the process with 2. A signal (SIGINT, SIGTERM, SIGUSR1) ends it with 128 + its number. Other
    exceptions are defects and keep their traceback.

    Args:
        config_name: Without ``.yaml``.
        task: Called with the composed configuration, once a job under ``-m``.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand exceptions to us instead of printing them
    if any(word.partition("=")[0] == "--options" for word in sys.argv[1:]):
        _list_options(config_name, sys.argv[1:])
        return

    failed: list[str] = []

    def guarded(cfg: DictConfig) -> None:
        try:
            check_given(cfg, HydraConfig.get().runtime.choices, config_name)
            check_numbers(cfg, HydraConfig.get().overrides.task, config_name)
            check_local(cfg)
            check_ranges(cfg)
            task(cfg)
        except BadInput as error:  # here, before Hydra announces a failed job
            _refuse_job(str(error), failed)
        except OmegaConfBaseException as error:
            _refuse_job(explain(error, config_name, sys.argv[1:]), failed)
        except Exception as error:
            if line := disk.cause(error):
                _refuse_job(line, failed)
            else:
                raise

    sys.argv[1:] = with_open_mappings(sys.argv[1:], _folders(sys.argv[1:]), partial(_compose, config_name))
    entry = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(guarded)
    try:
        with signals.handled(), _fitting_completion(config_name, sys.argv[1:]):
            entry()
    except (HydraException, OmegaConfBaseException) as error:
        _refuse(explain(error, config_name, sys.argv[1:]))
    except signals.EndedBySignal as ended:
        if not ended.told:
            print(f"ended by {ended.name}", file=sys.stderr)  # noqa: T201  the command's voice
        raise
    except KeyboardInterrupt:
        sys.exit(130)
    if failed:
        _refuse(f"{len(failed)} job(s) of the sweep failed, any others ended well: {', '.join(failed)}")


def _refuse_job(line: str, failed: list[str]) -> None:
    """End the command; under ``-m`` in this process only the job, which is added to those that failed."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN or not hydra_config.launcher._target_.endswith(".BasicLauncher"):
        _refuse(line)
    job = f"job {hydra_config.job.num} ({', '.join(varied(hydra_config.overrides.task, sys.argv[1:]))})"
    print(f"error: {job}: {' '.join(line.split())}", file=sys.stderr)  # noqa: T201  the command's voice
    failed.append(job)


def _folders(words: Sequence[str]) -> list[Path]:
    """Folders of the configuration: that of the package, and those that the command names."""
    named = [
        word.partition("=")[2] or after
        for word, after in zip(words, [*words[1:], ""], strict=True)
        if word.partition("=")[0] in ("--config-dir", "-cd")
    ]
    return [conf_dir(), *map(Path, named)]


def _list_options(config_name: str, words: Sequence[str]) -> None:
    """``--options [GROUP]``, ``--options=GROUP``: without Hydra, which knows no descriptions."""
    wanted = None
    for word, after in zip(words, [*words[1:], ""], strict=True):
        flag, _, value = word.partition("=")
        if flag == "--options":
            wanted = value or ("" if after.startswith("-") or "=" in after else after) or None
    try:
        options.show(config_name, wanted, _folders(words))
    except BadInput as error:
        _refuse(str(error))


@contextmanager
def _fitting_completion(config_name: str, words: Sequence[str]) -> Iterator[None]:
    """Of what the shell is offered (``-sc query=SHELL``), leave out groups that only other commands have."""
    if not any(word.startswith("query=") for word in words) or not {"-sc", "--shell-completion"} & set(words):
        yield
        return
    own = {group.name.partition("/")[0] for group in options.groups(config_name, [conf_dir()])}
    foreign = {p.name for p in conf_dir().iterdir() if p.is_dir()} - own
    with redirect_stdout(io.StringIO()) as offered:
        yield
    group = re.compile(r"[+~]?(\w+)(?=[=/]|$)")  # data=, data=images, but not the key data.bands
    words_left = [w for w in offered.getvalue().split() if not w.endswith(options.SHARED)]
    kept = [w for w in words_left if not (found := group.match(w)) or found[1] not in foreign]
    print(("\n" if "query=fish" in words else " ").join(kept))  # noqa: T201  the shell reads it


def check_given(cfg: DictConfig, choices: Mapping[str, Any], config_name: str) -> None:
    """Refuse a configuration in which keys that have no usual value were left out.

    Args:
        cfg: The configuration.
        choices: Option of each group, as ``data`` and ``volumes``.
        config_name: Without ``.yaml``.

    Raises:
        BadInput: Names all of these keys, and what stands beside each in its file.
    """
    absent = [key for key, value in _flatten(OmegaConf.to_container(cfg, resolve=False)) if value == MISSING]
    if not needs_labels(cfg):
        absent = [key for key in absent if key != "data.labels"]
    if absent:
        verb, past = ("is", "was") if len(absent) == 1 else ("are", "were")
        told = " and ".join(f"{key}=...{_purpose(key, choices, config_name)}" for key in absent)
        raise BadInput(f"{' and '.join(absent)} {verb} needed and {past} not given; add {told} to the command")


def needs_labels(cfg: DictConfig) -> bool:
    """Whether the method of a training reads labels; pretraining does not."""
    target = OmegaConf.select(cfg, "method._target_", default="")
    return not target.startswith("medseg.methods.") or target.endswith(".Supervised")


def leave_out_labels(cfg: DictConfig) -> None:
    """Set ``data.labels`` to null where it was not given and no label is read."""
    if OmegaConf.is_missing(cfg.data, "labels") and not needs_labels(cfg):
        cfg.data.labels = None


def _purpose(key: str, choices: Mapping[str, Any], config_name: str) -> str:
    """The comment of a key without a value, in brackets; empty where there is none."""
    group, _, inner = key.partition(".")
    for path, name in ((f"{config_name}.yaml", key), (f"{group}/{choices.get(group)}.yaml", inner)):
        if (conf_dir() / path).is_file():
            found = re.search(
                rf"^{re.escape(name)}: +\?\?\? +# *(.+)$", (conf_dir() / path).read_text(encoding="utf-8"), re.MULTILINE
            )
            if found:
                return f" ({found[1]})"
    return ""


def check_numbers(cfg: DictConfig, overrides: Sequence[str], config_name: str) -> None:
    """Refuse a word where the configuration has a number; ``auto`` and ``all`` may stand for one.

    Raises:
        BadInput: Names the key, what came and the number that stands there by itself.
    """
    keys = [o.partition("=")[0].lstrip("+") for o in overrides]
    words = {key: OmegaConf.select(cfg, key) for key in keys if "." in key or key in cfg}
    words = {key: w for key, w in words.items() if isinstance(w, str) and w not in ("auto", "all")}
    if not words:
        return
    usual = _compose(config_name, [o for o in overrides if o.partition("=")[0] not in words])
    for key, word in words.items():
        number = OmegaConf.select(usual, key, throw_on_missing=False)
        if isinstance(number, (int, float)):
            raise BadInput(f"{key}={word}: expected a number such as {number}; mend it or leave it out")


def compose(config_name: str, overrides: Sequence[str], *, config_dir: str | Path | None = None) -> DictConfig:
    """Compose ``conf/<config_name>.yaml`` outside of a command, as in a notebook.

    Args:
        config_name: Without ``.yaml``.
        overrides: As on the command line.
        config_dir: Folder with further options, as ``--config-dir`` takes it.

    Raises:
        BadInput: In one line, what a command would print.
    """
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise BadInput(f"config_dir={config_dir}: no such folder; expected one with options such as data/mine.yaml")
        overrides = [f"hydra.searchpath=['file://{Path(config_dir).resolve()}']", *overrides]
    folders = [conf_dir(), *([Path(config_dir)] if config_dir is not None else [])]
    try:
        return _compose(config_name, with_open_mappings(overrides, folders, partial(_compose, config_name)))
    except (HydraException, OmegaConfBaseException) as error:
        raise BadInput(explain(error, config_name, overrides)) from error


def _compose(config_name: str, overrides: Sequence[str], *, whole: bool = False) -> DictConfig:
    """The configuration; ``whole``: with Hydra's own part of it."""
    running = GlobalHydra.instance().hydra  # of the command that is being run, if any
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return hydra.compose(config_name, overrides=list(overrides), return_hydra_config=whole)
    finally:
        GlobalHydra.instance().hydra = running


def _refuse(line: str) -> None:
    print("error: " + " ".join(line.split()), file=sys.stderr)  # noqa: T201  the command's voice
    sys.exit(2)


def explain(error: Exception, config_name: str, overrides: Sequence[str]) -> str:
    """One line for a configuration that does not compose, with the nearest right names."""
    text = str(error)
    if isinstance(error, MissingConfigException):
        wanted = error.missing_cfg_file or ""
        group, _, option = wanted.rpartition("/")
        return f"{group}={option} is no option; {_nearest(option, error.options or [])}"
    if isinstance(error, ConfigCompositionException):
        key = _first(r"Could not override '([^']+)'", text) or _first(r"full_key: (\S+)", f"{text} {error.__cause__}")
        if key:
            bringing = _options_with(key)
            if bringing:
                return f"{key} is no choice here, it comes with {' or '.join(bringing)}; choose that too"
            if from_data(key):
                return f"{key} is no key of the configuration: it comes from {from_data(key)}; leave it out"
            known = _keys(config_name, overrides, key)
            inner = _first(r"full_key: (\S+)", f"{text} {error.__cause__}")
            key = inner if key in known and inner else key
            return f"{key} is no key of the configuration; {_nearest(key, known)}"
    if "LexerNoViableAlt" in text or "mismatched input" in text or "viable alternative" in text:
        return (
            f"an override could not be read, expected key=value (quote what holds spaces, commas or brackets): {text}"
        )
    return text


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match.group(1).lstrip("+~") if match else None


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(dict.fromkeys(known))
    near = [n for n in names if n.rpartition(".")[2] == name][:3]  # right, but it lives in a group
    near = near or difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"known are: {', '.join(names)}"


def _keys(config_name: str, overrides: Sequence[str], wrong: str) -> list[str]:
    """Every key of the configuration under these choices of groups, and the groups that it has; not ``wrong``."""
    folder = conf_dir()
    groups = {p.parent.relative_to(folder).as_posix() for p in folder.glob("*/**/*.yaml")} - {wrong}
    try:
        config = _compose(config_name, [o for o in overrides if o.partition("=")[0] in groups], whole=True)
    except HydraException:  # another choice is wrong as well
        config = _compose(config_name, [], whole=True)
    own = [group for group in config.hydra.runtime.choices if not group.startswith("hydra/")]
    content = OmegaConf.to_container(config, resolve=False)
    return [*(key for key, _ in _flatten(content) if key.partition(".")[0] != "hydra"), *own]


def _options_with(group: str) -> list[str]:
    """Options of the group above that bring ``group`` along: ``model=segmenter`` for ``model/encoder``."""
    above, _, name = group.rpartition("/")
    found = []
    for path in sorted((conf_dir() / above).glob("*.yaml")) if above else ():
        defaults: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        if any(isinstance(entry, dict) and name in entry for entry in defaults.get("defaults", ())):
            found.append(f"{above}={path.stem}")
    return found


def _flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with dots, and its value; inner nodes too."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}", value
            yield from _flatten(value, f"{prefix}{key}.")
