import json

import pytest

from medseg.errors import InputError
from medseg.weights.resolve import file_at, listed, parts_of


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_files_are_themselves(tmp_path):
    assert file_at(touch(tmp_path / "a.pth")) == tmp_path / "a.pth"


def test_folders_of_hugging_face_and_of_runs(tmp_path):
    for name in ("checkpoints/best.ckpt", "pytorch_model.bin", "model.safetensors.index.json", "model.safetensors"):
        touch(tmp_path / name)
        assert file_at(tmp_path) == tmp_path / name, "each is preferred to those before"


def test_a_folder_with_one_file_of_weights(tmp_path):
    touch(tmp_path / "notes.txt")
    with pytest.raises(InputError, match=r"this folder holds none of model.safetensors, pytorch_model.bin"):
        file_at(tmp_path)
    touch(tmp_path / "vit.pth")
    assert file_at(tmp_path) == tmp_path / "vit.pth"
    touch(tmp_path / "cnn.pth")
    with pytest.raises(InputError, match=r"this folder holds cnn.pth, vit.pth: name the one that is meant"):
        file_at(tmp_path)


def test_misspelt_names(tmp_path):
    touch(tmp_path / "resnet50.pth")
    with pytest.raises(InputError, match=r"resnet5O.pth: no such file or folder; the nearest are resnet50.pth; names"):
        file_at(tmp_path / "resnet5O.pth")
    with pytest.raises(InputError, match="nothing there has a name like it"):
        file_at(tmp_path / "xyz")
    with pytest.raises(InputError, match=rf"there is {tmp_path}, but not {tmp_path}/a/b"):
        file_at(tmp_path / "a" / "b" / "resnet50.pth")


def test_parts_of_an_index(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}))
    assert listed(index) == ["1.safetensors", "2.safetensors"]
    touch(tmp_path / "2.safetensors")
    with pytest.raises(InputError, match=r"1 of its 2 files are missing \(1.safetensors\)"):
        parts_of(index)
    touch(tmp_path / "1.safetensors")
    assert parts_of(index) == [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}', "not json"])
def test_indices_of_another_form(tmp_path, content):
    index = tmp_path / "a.index.json"
    index.write_text(content)
    with pytest.raises(InputError, match="can't be read as an index of weights"):
        parts_of(index)
