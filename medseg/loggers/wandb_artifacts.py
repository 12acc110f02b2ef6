"""Artifacts of W&B: the data of a run, its checkpoints and its report."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.runtime.atomic import write_whole

if TYPE_CHECKING:
    import wandb

KINDS = ("data", "model", "report")
"""What may be logged."""


def use_data(run: wandb.Run, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Declare the data as the run's input: names of cases and digests of their files, no cell of any image.

    The same cases of the same bytes in the same split are the same version, wherever and whenever they are used.
    ``use_artifact`` does not work offline. For a new artifact it logs the artifact with a note that the run uses it;
    that note is written into the file of an offline run as well, and ``wandb sync`` follows it.

    Args:
        run: The run.
        folder: Where the file of the artifact stays until it is sent.
        manifest: ``name``, ``digest``, ``train`` and ``val`` (digest by case).
    """
    import wandb

    path = folder / "cases.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(manifest, indent=1) + "\n")
    metadata = {key: value for key, value in manifest.items() if key not in ("train", "val")}
    metadata |= {f"{part}_cases": len(manifest[part]) for part in ("train", "val")}
    artifact = wandb.Artifact(artifact_name("data", manifest["name"]), type="dataset", metadata=metadata)
    artifact.add_file(str(path), policy="immutable")
    if run.offline:
        run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
    else:
        run.use_artifact(artifact)


def log_model(run: wandb.Run, run_dir: Path, folder: Path, metadata: Mapping[str, object], *, tested: str) -> None:
    """Log the checkpoints as two versions of one model, with the aliases ``best`` and ``last``.

    The tested one is logged second, so that it is ``latest`` as well. Files are not copied: see ``_kept``.

    Args:
        run: The run.
        run_dir: Folder of the training.
        folder: Where the files stay until they are sent.
        metadata: Metadata of the tested checkpoint, such as its scores.
        tested: The checkpoint that was scored, ``best`` or ``last``.
    """
    import wandb

    for kind in sorted(("best", "last"), key=lambda kind: kind == tested):
        checkpoint = run_dir / "checkpoints" / f"{kind}.ckpt"
        if not checkpoint.is_file():
            continue
        own = {"checkpoint": kind, **(metadata if kind == tested else {})}
        artifact = wandb.Artifact(artifact_name("model", run.id), type="model", metadata=own)
        adapters = [run_dir / "checkpoints" / "adapters.safetensors"] if kind == tested else []
        _add(artifact, [checkpoint, run_dir / "plan.yaml", run_dir / "config.yaml", *adapters], folder / kind)
        run.log_artifact(artifact, aliases=[kind])


def log_report(run: wandb.Run, run_dir: Path, folder: Path) -> None:
    """Log the report and the scores; nothing if there are none."""
    import wandb

    paths = [run_dir / name for name in ("report.html", "metrics.json", "cases.csv")]
    if any(path.is_file() for path in paths):
        artifact = wandb.Artifact(artifact_name("report", run.id), type="report")
        _add(artifact, paths, folder / "report")
        run.log_artifact(artifact)


def artifact_name(kind: str, name: str) -> str:
    """Name of an artifact, in characters that W&B allows.

    Example:
        >>> artifact_name("data", "Dubai (aerial)")
        'data-Dubai_aerial_'
    """
    return f"{kind}-" + re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[:100]


def _add(artifact: wandb.Artifact, paths: Sequence[Path], folder: Path) -> None:
    for path in paths:
        if path.is_file():
            artifact.add_file(str(_kept(path, folder)), name=path.name, policy="immutable")


def _kept(path: Path, folder: Path) -> Path:
    """The file as it is now, in a folder where nothing changes it until ``wandb sync`` sends it.

    W&B would copy files into the user's home. Checkpoints are replaced by renaming, so that a hard link keeps the old
    content without a copy; other files are small, and copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    target.unlink(missing_ok=True)
    if path.suffix == ".ckpt":
        try:
            os.link(path, target)
            return target
        except OSError:  # no links on this file system
            pass
    shutil.copyfile(path, target)
    return target
