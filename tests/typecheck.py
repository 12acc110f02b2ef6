"""The run-time type checker of the tests: beartype that takes ints for floats, as YAML writes ``0``."""

import importlib.util
import os
from pathlib import Path

import jaxtyping._import_hook as hook
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))

MEDSEG = str(Path(__file__).parents[1] / "medseg") + os.sep
_checked_code = hook._optimized_cache_from_source


def code_of(checker: str, /, path: str, debug_override: bool | None = None) -> str:
    """File of the compiled code of a module: one of its own, with the checks, for medseg alone.

    jaxtyping asks for one of its own while a module of medseg runs, so that all that this imports for the first time,
    such as Lightning, would be compiled again: 3,600 modules, 15 s of CPU in each process of the tests.
    """
    if str(path).startswith(MEDSEG):
        return _checked_code(checker, path, debug_override)
    return importlib.util.cache_from_source(path, debug_override)


def install() -> None:
    """Check the types of all that is imported from medseg from now on."""
    hook._optimized_cache_from_source = code_of
    hook.install_import_hook("medseg", "tests.typecheck.check")
