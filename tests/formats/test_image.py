import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from medseg import formats
from medseg.errors import InputError
from medseg.formats import image
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import LabelTable
from tests.formats.scenes import noise


def png(path, bits, kind, rows, palette=b""):
    """A PNG written byte by byte: ``kind`` 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    width = len(rows[0]) * 8 // bits // samples

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + (chunk(b"PLTE", palette) if palette else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(
    ("bits", "kind", "rows", "expected"),
    [
        (1, 0, [b"\xa5", b"\x0f"], [[1, 0, 1, 0, 0, 1, 0, 1], [0, 0, 0, 0, 1, 1, 1, 1]]),
        (2, 0, [b"\x1b", b"\xe4"], [[0, 1, 2, 3], [3, 2, 1, 0]]),
        (4, 0, [b"\x1f", b"\xe0"], [[1, 15], [14, 0]]),
        (8, 0, [b"\x01\xff"], [[1, 255]]),
        (16, 0, [b"\x01\x02\xff\xff"], [[258, 65535]]),
        (1, 3, [b"\xa5"], [[1, 0, 1, 0, 0, 1, 0, 1]]),
        (2, 3, [b"\x1b"], [[0, 1, 2, 3]]),
        (8, 3, [b"\x02\x01"], [[2, 1]]),
    ],
)
def test_one_channel_is_what_the_file_stores(tmp_path, bits, kind, rows, expected):
    source = formats.open(png(tmp_path / "a.png", bits, kind, rows, palette=bytes(range(60)) if kind == 3 else b""))
    np.testing.assert_array_equal(source.read(), [expected])
    assert source.dtype == source.read().dtype == (np.uint16 if bits == 16 else np.uint8)
    assert (source.n_channels, source.names, source.grid.frame) == (1, (), PIXEL)
    np.testing.assert_array_equal(source.grid.affine, np.eye(3))
    assert source.read_valid()[1].all()


def test_colours_and_alpha(tmp_path):
    source = formats.open(png(tmp_path / "a.png", 8, 2, [b"\x01\x02\x03\x04\x05\x06"]))
    np.testing.assert_array_equal(source.read(), [[[1, 4]], [[2, 5]], [[3, 6]]])
    assert source.names == ("R", "G", "B")
    source = formats.open(png(tmp_path / "b.png", 8, 6, [b"\x01\x02\x03\x00\x04\x05\x06\x80"]))
    cells, valid = source.read_valid(channels=[2, 0])
    np.testing.assert_array_equal(cells, [[[3, 6]], [[1, 4]]])
    np.testing.assert_array_equal(valid, [[False, True]])
    source = formats.open(png(tmp_path / "c.png", 8, 4, [b"\x07\x01\x08\x00"]))
    cells, valid = source.read_valid()
    np.testing.assert_array_equal(cells, [[[7, 8]]])
    np.testing.assert_array_equal(valid, [[True, False]])


@pytest.mark.parametrize(("kind", "row"), [(2, bytes(12)), (4, bytes(8)), (6, bytes(16))])
def test_colours_of_16_bits_are_refused_not_cut(tmp_path, kind, row):
    with pytest.raises(InputError, match=r"a\.png: holds colours of 16 bits, which PIL cuts to 8; convert it to \.tif"):
        formats.open(png(tmp_path / "a.png", 16, kind, [row]))


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".bmp", ".png"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_of_pil(tmp_path, ending, channels):
    picture = Image.fromarray(noise((20, 30, 3), "uint8") if channels == 3 else noise((20, 30), "uint8"))
    picture.save(tmp_path / f"a{ending}")
    source = formats.open(tmp_path / f"a{ending}")
    with Image.open(tmp_path / f"a{ending}") as again:
        expected = np.atleast_3d(np.asarray(again)).transpose(2, 0, 1)
    np.testing.assert_array_equal(source.read(), expected)
    box = Box((3, 4), (20, 6))
    cells = source.read(box, [channels - 1])
    np.testing.assert_array_equal(cells, expected[channels - 1 :, 3:20, 4:6])
    assert cells.flags.c_contiguous
    assert cells.flags.writeable


def test_photographs_are_not_turned(tmp_path):
    picture = Image.fromarray(noise((20, 30, 3), "uint8"))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood upright
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert formats.open(tmp_path / "a.jpg").grid.shape == (20, 30)


def test_other_colours_are_refused(tmp_path):
    Image.fromarray(noise((4, 5, 4), "uint8"), mode="CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: holds colours of kind CMYK, expected a palette, grey or RGB"):
        formats.open(tmp_path / "a.jpg")


@pytest.mark.parametrize("keep", [0, 20, 0.5])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp"])
def test_a_picture_cut_short_is_told_in_one_line(tmp_path, ending, keep, capfd):
    path = tmp_path / f"a{ending}"
    Image.fromarray(noise((60, 50, 3), "uint8")).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else keep])
    with pytest.raises(
        InputError, match=r"a\.\w+: cannot be read, expected a complete file that is readable; copy"
    ) as told:
        formats.open(path).read()
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


def test_pictures_too_large_for_memory_are_refused(tmp_path, monkeypatch):
    formats.write(tmp_path / "a.png", np.zeros((20, 20), np.uint8), Grid((20, 20), np.eye(3), PIXEL))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 250)  # PIL warns from here on, and refuses at twice as much
    assert formats.open(tmp_path / "a.png").read().shape == (1, 20, 20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 199)
    with pytest.raises(InputError, match=r"a\.png: too large to decode whole .*; convert it to a tiled \.tif"):
        formats.open(tmp_path / "a.png")


def test_windows_share_a_decoding_until_the_file_changes(tmp_path):
    grid = Grid((9, 9), np.eye(3), PIXEL)
    path = tmp_path / "a.png"
    formats.write(path, np.full((9, 9), 3, np.uint8), grid)
    source = formats.open(path)
    image._decode.cache_clear()
    for i in range(5):
        assert source.read(Box((i, i), (i + 4, i + 4))).max() == 3
    assert image._decode.cache_info().misses == 1
    formats.write(path, noise((9, 9), "uint8"), grid)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read()[0], noise((9, 9), "uint8"))
    formats.write(path, np.zeros((5, 5), np.uint8), Grid((5, 5), np.eye(3), PIXEL))
    with pytest.raises(InputError, match=r"a\.png: cannot be read, .*replaced by another image while in use"):
        source.read()


def test_labels_are_written_as_a_palette(tmp_path):
    table = LabelTable.declare({"land": 0, "water": 3}, colours={"land": (9, 8, 7), "water": (1, 2, 3)})
    array, grid = np.array([[0, 3, 255]], dtype=np.uint8), Grid((1, 3), np.eye(3), PIXEL)
    formats.write(tmp_path / "a.png", array, grid, labels=table)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), array)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB"))[0], [(9, 8, 7), (1, 2, 3), (255, 255, 255)])
    np.testing.assert_array_equal(formats.open(tmp_path / "a.png").read(), array[None])


@pytest.mark.parametrize(
    ("cells", "stored"),
    [([0, 255], "uint8"), ([0, 256], "uint16"), ([7, 65535], "uint16"), ([False, True], "uint8")],
)
@pytest.mark.parametrize("labelled", [False, True])
def test_bits_are_those_that_values_need(tmp_path, cells, stored, labelled):
    table = LabelTable.declare({"land": 0, "water": 3}) if labelled else None
    array = np.array([cells], dtype=bool if cells[1] is True else np.int64)
    formats.write(tmp_path / "a.png", array, Grid((1, 2), np.eye(3), PIXEL), labels=table)
    source = formats.open(tmp_path / "a.png")
    assert source.dtype == stored
    np.testing.assert_array_equal(source.read()[0], array)


@pytest.mark.parametrize(
    ("array", "came"),
    [
        (np.array([[0, 65536]]), "integers of 0 to 65536"),
        (np.array([[-1, 5]]), "integers of -1 to 5"),
        (np.array([[0.5, 0.5]]), "float64"),
    ],
)
def test_values_that_png_does_not_hold(tmp_path, array, came):
    with pytest.raises(InputError, match=rf"got {came}, PNG holds 0 to 65535 here; write to .*\.tif"):
        formats.write(tmp_path / "a.png", array, Grid((1, 2), np.eye(3), PIXEL))
    assert list(tmp_path.iterdir()) == []


def test_colours_written_and_read_again(tmp_path):
    bands, grid = noise((3, 5, 7), "uint8"), Grid((5, 7), np.eye(3), PIXEL)
    formats.write_image(tmp_path / "a.png", bands, grid, names=("R", "G", "B"))
    np.testing.assert_array_equal(formats.open(tmp_path / "a.png").read(), bands)
    with pytest.raises(InputError, match=r"got 4 channels, PNG holds 1 or 3; write to a\.tif"):
        formats.write_image(tmp_path / "a.png", noise((4, 5, 7), "uint8"), grid)


def test_real_masks_read_as_indices(real_data):
    for folder, name in (("aerial_dubai/masks", "tile1_001.png"), ("retina_drive/fov", "21.png")):
        path = real_data / folder / name
        with Image.open(path) as picture:
            assert picture.mode == "P"
            expected = np.asarray(picture)
        np.testing.assert_array_equal(formats.open(path).read()[0], expected)
