"""Formulas: channels computed from the bands of a file, such as NBR = (B8 - B12) / (B8 + B12)."""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.sensors.bands import roles

INDICES = {
    "NDVI": "(NIR - RED) / (NIR + RED)",
    "NBR": "(NIR - SWIR2) / (NIR + SWIR2)",
    "NDWI": "(GREEN - NIR) / (GREEN + NIR)",
    "MNDWI": "(GREEN - SWIR1) / (GREEN + SWIR1)",
    "NDBI": "(SWIR1 - NIR) / (SWIR1 + NIR)",
    "EVI": "2.5 * (NIR - RED) / (NIR + 6 * RED - 7.5 * BLUE + ONE)",
    "SAVI": "1.5 * (NIR - RED) / (NIR + RED + 0.5 * ONE)",
}
"""Spectral indices in terms of ``sensors.roles``; ONE is the raw value of reflectance 1. NDWI is McFeeters'."""

_OPERATORS: dict[type[ast.AST], Callable[..., object]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.USub: np.negative,
}
_FUNCTIONS: dict[str, tuple[Callable[..., object], int]] = {
    "sqrt": (np.sqrt, 1),
    "log": (np.log, 1),
    "exp": (np.exp, 1),
    "abs": (np.abs, 1),
    "minimum": (np.minimum, 2),
    "maximum": (np.maximum, 2),
    "clip": (np.clip, 3),
}
_LONGEST = 1000
_LARGEST = float(np.finfo(np.float32).max)

_Step = str | np.float32 | tuple[Callable[..., object], int]
"""Of a program in postfix order: a band, a number, or a function of the last n results."""


@dataclass(frozen=True)
class Formula:
    """Arithmetic on bands: ``+ - * / **``, unary minus, parentheses, numbers, and the functions ``sqrt``,
    ``log``, ``exp``, ``abs``, ``minimum``, ``maximum`` and ``clip(value, low, high)``.

    A band whose name is no identifier stands in quotes: ``('SR-B5' - '8A') / 2``; that of an image group has the
    group in front, ``pre.B8``. The text is parsed, never run as code.

    Attributes:
        text: As written.
        names: Bands used, in order of appearance.
        steps: The parsed program.

    Example:
        >>> nbr = Formula.parse("(B8 - B12) / (B8 + B12)")
        >>> nbr.names
        ('B8', 'B12')
        >>> nbr({"B8": np.float32([3, 0]), "B12": np.float32([1, 0])}).tolist()
        [0.5, 0.0]
    """

    text: str
    names: tuple[str, ...]
    steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, text: str) -> Formula:
        """Parse a formula.

        Raises:
            InputError: Anything but the arithmetic above; tells what and where.
        """
        steps = tuple(_program(text))
        names = tuple(dict.fromkeys(step for step in steps if isinstance(step, str)))
        if not names:
            raise InputError(f"formula {text!r} uses no band; write it in terms of the file's bands")
        return cls(text, names, steps)

    def __call__(self, bands: Mapping[str, Float[np.ndarray, " *s"]]) -> Float[np.ndarray, " *s"]:
        """Value in each cell; float32.

        Where a band is NaN or infinite, it is NaN. Where all bands are finite and the result is not, it
        is 0: the 0 / 0 of an index on black cells says nothing.

        Args:
            bands: float32 arrays of one shape by name; those of ``names`` at least.
        """
        inputs = {name: np.asarray(bands[name], dtype=np.float32) for name in self.names}
        stack: list[Any] = []
        with np.errstate(all="ignore"):
            for step in self.steps:
                if isinstance(step, tuple):
                    function, n = step
                    stack[-n:] = [function(*stack[-n:])]
                else:
                    stack.append(inputs[step] if isinstance(step, str) else step)
        value: npt.NDArray[np.float32] = np.where(np.isfinite(stack[0]), stack[0], np.float32(0))
        for band in inputs.values():
            value[~np.isfinite(band)] = np.nan
        return value


