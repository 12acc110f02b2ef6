"""Headers with which ITK ends the process, reads foreign files, or takes memory without bound."""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from medseg import formats
from medseg.errors import InputError
from medseg.formats import isolated
from medseg.formats.itk_header import ItkHeader, read_header

META = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "ElementSpacing": "1 1 1",
    "DimSize": "2 2 2", "ElementType": "MET_UCHAR", "ElementDataFile": "LOCAL",
}  # fmt: skip
NRRD = {
    "type": "uint8", "dimension": "3", "space": "left-posterior-superior", "sizes": "2 2 2",
    "space directions": "(1,0,0) (0,1,0) (0,0,1)", "encoding": "raw", "space origin": "(0,0,0)",
}  # fmt: skip
CELLS = bytes(range(8))


def meta(path: Path, changed: Mapping[str, str] | None = None, cells: bytes = CELLS) -> Path:
    fields = META | dict(changed or {})
    data = {"ElementDataFile": fields.pop("ElementDataFile")}  # ends the header, wherever keys are added
    path.write_bytes("".join(f"{k} = {v}\n" for k, v in (fields | data).items()).encode() + cells)
    return path


def nrrd(path: Path, changed: Mapping[str, str] | None = None, cells: bytes = CELLS) -> Path:
    lines = "".join(f"{k}: {v}\n" for k, v in (NRRD | dict(changed or {})).items())
    path.write_bytes(f"NRRD0004\n{lines}\n".encode() + cells)
    return path


@pytest.mark.parametrize("axes", ["100", "-1", "100000", "2147483648", "0", "1", "5", "", "3.5", "x"])
def test_a_number_of_axes_that_ends_itk_is_refused(tmp_path: Path, axes: str) -> None:
    with pytest.raises(InputError, match=rf"a\.mha: cannot be read.*(has {axes or 'no'} axes|NDims is '{axes}')"):
        formats.open(meta(tmp_path / "a.mha", {"NDims": axes}))
    with pytest.raises(InputError, match=rf"a\.nrrd: cannot be read.*(has {axes or 'no'} axes|dimension is '{axes}')"):
        formats.open(nrrd(tmp_path / "a.nrrd", {"dimension": axes}))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"DimSize": "2 2"}, "the size is '2 2', expected 3 number"),
        ({"DimSize": "2 2 0"}, r"its size is \[2, 2, 0\], expected at least one cell"),
        ({"DimSize": "2 2 3"}, "promises 12 bytes of cells, but 8 are stored"),
        ({"DimSize": "99999 99999 99999"}, "promises 999970000299999 bytes"),
        ({"ElementType": "MET_OTHER"}, "ElementType = 'MET_OTHER', expected one such as"),
        ({"ElementNumberOfChannels": "-3"}, "ElementNumberOfChannels = -3, expected 1 to 10000"),
        ({"TransformMatrix": "1 0 0"}, "TransformMatrix is '1 0 0', expected 9 number"),
        ({"Offset": "1 2 3 4"}, "Offset is '1 2 3 4', expected 3 number"),
        ({"ElementSpacing": "nan 1 1"}, "ElementSpacing is 'nan 1 1', expected 3 number"),
        ({"CompressedDataSize": "1 2"}, "CompressedDataSize is '1 2', expected 1 number"),
        ({"a" * 300: "x"}, "got the line 'aaa"),
        ({"Comment": "x" * 5000}, "a line of 4096 bytes"),
        ({"Comment": "x\nNDims = 100"}, "NDims is given twice"),
        ({"Comment": "x\nno key"}, "got the line 'no key', expected 'Key = Value'"),
    ],
)
def test_meta_image_headers_that_contradict_themselves(tmp_path: Path, changed: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=rf"a\.mha: cannot be read.*{words}"):
        formats.open(meta(tmp_path / "a.mha", changed))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sizes": "2 2 2 2"}, "the size is '2 2 2 2', expected 3 number"),
        ({"sizes": "2 2 99"}, "promises 396 bytes of cells, but 8 are stored"),
        ({"type": "block"}, "type is 'block', expected one such as"),
        ({"encoding": "zip"}, "encoding is 'zip', expected raw or gzip"),
        ({"byte skip": "-2"}, r"line skip and byte skip are \[0, -2\]"),
        ({"Sizes": "9 9 9"}, "the field 'sizes' is given twice"),
        ({"content": "x\nno field"}, "got the line 'no field', expected 'field: value'"),
    ],
)
def test_nrrd_headers_that_contradict_themselves(tmp_path: Path, changed: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=rf"a\.nrrd: cannot be read.*{words}"):
        formats.open(nrrd(tmp_path / "a.nrrd", changed))


