"""Provenance: which code, libraries and machine a result is from."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch", "torchvision", "lightning", "monai", "timm", "transformers", "segmentation-models-pytorch", "torchgeo",
    "peft", "safetensors", "torchmetrics", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom", "rasterio", "pyproj",
    "pyogrio", "shapely", "affine", "pillow", "blosc2", "edt", "connected-components-3d", "hydra-core", "omegaconf",
    "wandb", "optuna",
)  # fmt: skip
"""Libraries that read data, compute with it, build networks or compose configurations."""


def provenance(version: str, *, seed: int | None = None) -> dict[str, object]:
    """Versions, command, code and machine of this process; JSON-able.

    Args:
        version: Of medseg.
        seed: Random seed of the run.
    """
    return {
        "medseg": version,
        "code": git_state(Path(__file__).parent),
        "git": git_state(Path.cwd()),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages(),
        "hardware": hardware(),
    }


def packages() -> dict[str, str]:
    """Version of each of ``PACKAGES`` that is installed."""
    versions = {name: _version(name) for name in PACKAGES}
    return {name: version for name, version in versions.items() if version is not None}


@cache
def _version(name: str) -> str | None:
    """Version of a package, None where it is not installed; its file is read once in a process."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def hardware() -> dict[str, object]:
    """Processor, usable cores, memory in GiB; name and memory of each GPU, where torch sees any."""
    found: dict[str, object] = {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        found["gpus"] = [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus]
        found["cuda"] = torch.version.cuda
    return found


def _processor() -> str:
    """Name of the processor as Linux gives it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def git_state(folder: Path) -> dict[str, object] | None:
    """Commit of the checkout that holds a folder, and a digest of what differs from it; None outside of any.

    Returns:
        ``commit`` (40 hexadecimal digits), ``dirty`` (whether tracked files differ), and where they do ``diff``: the
        first 16 digits of the SHA-256 of ``git diff HEAD``.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    diff = _git(folder, "diff", "HEAD")
    if commit is None or diff is None:
        return None
    state: dict[str, object] = {"commit": commit.decode().strip(), "dirty": bool(diff)}
    return state | ({"diff": hashlib.sha256(diff).hexdigest()[:16]} if diff else {})


def _git(folder: Path, *words: str) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