def index_formula(name: str, channels: Sequence[Channel], *, one: float | None = None) -> str | None:
    """Formula of a known spectral index in terms of these channels.

    Args:
        name: One of ``INDICES``, in any case.
        channels: Bands of the file; their wavelengths tell which is red, near infrared, ...
        one: Raw value that means a reflectance of 1, such as 10000; EVI and SAVI depend on it. 1 by default
            where the bands used have the unit ``reflectance``.

    Returns:
        None if there is no such index, or no band for a part of it.

    Raises:
        InputError: ``one`` is needed and unknown.

    Example:
        >>> from medseg.sensors.bands import bands_of
        >>> index_formula("NBR", bands_of(["B4", "B8", "B12"]))
        '(B8 - B12) / (B8 + B12)'
    """
    index = INDICES.get(name.upper(), "")
    used = set(re.findall(r"[A-Z]+\d?", index))
    bands = roles(channels)
    if not index or not used - {"ONE"} <= set(bands):
        return None
    played = {role: _quoted(band) for role, band in bands.items()}
    if "ONE" in used:
        unit = {channel.name: channel.unit for channel in channels}
        if one is None and any(unit[bands[role]] != "reflectance" for role in used - {"ONE"}):
            raise InputError(
                f"{name} needs the raw value that means a reflectance of 1, which the bands do not tell; write its "
                f"formula out: {re.sub('ONE', '10000', _in_terms(index, played))} if it is 10000"
            )
        played["ONE"] = f"{1.0 if one is None else one:.9g}"
    return _in_terms(index, played)


def _in_terms(index: str, words: Mapping[str, str]) -> str:
    return re.sub(r"[A-Z]+\d?", lambda match: words.get(match[0], match[0]), index)


def _quoted(band: str) -> str:
    plain = all(part.isidentifier() and not keyword.iskeyword(part) for part in band.split(".", 1))
    return band if plain else repr(band)


def _program(text: str) -> list[_Step]:
    """Postfix program of a formula."""
    line = " ".join(text.split())
    if not line or len(line) > _LONGEST:
        raise InputError(
            f"formula of {len(line)} characters; expected 1 to {_LONGEST}, such as (B8 - B12) / (B8 + B12)"
        )
    if "#" in re.sub(r"'[^']*'|\"[^\"]*\"", "", line):
        raise InputError(f"formula {line!r} has a # outside quotes; a band with # in its name stands in quotes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser warns of what is refused below anyway
            tree = ast.parse(line, mode="eval")
        return _steps(tree.body, line)
    except SyntaxError as error:
        raise InputError(
            f"formula {line!r} breaks off at character {error.offset or len(line)} ({error.msg}); names of bands that "
            "are no identifiers stand in quotes"
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"formula {line[:60]!r}... cannot be read ({error}); write it shorter") from error


def _function(call: ast.Call, called: ast.Name, line: str) -> tuple[Callable[..., object], int]:
    """The function of a call and how many arguments it takes, as many as it is given."""
    if called.id not in _FUNCTIONS:
        raise _refusal(called, line, f"one of the functions {', '.join(_FUNCTIONS)}")
    function, n = _FUNCTIONS[called.id]
    if len(call.args) != n or call.keywords:
        raise _refusal(call, line, f"{called.id} of {n} argument{'s' * (n > 1)}")
    return function, n


def _steps(node: ast.expr, line: str) -> list[_Step]:
    match node:
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return [*_steps(left, line), *_steps(right, line), (_OPERATORS[type(operator)], 2)]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return [*_steps(operand, line), (np.negative, 1)]
        case ast.Name(id=name) | ast.Constant(value=str(name)):
            return [name]
        case ast.Attribute(value=ast.Name(id=group), attr=band):
            return [f"{group}.{band}"]
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            if abs(number) > _LARGEST:
                raise _refusal(node, line, f"a number up to {_LARGEST:g}")
            return [np.float32(number)]
        case ast.Call(func=ast.Name() as called, args=arguments):
            function, n = _function(node, called, line)
            return [step for argument in arguments for step in _steps(argument, line)] + [(function, n)]
    raise _refusal(node, line, f"bands, numbers, + - * / **, parentheses and {', '.join(_FUNCTIONS)}")


def _refusal(node: ast.expr, line: str, expected: str) -> InputError:
    start = len(line.encode()[: node.col_offset].decode()) + 1  # the parser counts bytes
    return InputError(
        f"formula {line!r}: {ast.get_source_segment(line, node)!r} at character {start} is not allowed, expected "
        f"{expected}"
    )
