import json

import pytest
import torch
from safetensors.torch import save_file

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights.pretrained import Pretrained, read

STATE = {"a.weight": torch.arange(6.0), "a.bias": torch.ones(2), "b.weight": torch.zeros(3)}


def same(found: Pretrained):
    return found.state.keys() == STATE.keys() and all(torch.equal(found.state[k], v) for k, v in STATE.items())


def test_a_file_a_folder_and_an_index(tmp_path):
    torch.save({"epoch": 1, "model": STATE}, tmp_path / "net.pth")
    assert same(read(str(tmp_path / "net.pth")))
    assert same(read(tmp_path))
    (tmp_path / "net.pth").unlink()
    parts = [{k: STATE[k]} for k in STATE]
    for i, part in enumerate(parts):
        save_file(part, tmp_path / f"{i}.safetensors")
    where = {"weight_map": {k: f"{i}.safetensors" for i, k in enumerate(STATE)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(where))
    assert same(read(tmp_path))
    assert read(tmp_path).source == str(tmp_path)


def test_a_part_of_a_file(tmp_path):
    path = tmp_path / "dino.pth"
    torch.save({"teacher": STATE, "student": {"x": torch.ones(1)}}, path)
    assert list(read(f"{path}::student").state) == ["x"]
    with pytest.raises(InputError, match=r"dino.pth::pupil: no such part"):
        read(f"{path}::pupil")


def test_a_checkpoint_of_medseg_tells_of_its_images(tmp_path):
    told = {
        "spec": {"channels": [{"name": "CT", "unit": "HU", "wavelength_nm": None, "formula": ""}]},
        "plan": {"normalisation": [{"scheme": "ct", "mean": 99.0, "std": 40.0}]},
    }
    torch.save({"state_dict": STATE, "medseg": told}, tmp_path / "best.ckpt")
    found = read(tmp_path / "best.ckpt")
    assert same(found)
    assert (found.channels, found.mean, found.std, found.scale) == ((Channel("CT", "HU"),), (99.0,), (40.0,), 1.0)


def test_a_folder_of_hugging_face_tells_of_its_images(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.2] * 3}))
    found = read(tmp_path)
    assert [c.name for c in found.channels] == ["R", "G", "B"]
    assert (found.mean, found.std, found.scale) == ((0.5,) * 3, (0.2,) * 3, 255.0)


def test_the_hub(tmp_path, monkeypatch):
    save_file(STATE, tmp_path / "model.safetensors")
    monkeypatch.setattr("medseg.weights.hub.fetch", lambda name: tmp_path / "model.safetensors")
    found = read("hf-hub:owner/name")
    assert same(found)
    assert found.source == "hf-hub:owner/name"


def test_missing(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "net.pth")
    with pytest.raises(InputError, match="no such file or folder"):
        read(f"{tmp_path}/net.pth::teacher")


def test_other_tensors():
    found = Pretrained(STATE, "f", (Channel("CT"),), scale=2.0)
    changed = found.with_state({"x": torch.ones(1)})
    assert list(changed.state) == ["x"]
    assert (changed.source, changed.channels, changed.scale) == ("f", (Channel("CT"),), 2.0)
