"""Two tiny datasets that annotate one structure each, for data=joined."""

import json
from pathlib import Path

import nibabel
import numpy as np

from tests.tiny import AFFINE, LABELS, save, write_nnunet


def write_parts(root: Path, *, n_cases: int = 3, channels: dict[str, list[str]] | None = None) -> dict[str, Path]:
    """Datasets ``front`` and ``back`` in nnU-Net's layout: anterior and posterior, each the value 1 of its files.

    Args:
        root: Folder of both.
        n_cases: Cases of each, which have the same names.
        channels: Names of the channels of each, in the order of its files.
    """
    parts = {}
    for part, name in (("front", "anterior"), ("back", "posterior")):
        folder = write_nnunet(root / part, n_cases=n_cases, channels=(channels or {}).get(part, ["MR"]))
        for path in (folder / "labelsTr").iterdir():
            label = np.asarray(nibabel.load(path).dataobj)
            save(path, (label == LABELS[name]).astype(np.uint8), AFFINE)
        declared = json.loads((folder / "dataset.json").read_text())
        (folder / "dataset.json").write_text(json.dumps(declared | {"labels": {"background": 0, name: 1}}))
        parts[part] = folder
    return parts


def joined(root: Path) -> list[str]:
    """Overrides for the two as one dataset."""
    entries = ",".join(f"{name}:{{option:nnunet,root:{folder}}}" for name, folder in write_parts(root).items())
    return [f"data.parts={{{entries}}}"]