@pytest.mark.parametrize(
    "named",
    ["/etc/passwd", "../x.raw", "..", "sub/x.raw", "sub\\x.raw", "/dev/zero", "missing.raw", "pipe",
     "LIST\n/etc/passwd", "LIST 2\n../x.raw", "%s", "a%n.raw 1 2 1", "/dev/%d 0 0 1", "a%d.raw 1 2000000 1", "a%d.raw"],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_data_files_are_regular_files_of_the_same_folder(tmp_path: Path, named: str, ending: str) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x.raw").write_bytes(CELLS)
    (tmp_path / "x.raw").write_bytes(CELLS)
    os.mkfifo(folder / "pipe")
    write, key = (nrrd, "data file") if "n" in ending else (meta, "ElementDataFile")
    with pytest.raises(InputError, match=rf"a\{ending}: cannot be read.*data file"):
        formats.open(write(folder / f"a{ending}", {key: named}, b""))


def test_data_files_in_the_same_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(CELLS)
    for k in (1, 2):
        (tmp_path / f"s{k}.raw").write_bytes(CELLS[:4])
    path = meta(tmp_path / "a.mhd", {"ElementDataFile": "x.raw"}, b"")
    assert read_header(path) == ItkHeader(3, (tmp_path / "x.raw",), ordinary=True)
    assert formats.open(path).read().reshape(-1, order="F").tolist() == list(CELLS)
    parts = (tmp_path / "s1.raw", tmp_path / "s2.raw")
    for named in ("LIST\ns1.raw\ns2.raw\n", "s%d.raw 1 2 1"):
        assert read_header(meta(tmp_path / "b.mhd", {"ElementDataFile": named}, b"")) == ItkHeader(3, parts, False)
        assert read_header(nrrd(tmp_path / "b.nhdr", {"data file": named}, b"")) == ItkHeader(3, parts, False)


def test_headers_that_are_written_otherwise_are_not_ordinary(tmp_path: Path) -> None:
    text = meta(tmp_path / "a.mha", {"BinaryData": "False"}, b"0 1 2 3 4 5 6 7\n")
    assert not read_header(text).ordinary
    assert not read_header(meta(tmp_path / "b.mha", {"HeaderSize": "-1"})).ordinary
    assert not read_header(nrrd(tmp_path / "a.nrrd", {"byte skip": "-1"})).ordinary
    assert read_header(meta(tmp_path / "c.mha", {"0008|0060": "CT", "ITK_note": "a = b: c"})).ordinary


def test_an_unusual_header_is_read_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe, asked = isolated.probe, []

    def noted(path: Path) -> None:
        asked.append(path)
        probe(path)

    monkeypatch.setattr(isolated, "probe", noted)
    path = nrrd(tmp_path / "a.nrrd", {"encoding": "ascii"}, b"0 1 2 3 4 5 6 7\n")
    np.testing.assert_array_equal(formats.open(path).read().reshape(-1, order="F"), np.arange(8))
    formats.open(nrrd(tmp_path / "b.nrrd"))
    assert asked == [path]


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_compressed_cells_may_not_promise_what_they_cannot_hold(tmp_path: Path, ending: str) -> None:
    size = "1000 1000 1000"
    if ending == ".mha":
        path = meta(tmp_path / "a.mha", {"DimSize": size, "CompressedData": "True"}, zlib.compress(CELLS))
    else:
        path = nrrd(tmp_path / "a.nrrd", {"sizes": size, "encoding": "gzip"}, zlib.compress(CELLS))
    with pytest.raises(InputError, match=rf"a\{ending}: cannot be read.*promises 1000000000 bytes of cells, which"):
        formats.open(path)


def test_the_format_is_that_of_the_suffix(tmp_path: Path) -> None:
    """ITK would look at the content, and open BMP, HDF5, MINC and a dozen others."""
    (tmp_path / "a.mha").write_bytes(nrrd(tmp_path / "a.nrrd").read_bytes())
    with pytest.raises(InputError, match=r"a\.mha: cannot be read"):
        formats.open(tmp_path / "a.mha")
