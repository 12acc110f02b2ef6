"""Recipe: which torchgeo dataset with which arguments, built where it is needed."""

from __future__ import annotations

import inspect
import json
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from medseg.errors import InputError, similar

_PLACES = ("root", "paths")  # how torchgeo's classes name the folder of their files


@dataclass(frozen=True)
class Recipe:
    """A torchgeo dataset before it is built; small and hashable, and can be pickled.

    Attributes:
        class_path: ``torchgeo.datasets.LoveDA``, or any class that is used alike.
        arguments: JSON object of its arguments.
        masks: A second geo dataset that holds the masks, to be intersected with the first.
    """

    class_path: str
    arguments: str
    masks: Recipe | None = None

    @classmethod
    def of(
        cls, class_path: str, root: Path, arguments: Mapping[str, object] | None, masks: Recipe | None = None
    ) -> Recipe:
        """Recipe with ``root`` for the argument that names the folder, unless it is among the arguments.

        A class path without a dot is one of ``torchgeo.datasets``.

        Raises:
            InputError: No such class.
        """
        if "." not in class_path:
            class_path = f"torchgeo.datasets.{class_path}"
        takes = inspect.signature(_locate(class_path)).parameters
        place = next(({name: str(root)} for name in _PLACES if name in takes), {})
        return cls(class_path, json.dumps({**place, **(arguments or {})}, sort_keys=True), masks)

    @property
    def folders(self) -> list[Path]:
        """Files and folders that the arguments name."""
        arguments: dict[str, object] = json.loads(self.arguments)
        paths = [p for name in _PLACES for p in _listed(arguments.get(name))]
        return [Path(p) for p in paths] + (self.masks.folders if self.masks else [])

    def build(self) -> Any:
        """The dataset; of two, their intersection.

        Raises:
            InputError: Files that are not there, arguments that the class does not take, or no intersection.
        """
        images = self._built()
        if self.masks is None:
            return images
        masks = self.masks._built()
        masks.is_image = False  # torchgeo's generic raster takes its files for images by default
        try:
            with quiet(), redirect_stdout(StringIO()):  # it prints both CRSs in full
                return images & masks
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"data.class_path={self.class_path} and data.mask_class_path={self.masks.class_path} have no "
                f"intersection: {_line(error)}; two geo datasets of the same place and time were expected"
            ) from error

    def _built(self) -> Any:
        from torchgeo.datasets import DependencyNotFoundError

        target, arguments = _locate(self.class_path), json.loads(self.arguments)
        refusals = (AssertionError, TypeError, ValueError, LookupError, RuntimeError, OSError, DependencyNotFoundError)
        try:
            with quiet():
                return target(**arguments)
        except refusals as error:
            if isinstance(error, FileNotFoundError):
                way_out = "fix data.root, or data.arguments={download: true} if torchgeo may fetch it"
            else:
                way_out = f"data.arguments may have {', '.join(inspect.signature(target).parameters)}"
            text = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise InputError(f"{self.class_path}({text}): {_line(error)}; {way_out}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Drop warnings of torchgeo and rasterio that a user can do nothing about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Could not find any relevant files", UserWarning)  # an error follows
        warnings.filterwarnings("ignore", "Use `@` matmul", PendingDeprecationWarning)  # affine 3 within rasterio
        yield


def _locate(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    try:
        target = getattr(import_module(module), name)
        if not isinstance(target, type):
            raise AttributeError(f"it is a {type(target).__name__}")
        return target
    except (ImportError, AttributeError, ValueError) as error:
        from torchgeo import datasets

        near = similar(name, datasets.__all__)
        hint = f"; near it are {', '.join(near)}" if near else ""
        raise InputError(
            f"data.class_path={class_path}: no such class ({error}){hint}; expected one of torchgeo.datasets, or "
            "module.Class of your own"
        ) from error


def _line(error: BaseException) -> str:
    """What an error says in one line; a bare assertion shows its condition."""
    message = " ".join(str(error).split())
    return message or traceback.extract_tb(error.__traceback__)[-1].line or type(error).__name__


def _listed(value: object) -> list[str]:
    return [] if value is None else [str(v) for v in value] if isinstance(value, list) else [str(value)]
