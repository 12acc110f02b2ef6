"""The layout of a MONAI bundle, as MONAI's specification of bundles has it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from medseg.export import runner
from medseg.export.bundle import metadata
from medseg.export.export import export
from medseg.export.layout import Layout
from medseg.hydra_app.compose import compose
from tests import tiny_checkpoint

MANDATORY = {
    "version", "monai_version", "pytorch_version", "numpy_version", "optional_packages_version", "task", "description",
    "authors", "copyright", "network_data_format",
}  # fmt: skip
OF_TENSORS = {
    "type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def",
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "channels": [{"name": "T1"}, {"name": "T2"}],
    "labels": {"regions": [], "classes": [{"name": "background"}, {"name": "lesion"}]},
    "members": [{"tiling": {"window": [8, 8, 8]}}],
}


def test_metadata_has_the_mandatory_keys() -> None:
    found = metadata(SETTINGS, name="lesions", licence=None)
    assert not MANDATORY - found.keys()
    image, pred = found["network_data_format"]["inputs"]["image"], found["network_data_format"]["outputs"]["pred"]
    assert not (OF_TENSORS | {"modality"}) - image.keys()
    assert not OF_TENSORS - pred.keys()
    assert (image["num_channels"], pred["num_channels"]) == (2, 2)
    assert pred["channel_def"] == {"0": "background", "1": "lesion"}
    assert pred["format"] == "labels"
    regions = {**SETTINGS, "labels": {"regions": [{"name": "core"}], "classes": []}}
    assert metadata(regions, name="x", licence="CC0")["network_data_format"]["outputs"]["pred"]["format"] == "classes"


def test_files_have_the_names_of_the_specification() -> None:
    layout = Layout.of("monai")
    assert (layout.network(1), layout.card) == ("models/model.onnx", "docs/README.md")
    assert Layout.of("pt2").network(2) == "network_2.pt2"
    assert Layout.of("onnx").first_stage(1) == "first_stage.onnx"
    assert Layout.of("pt2").network(1) == "network.pt2"


@pytest.mark.slow
def test_a_bundle_is_read_by_monai_and_runs(tmp_path: Path) -> None:
    path = tiny_checkpoint.write(tmp_path / "best.ckpt", tiny_checkpoint.contents())
    folder = export(compose("export", [f"checkpoint={path}", f"output={tmp_path}/bundle", "format=monai"]))
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    models = {f"models/model.{ending}" for ending in ("onnx", "pt2", "pt")}
    assert files == models | {
        "configs/metadata.json", "docs/README.md", "runner.py", "predictor.json", "parity.json",
    }  # fmt: skip
    assert ConfigParser.load_config_file(folder / "configs/metadata.json")["name"]
    assert json.loads((folder / "predictor.json").read_text())["members"][0]["network"] == "models/model.onnx"
    assert torch.load(folder / "models/model.pt", weights_only=True)
    assert len(runner.Predictor(folder).members) == 1
