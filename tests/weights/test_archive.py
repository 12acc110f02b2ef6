import argparse
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medseg.errors import InputError
from medseg.runtime import integrity
from medseg.weights.archive import open_file

STATE = {"a.weight": torch.arange(2000.0), "a.bias": torch.ones(3, dtype=torch.float16)}


class Code:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def same(found, state=STATE):
    return found.keys() == state.keys() and all(torch.equal(found[k], v) for k, v in state.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_torch(tmp_path, zipped):
    torch.save(STATE, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert same(open_file(tmp_path / "a.pth"))


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_safetensors_whatever_their_ending(tmp_path, name):
    save_file(STATE, tmp_path / name)
    assert same(open_file(tmp_path / name))


def test_plain_values_of_published_checkpoints_are_allowed(tmp_path):
    beside = {
        "args": argparse.Namespace(lr=0.1, name="vit"),
        "best": np.float64(0.5),
        "step": np.int64(3),
        "history": np.arange(3),
    }
    torch.save({"model": STATE, **beside}, tmp_path / "a.pth")
    found = open_file(tmp_path / "a.pth")
    assert same(found["model"])
    assert found["args"].lr == 0.1
    assert found["best"] == 0.5


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_never_runs(tmp_path, zipped):
    target = tmp_path / "ran"
    torch.save({"model": STATE, "x": Code(str(target))}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="mkdir") as caught:
        open_file(tmp_path / "a.pth")
    told = str(caught.value)
    assert not target.exists()
    assert str(tmp_path / "a.pth") in told
    assert "medseg never executes" in told
    assert "safetensors" in told
    assert "\n" not in told


def test_whole_modules_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"holds pickled code \(torch.nn.modules.linear.Linear\)"):
        open_file(tmp_path / "a.pth")


def test_plain_pickles_are_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": np.ones(3), "x": Code(str(tmp_path / "ran"))}))
    with pytest.raises(InputError, match=r"a.pkl: holds pickled code, which medseg never executes; convert it"):
        open_file(tmp_path / "a.pkl")
    assert not (tmp_path / "ran").exists()


def test_torchscript_gives_its_tensors(tmp_path):
    layer = torch.nn.Linear(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(layer).save(str(tmp_path / "a.pt"))
    same(open_file(tmp_path / "a.pt"), layer.state_dict())


@pytest.mark.parametrize("kind", ["torch", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_cut_short(tmp_path, kind, kept):
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "torch")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(InputError, match="it is cut short or of another kind") as caught:
        open_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"hello world, I am no file of weights", b"<!DOCTYPE html><html>", b"\x00" * 500])
def test_other_files(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match="of another kind"):
        open_file(tmp_path / "a.pth")


def test_zips_of_something_else(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    with pytest.raises(InputError, match="expected a file of torch or safetensors"):
        open_file(tmp_path / "a.npz")


def test_no_mapping(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "a.pth")
    with pytest.raises(InputError, match="holds a list, expected tensors by name"):
        open_file(tmp_path / "a.pth")


def test_a_damaged_table_of_a_zip_is_told_in_one_line(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(STATE, path)
    honest = path.read_bytes()
    table = honest.rindex(b"PK\x01\x02")
    for place in range(honest.index(b"PK\x01\x02"), len(honest), 3):
        damaged = bytearray(honest)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            open_file(path)
        except InputError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
    path.write_bytes(honest[:table] + b"PK\x01\x02" + bytes(20) + honest[table + 24 :])
    with pytest.raises(InputError, match="can't be read as tensors"):
        open_file(path)


def test_weights_of_a_damaged_checkpoint_of_medseg_are_refused(tmp_path):
    summed = integrity.add({"state_dict": STATE, "medseg": {"format": 1}})
    torch.save(summed | {"state_dict": STATE | {"a.bias": torch.zeros(3)}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"model\.encoder\.weights=.*a\.ckpt: damaged since it was written"):
        open_file(tmp_path / "a.ckpt")
