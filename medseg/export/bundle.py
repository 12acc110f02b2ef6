"""The folder layout of a MONAI bundle: configs/metadata.json, models/, docs/README.md."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from medseg._version import __version__

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""The schema that ``python -m monai.bundle verify_metadata`` downloads."""
_RUN_BY = ("onnxruntime", "nibabel", "rasterio")


def metadata(settings: Mapping[str, Any], *, name: str, licence: str | None) -> dict[str, Any]:
    """The content of ``configs/metadata.json``.

    Args:
        settings: Content of ``predictor.json``.
        name: Of the experiment.
        licence: As the user states it; None if nobody did.
    """
    outputs = settings["labels"]["regions"] or settings["labels"]["classes"]
    window = settings["members"][0]["tiling"]["window"]
    names = [c["name"] for c in settings["channels"]]
    packages = {package: number for package in _RUN_BY if (number := _version(package))}
    tensor = {"type": "image", "spatial_shape": window, "dtype": "float32", "value_range": [], "is_patch_data": True}
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by medseg {__version__}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch").partition("+")[0],
        "numpy_version": _version("numpy"),
        "required_packages_version": packages,
        "optional_packages_version": packages,
        "name": name,
        "task": f"Segmentation of {', '.join(o['name'] for o in outputs)}",
        "description": "Networks and their preprocessing; runner.py and predictor.json run without MONAI and PyTorch.",
        "authors": "not stated",
        "copyright": licence or "not stated",
        "intended_use": "Research; see docs/README.md for data, scores and limits",
        "network_data_format": {
            "inputs": {
                "image": {
                    **tensor,
                    "format": "magnitude",
                    "modality": ", ".join(names),
                    "num_channels": len(names),
                    "channel_def": {str(number): channel for number, channel in enumerate(names)},
                }
            },
            "outputs": {
                "pred": {
                    **tensor,
                    "format": "classes" if settings["labels"]["regions"] else "labels",
                    "num_channels": len(outputs),
                    "channel_def": {str(number): output["name"] for number, output in enumerate(outputs)},
                }
            },
        },
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
