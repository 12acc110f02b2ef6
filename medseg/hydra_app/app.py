"""Runs a command: Hydra in front, one-line errors with the nearest right name, exit code 2."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from medseg.errors import InputError
from medseg.hydra_app import options
from medseg.hydra_app.checks import check_given, check_numbers
from medseg.hydra_app.conf import composed, conf_dir, conf_dirs, find_plugin_options
from medseg.hydra_app.current import with_current_classes
from medseg.hydra_app.explain import explain
from medseg.hydra_app.groups import check_groups
from medseg.hydra_app.local_paths import check_local
from medseg.hydra_app.overrides import varied, with_open_mappings
from medseg.hydra_app.ranges import check_ranges
from medseg.hydra_app.retired import check_retired
from medseg.runtime import console, disk, signals
from medseg.runtime.waiting import wait_passively

_LOG = logging.getLogger(__name__)


def run(config_name: str, task: Callable[[DictConfig], object]) -> None:
    """Compose ``conf/<config_name>.yaml`` with the command line's overrides and run ``task`` on it.

    Bad input (``InputError``, every error of the configuration, a disk that is full or can't be written) is printed as
    one line and ends the process with 2. A signal (SIGINT, SIGTERM, SIGUSR1) ends it with 128 + its number. Other
    exceptions are defects and keep their traceback.

    Args:
        config_name: Without ``.yaml``.
        task: Called with the composed configuration, once a job under ``-m``.
    """
    wait_passively()
    with console.messages():
        _run(config_name, task)


def _run(config_name: str, task: Callable[[DictConfig], object]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand exceptions to us instead of printing them
    try:
        find_plugin_options()
        check_groups(sys.argv[1:], _folders(sys.argv[1:]), config_name)
    except InputError as error:
        _exit_with_error(str(error))
    if any(word.partition("=")[0] == "--options" for word in sys.argv[1:]):
        _list_options(config_name, sys.argv[1:])
        return

    failed: list[str] = []
    sys.argv[1:] = with_open_mappings(sys.argv[1:], _folders(sys.argv[1:]), partial(composed, config_name))
    entry = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(
        _guarded(config_name, task, failed)
    )
    try:
        with (
            signals.handled(),
            _fitting_completion(config_name, sys.argv[1:]),
            _fitting_help(config_name, sys.argv[1:]),
        ):
            entry()
    except (HydraException, OmegaConfBaseException) as error:
        _exit_with_error(explain(error, config_name, sys.argv[1:]))
    except signals.EndedBySignal as ended:
        if not ended.told:
            _LOG.warning("ended by %s", ended.name)
        raise
    except KeyboardInterrupt:
        sys.exit(130)
    if failed:
        _exit_with_error(f"{len(failed)} job(s) of the sweep failed, the others succeeded: {', '.join(failed)}")


def _guarded(config_name: str, task: Callable[[DictConfig], object], failed: list[str]) -> Callable[[DictConfig], None]:
    """The task with the checks of its configuration before it; bad input is one line, before Hydra reports the job."""

    @console.messages()  # in the process of a job, which a launcher may have started
    def guarded(cfg: DictConfig) -> None:
        try:
            cfg = with_current_classes(cfg)
            check_retired(cfg, _folders(sys.argv[1:])[1:])
            check_given(cfg, HydraConfig.get().runtime.choices, config_name)
            check_numbers(cfg, HydraConfig.get().overrides.task, config_name)
            check_local(cfg)
            check_ranges(cfg, config_name)
            task(cfg)
        except InputError as error:
            _fail_job(str(error), failed)
        except OmegaConfBaseException as error:
            _fail_job(explain(error, config_name, sys.argv[1:]), failed)
        except Exception as error:
            if line := disk.cause(error):
                _fail_job(line, failed)
            else:
                raise

    return guarded


def _fail_job(line: str, failed: list[str]) -> None:
    """End the command; under ``-m`` in this process only the job, which is added to those that failed."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN or not hydra_config.launcher._target_.endswith(".BasicLauncher"):
        _exit_with_error(line)
    job = f"job {hydra_config.job.num} ({', '.join(varied(hydra_config.overrides.task, sys.argv[1:]))})"
    _LOG.error("%s: %s", job, " ".join(line.split()))
    failed.append(job)


def _folders(words: Sequence[str]) -> list[Path]:
    """Folders of the configuration: that of the package, those of plug-ins, and those of ``--config-dir``."""
    named = [
        word.partition("=")[2] or after
        for word, after in zip(words, [*words[1:], ""], strict=True)
        if word.partition("=")[0] in ("--config-dir", "-cd")
    ]
    return [*conf_dirs(), *map(Path, named)]


def _list_options(config_name: str, words: Sequence[str]) -> None:
    """``--options [GROUP]``, ``--options=GROUP``: without Hydra, which knows no descriptions."""
    wanted = None
    for word, after in zip(words, [*words[1:], ""], strict=True):
        flag, _, value = word.partition("=")
        if flag == "--options":
            wanted = value or ("" if after.startswith("-") or "=" in after else after) or None
    try:
        options.show(config_name, wanted, _folders(words))
    except InputError as error:
        _exit_with_error(str(error))


@contextmanager
def _fitting_completion(config_name: str, words: Sequence[str]) -> Iterator[None]:
    """Leave out groups of other commands from the completions of the shell (``-sc query=SHELL``)."""
    if not _completes(words):
        yield
        return
    foreign = _foreign_groups(config_name)
    with redirect_stdout(io.StringIO()) as offered:
        yield
    group = re.compile(r"[+~]?(\w+)(?=[=/]|$)")  # data=, data=images, but not the key data.bands
    available = [w for w in offered.getvalue().split() if not w.endswith(options.SHARED)]
    fitting = [w for w in available if not (match := group.match(w)) or match[1] not in foreign]
    sys.stdout.write(("\n" if "query=fish" in words else " ").join(fitting) + "\n")  # for the shell


@contextmanager
def _fitting_help(config_name: str, words: Sequence[str]) -> Iterator[None]:
    """List the choices of ``--help`` as words that can be typed: Hydra takes every folder for a group of its own."""
    if {"--help", "-h"}.isdisjoint(words):
        yield
        return
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:  # Hydra ends the process
        lines = printed.getvalue().splitlines(keepends=True)
        sys.stdout.write("".join(_choice_line(line, _folders(words)) for line in lines))


def _choice_line(line: str, folders: Sequence[Path]) -> str:
    """A line of the help, without files that are no options; a folder of options is no group."""
    group, separator, names = line.rstrip("\n").partition(": ")
    if separator and group in options.IN_FOLDERS:
        return f"{group}: {', '.join(options.option_files(group, folders))}\n"
    if group.startswith(tuple(f"{name}/" for name in options.IN_FOLDERS)):
        return ""
    if options.SHARED not in names:
        return line
    return f"{group}: {', '.join(name for name in names.split(', ') if not name.endswith(options.SHARED))}\n"


def _completes(words: Sequence[str]) -> bool:
    """Whether the shell asks for completions."""
    return any(word.startswith("query=") for word in words) and not {"-sc", "--shell-completion"}.isdisjoint(words)


def _foreign_groups(config_name: str) -> set[str]:
    """Groups that other commands have and this one has not."""
    own = {group.name.partition("/")[0] for group in options.groups(config_name, conf_dirs())}
    return {p.name for folder in conf_dirs() for p in folder.iterdir() if p.is_dir()} - own


def _exit_with_error(line: str) -> None:
    _LOG.error("%s", " ".join(line.split()))
    sys.exit(2)
