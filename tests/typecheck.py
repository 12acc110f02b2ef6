"""The run-time type checker of the tests: jaxtyping and beartype, which take ints for floats, as YAML writes ``0``."""

import ast
import dataclasses
import importlib.util
import inspect
import os
from collections.abc import Callable, Iterator
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar, get_args

import jaxtyping
import jaxtyping._decorator as decorator
import jaxtyping._import_hook as hook
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))

MEDSEG = str(Path(__file__).parents[1] / "medseg") + os.sep
_checked_code = hook._optimized_cache_from_source
_UNKNOWN = (Any, inspect.Signature.empty)


def checked(code: Any) -> Any:
    """A function, or a dataclass, whose calls are checked.

    jaxtyping checks where an array is annotated: it binds the arguments, begins a new memory of axes, and checks the
    arguments twice. Other functions, 97 of 100 calls of a training, need none of it: beartype checks what is given and
    what is returned, from the same resolved annotations. Of a function with three arguments a call takes 3 us so, 14 us
    by jaxtyping, and the definition 0.04 ms in place of 1.9 ms (Intel Xeon).
    """
    if not inspect.isclass(code):
        return _checked_function(code)
    if dataclasses.is_dataclass(code):
        init: Any = code.__init__
        if getattr(init, "__globals__", {}).get("__name__") not in (__name__, decorator.__name__):  # of a base class
            code.__init__ = _checked_function(init)
    return code


def _checked_function(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = _resolved(function)
    hints = [p.annotation for p in signature.parameters.values()]
    if any(map(_has_array, [*hints, signature.return_annotation])):
        return jaxtyping.jaxtyped(function, typechecker=check)
    takes = any(hint not in _UNKNOWN for hint in hints)
    gives = signature.return_annotation not in _UNKNOWN
    name = f"{function.__module__}.{function.__qualname__}"
    checkers: list[Callable[..., Any]] = []  # made by the first call: most functions are never called in a process

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        if not checkers:
            checkers.extend((_of_arguments(function, signature), _of_result(signature.return_annotation)))
        if takes:
            checkers[0](*args, **kwargs)
        result = function(*args, **kwargs)
        if gives:
            try:
                checkers[1](result)
            except jaxtyping.TypeCheckError as error:
                raise jaxtyping.TypeCheckError(f"what {name} returned: {error}") from None
        return result

    return wrapped


def _resolved(function: Callable[..., Any]) -> inspect.Signature:
    """The signature with types for their names; ``Any`` for what is imported for mypy alone, as jaxtyping does it."""
    signature = inspect.signature(function)
    known: dict[str, Any] = function.__globals__  # type: ignore[attr-defined]
    return signature.replace(
        parameters=[
            p.replace(annotation=decorator._destring_annotation(p.annotation, known))
            for p in signature.parameters.values()
        ],
        return_annotation=decorator._destring_annotation(signature.return_annotation, known),
    )


def _has_array(hint: Any) -> bool:
    """Whether an annotation names an array, with its axes, anywhere in it."""
    return any(inspect.isclass(part) and issubclass(part, jaxtyping.AbstractArray) for part in _parts(hint))


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    inner = hint if isinstance(hint, list) else get_args(hint)  # a list: the arguments of a Callable
    if isinstance(hint, TypeVar):
        inner = (hint.__bound__, *hint.__constraints__)
    for part in inner:
        yield from _parts(part)


def _of_arguments(function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    of_arguments = decorator._make_fn_with_signature(
        function.__name__, function.__qualname__, function.__module__,
        signature.replace(return_annotation=Any), output=False,
    )  # fmt: skip
    return check(of_arguments)


@cache
def _of_result(hint: Any) -> Callable[[Any], Any]:
    def result(value):  # type: ignore[no-untyped-def]
        return value

    result.__annotations__ = {"return": hint}
    return check(result)


def decorator_of(checker: hook.Typechecker) -> ast.expr:
    """What the hook writes above each definition: ``checked`` itself, where jaxtyping would write its own decorator."""
    called = f"jaxtyping._import_hook.Typechecker.lookup['{checker.get_hash()}']"
    return ast.parse(called, mode="eval").body


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
    hook.Typechecker.get_ast = decorator_of
    hook.install_import_hook("medseg", "tests.typecheck.checked")
