"""Tensors of ONNX files: under the names of the network, whatever the exporter made of them, and nothing else."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from medseg.errors import InputError
from medseg.weights import onnx_file
from medseg.weights.onnx_file import tensors
from medseg.weights.pretrained import read

KERNEL = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
BIAS = np.array([1, -2], np.float32)


def write(path: Path, held: dict[str, np.ndarray], nodes: Sequence[onnx.NodeProto] = ()) -> Path:
    """An ONNX file of these initialisers; the graph need not run."""
    initialisers = [numpy_helper.from_array(values, name) for name, values in held.items()]
    graph = helper.make_graph(list(nodes), "graph", [], [], initialisers)
    onnx.save(helper.make_model(graph), str(path))
    return path


def conv(kernel: str) -> onnx.NodeProto:
    return helper.make_node("Conv", ["image", kernel], ["features"])


def test_tensors_have_their_names_and_types(tmp_path: Path) -> None:
    held = {"net.conv.weight": KERNEL, "net.conv.bias": BIAS.astype(np.float16), "net.steps": np.array(7)}
    found = tensors(write(tmp_path / "a.onnx", held, [conv("net.conv.weight")]))
    assert {name: (t.dtype, t.numpy().tolist()) for name, t in found.items()} == {
        "net.conv.weight": (torch.float32, KERNEL.tolist()),
        "net.conv.bias": (torch.float16, [1.0, -2.0]),
        "net.steps": (torch.int64, 7),
    }


def test_bfloat16(tmp_path: Path) -> None:
    stored = helper.make_tensor("a.weight", TensorProto.BFLOAT16, [2], [1.5, -3.0])
    onnx.save(helper.make_model(helper.make_graph([], "graph", [], [], [stored])), str(tmp_path / "a.onnx"))
    assert torch.equal(tensors(tmp_path / "a.onnx")["a.weight"], torch.tensor([1.5, -3.0], dtype=torch.bfloat16))


def test_equal_tensors_that_are_stored_once_come_back(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["one.bias"], ["two.bias"])]
    found = tensors(write(tmp_path / "a.onnx", {"one.bias": BIAS}, nodes))
    assert list(found) == ["one.bias", "two.bias"]
    assert torch.equal(found["two.bias"], found["one.bias"])


@pytest.mark.parametrize("stored", ["onnx::MatMul_45", "val_21"])
@pytest.mark.parametrize("bias_first", [True, False])
def test_weights_of_linear_layers_get_their_names_and_axes_back(tmp_path: Path, stored: str, bias_first: bool) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    terms = ["block.fc.bias", "product"] if bias_first else ["product", "block.fc.bias"]
    nodes = [helper.make_node("MatMul", ["tokens", stored], ["product"]), helper.make_node("Add", terms, ["sum"])]
    found = tensors(write(tmp_path / "a.onnx", {stored: weight.T.copy(), "block.fc.bias": BIAS}, nodes))
    assert set(found) == {"block.fc.weight", "block.fc.bias"}
    assert found["block.fc.weight"].tolist() == weight.tolist()


def test_constants_are_left_out(tmp_path: Path) -> None:
    constants = {"onnx::Reshape_9": np.array([1]), "/block/Constant_output_0": np.array([2]), "val_3": np.array([3])}
    assert list(tensors(write(tmp_path / "a.onnx", {**constants, "a.weight": KERNEL}))) == ["a.weight"]


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        tensors(path)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folded_normalisation_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.onnx", {"onnx::Conv_40": KERNEL, "head.weight": KERNEL}, [conv("onnx::Conv_40")])
    refused(file, r"1 of its 1 kernels have lost their names \(onnx::Conv_40\).*do_constant_folding=False")


@pytest.mark.parametrize("content", [b"", b"hello, I am no file of weights", b"\x80\x02}q\x00."])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    refused(tmp_path / "a.onnx", "can't be read as ONNX|holds no tensors")


def test_cut_short(tmp_path: Path) -> None:
    file = write(tmp_path / "a.onnx", {"a.weight": KERNEL})
    file.write_bytes(file.read_bytes()[:-40])
    refused(file, "can't be read as ONNX; it is cut short")


def test_a_tensor_with_fewer_values_than_its_shape_says(tmp_path: Path) -> None:
    model = onnx.load(str(write(tmp_path / "a.onnx", {"a.weight": KERNEL})))
    model.graph.initializer[0].dims[0] = 1 << 40
    onnx.save(model, str(tmp_path / "a.onnx"))
    refused(tmp_path / "a.onnx", r"a\.weight can't be read as a tensor of shape \[1099511627776, 3, 2, 2\]")


def test_files_larger_than_protobuf_permits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "_MOST", 100)
    refused(write(tmp_path / "a.onnx", {"a.weight": KERNEL}), "expected 100 at most")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    refused(
        write(tmp_path / "a.onnx", {"a.weight": KERNEL}),
        r"needs onnx, not installed here; pip install 'medseg\[export\]'",
    )


def outside(file: Path, location: str, *, length: int = KERNEL.nbytes, offset: int = 0) -> Path:
    """An ONNX file whose tensor lies in another file."""
    model = onnx.load(str(write(file, {"a.weight": KERNEL})))
    stored = model.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        stored.external_data.add(key=key, value=str(value))
    file.write_bytes(model.SerializeToString())
    return file


def test_tensors_in_a_second_file_of_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "a.onnx.data").write_bytes(b"12345678" + KERNEL.tobytes())
    file = outside(tmp_path / "a.onnx", "a.onnx.data", offset=8)
    assert tensors(file)["a.weight"].tolist() == KERNEL.tolist()
    before = read(file).digest
    (tmp_path / "a.onnx.data").write_bytes(b"12345678" + (2 * KERNEL).tobytes())
    assert read(file).digest != before


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "sub/secret", "..\\secret", "link", ".."])
def test_nothing_is_read_outside_of_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "weights"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path / "secret", folder / "sub" / "secret", folder / "..\\secret"):
        place.write_bytes(KERNEL.tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    refused(outside(folder / "a.onnx", location), "expected a file in its own folder|which is not there")


def test_a_second_file_that_is_missing_or_short(tmp_path: Path) -> None:
    file = outside(tmp_path / "a.onnx", "a.data")
    refused(file, r"keeps tensors in 'a\.data', which is not there; fetch it into")
    (tmp_path / "a.data").write_bytes(KERNEL.tobytes()[:-1])
    refused(file, r"a\.data: a\.weight lies outside of the file; it is cut short")
    refused(outside(tmp_path / "b.onnx", "a.data", offset=-8), "lies outside of the file")
