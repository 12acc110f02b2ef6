"""Tensors of TorchScript archives: those of the module, whatever it is, and nothing that the file says is run."""

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from medseg.errors import InputError
from medseg.weights.archive import open_file
from tests.weights.test_archive import Code


class Net(nn.Module):
    """Everything that a module may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.turned = nn.Parameter(torch.randn(5, 2).T)
        self.part = nn.Parameter(torch.randn(9)[3:7])
        self.same = self.layers[0]
        self.register_buffer("short", torch.randn(3).half())
        self.register_buffer("brain", torch.randn(3).bfloat16())
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("empty", torch.empty(0, 2))
        self.scale = 0.5

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image) * self.scale + self.turned.sum() + self.part.sum()


@pytest.fixture(autouse=True)
def _deprecated() -> None:
    warnings.simplefilter("ignore")  # torch.jit itself


def saved(path: Path, make: Callable[[nn.Module], torch.jit.ScriptModule] = torch.jit.script) -> nn.Module:
    torch.manual_seed(0)
    net = Net().eval()
    make(net).save(str(path))
    return net


@pytest.mark.parametrize(
    "make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(1, 3, 8, 8))], ids=["scripted", "traced"]
)
def test_tensors_are_those_of_the_program(tmp_path: Path, make: Callable[[nn.Module], torch.jit.ScriptModule]) -> None:
    saved(tmp_path / "a.pt", make)
    theirs, ours = torch.jit.load(tmp_path / "a.pt").state_dict(), open_file(tmp_path / "a.pt")
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert isinstance(found := ours[name], torch.Tensor)
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found, tensor)


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_frozen_program_has_no_names(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt", lambda net: torch.jit.freeze(torch.jit.script(net)))
    refused(tmp_path / "a.pt", r"without tensors that have names, as torch\.jit\.freeze makes it")


def rewritten(path: Path, change: Callable[[str, bytes], bytes], compress: str = "") -> Path:
    """The archive with other contents of its entries; those with ``compress`` in their names compressed."""
    target = path.with_name("changed.pt")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            how = zipfile.ZIP_DEFLATED if compress and compress in name else zipfile.ZIP_STORED
            copy.writestr(name, change(name, archive.read(name)), compress_type=how)
    return target


def described(by: bytes) -> Callable[[str, bytes], bytes]:
    return lambda name, content: by if name.endswith("/data.pkl") else content


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_the_description_never_runs(tmp_path: Path, protocol: int) -> None:
    saved(tmp_path / "a.pt")
    harm = pickle.dumps({"net": Code(str(tmp_path / "ran"))}, protocol=protocol)
    refused(rewritten(tmp_path / "a.pt", described(harm)), "without tensors that have names|opcode")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "description",
    [
        b"", b".", b"}.", b"0.", b"\x80\x02c__torch__\nNet\n)\x81}q\x00(X\x01\x00\x00\x00ah\x00ub.",
        b"\x80\x02]]e.", b"(((t.", b"\x80\x02}(X\x01\x00\x00\x00au.", b"\x80\x02I1\n.", b"\x80\x02}}}s.",
    ],
)  # fmt: skip
def test_other_descriptions_are_refused(tmp_path: Path, description: bytes) -> None:
    saved(tmp_path / "a.pt")
    refused(rewritten(tmp_path / "a.pt", described(description)), "can't be read as TorchScript|that have names")


def test_a_module_that_contains_itself_ends(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt")
    of_itself = b"\x80\x02c__torch__\nNet\n)\x81q\x00}(X\x04\x00\x00\x00selfh\x00ub."
    refused(rewritten(tmp_path / "a.pt", described(of_itself)), "that have names")


def test_a_small_file_with_more_modules_than_any_network_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt")
    module = b"c__torch__\nNet\n)\x81q%c}(X\x01\x00\x00\x00ah%cX\x01\x00\x00\x00bh%cub"
    twice = b"".join(module % (i, i - 1, i - 1) for i in range(1, 41))
    innermost = b"\x80\x02c__torch__\nNet\n)\x81q\x00"
    refused(rewritten(tmp_path / "a.pt", described(innermost + twice + b".")), "more than 131072 modules and tensors")


@pytest.mark.parametrize("kept", [0, 3])
def test_storages_that_are_too_short(tmp_path: Path, kept: int) -> None:
    saved(tmp_path / "a.pt")
    cut = rewritten(tmp_path / "a.pt", lambda name, content: content[:kept] if "/data/" in name else content)
    refused(cut, "can't be read as TorchScript")


def test_compressed_storages_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt")
    refused(rewritten(tmp_path / "a.pt", lambda name, content: content, compress="/data/"), "is compressed")


def test_another_order_of_bytes_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt")
    other = rewritten(tmp_path / "a.pt", lambda name, content: b"big" if name.endswith("/byteorder") else content)
    refused(other, "another order of bytes")


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_cut_short(tmp_path: Path, kept: float) -> None:
    saved(tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content[: int(kept * len(content))])
    refused(tmp_path / "a.pt", "cut short or of another kind|damaged")


def test_a_tensor_with_more_values_than_its_storage_is_refused(tmp_path: Path) -> None:
    net = nn.BatchNorm1d(2)
    net.register_buffer("wide", torch.ones(1).expand(1000))
    torch.jit.script(net).save(str(tmp_path / "a.pt"))
    refused(tmp_path / "a.pt", r"a tensor of shape \[1000\] in a storage of 1 values")
