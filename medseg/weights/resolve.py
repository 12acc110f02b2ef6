"""Which file is meant: of a folder, of an index of parts, of a name that is misspelt."""

from __future__ import annotations

import json
from pathlib import Path

from medseg.errors import InputError, similar
from medseg.weights.report import some

NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""How weights are called in folders of Hugging Face, the safer first."""
_OURS = ("checkpoints/best.ckpt", "best.ckpt")
_NNUNET = "checkpoint_final.pth"
"""Of a fold of nnU-Net; a folder of a trained model has one for each fold."""
_ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar", ".onnx")
INDEX = ".index.json"


def file_at(path: Path) -> Path:
    """The file of weights at a path: itself, or the one in a folder.

    Raises:
        InputError: No such file, with the nearest names; a folder with none, or with several.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise _missing(path)
    if (named := _named(path) or _fold(path)) is not None:
        return named
    found = sorted(p.name for p in path.iterdir() if p.is_file() and p.suffix in _ENDINGS)
    if len(found) == 1:
        return path / found[0]
    told = f"holds {some(found, 5)}: name the one that is meant" if found else f"holds none of {', '.join(NAMES[::2])}"
    raise InputError(f"model.encoder.weights={path}: this folder {told}")


def _named(path: Path) -> Path | None:
    """The file in a folder whose name says that it is the one."""
    return next((path / name for name in (*NAMES, *_OURS, _NNUNET) if (path / name).is_file()), None)


def _fold(path: Path) -> Path | None:
    """The checkpoint of the only fold in the folder of a trained model of nnU-Net; None if it is no such folder.

    Raises:
        InputError: It holds several folds.
    """
    folds = sorted(path.glob(f"fold_*/{_NNUNET}"))
    if len(folds) > 1:
        raise InputError(
            f"model.encoder.weights={path}: holds {len(folds)} folds of nnU-Net: name the one that is meant, such as "
            f"{folds[0]}"
        )
    return folds[0] if folds else None


def listed(index: Path) -> list[str]:
    """Names of the files in which the tensors of an index (``*.index.json``) lie.

    Raises:
        InputError: It is no index.
    """
    try:
        stored = json.loads(index.read_text(encoding="utf-8"))
        return sorted(set(stored["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"model.encoder.weights={index}: can't be read as an index of weights ({type(error).__name__}); expected "
            "JSON with a weight_map, as Hugging Face writes it"
        ) from error


def parts_of(index: Path) -> list[Path]:
    """The files of an index, beside it.

    Raises:
        InputError: No index, or one of missing files.
    """
    names = listed(index)
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise InputError(
            f"model.encoder.weights={index}: {len(missing)} of its {len(names)} files are missing "
            f"({some(missing)}); fetch them into {index.parent}"
        )
    return [index.parent / name for name in names]


def _missing(path: Path) -> InputError:
    start = f"model.encoder.weights={path}: no such file or folder"
    if str(path) == "pretrained":
        return InputError(
            f"{start}, and this network has no weights of its own to download; give a file, or hf-hub:owner/name"
        )
    if not path.parent.is_dir():
        there = next(p for p in path.parents if p.is_dir())
        return InputError(f"{start}; there is {there.absolute()}, but not {path.parent}")
    near = similar(path.name, [p.name for p in path.parent.iterdir()])
    hint = f"the nearest are {', '.join(near)}" if near else "nothing there has a name like it"
    return InputError(f"{start}; {hint}; names of Hugging Face begin with hf-hub:")
