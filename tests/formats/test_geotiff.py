import json
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from medseg import formats
from medseg.errors import InputError
from medseg.formats import geotiff
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import LabelTable
from tests.formats.scenes import NORTH_UP, TRANSFORMS, UTM, noise, save

TABLE = LabelTable.declare({"land": 0, "water": 3, "ice": 7}, colours={"water": (1, 2, 3)})


@pytest.fixture(params=TRANSFORMS.values(), ids=TRANSFORMS.keys())
def transform(request):
    return request.param


def test_grid_places_cell_centres_where_rasterio_does(tmp_path, transform):
    source = formats.open(save(tmp_path / "a.tif", noise((1, 5, 7)), transform=transform))
    rows, cols = np.array([0, 4, 2]), np.array([0, 6, 5])
    with rasterio.open(tmp_path / "a.tif") as scene:
        expected = np.stack([*scene.xy(rows, cols)], axis=1)
    np.testing.assert_allclose(source.grid.to_world(np.stack([rows, cols], axis=1)), expected, rtol=0, atol=1e-6)
    assert source.grid.frame == UTM.to_wkt()
    assert source.grid.unit == "m"


def test_arrays_are_never_flipped(tmp_path, transform):
    bands = noise((3, 5, 7))
    np.testing.assert_array_equal(formats.open(save(tmp_path / "a.tif", bands, transform=transform)).read(), bands)


def test_a_window_is_a_slice_of_the_whole(tmp_path):
    bands = noise((5, 60, 70))
    path = save(tmp_path / "a.tif", bands, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    source = formats.open(path)
    for box, channels in [
        (Box((3, 9), (50, 11)), None), (Box((0, 0), (60, 70)), [4]), (Box((59, 69), (60, 70)), [3, 0, 3]),
    ]:  # fmt: skip
        cells = source.read(box, channels)
        np.testing.assert_array_equal(cells, bands[channels or slice(None)][(slice(None), *box.slices)])
        assert cells.flags.c_contiguous
    with pytest.raises(
        InputError, match=r"a\.tif: the window \(0, 0\) to \(61, 70\) is not inside the grid \(60, 70\)"
    ):
        source.read(Box((0, 0), (61, 70)))


def test_a_window_decodes_only_its_blocks(tmp_path):
    path = save(tmp_path / "a.tif", noise((2, 256, 256)), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    with rasterio.open(path) as scene:
        offsets = [int(scene.get_tag_item(f"BLOCK_OFFSET_{c}_{r}", "TIFF", bidx=1)) for r in range(4) for c in range(4)]
    spoilt = bytearray(path.read_bytes())
    for offset in offsets[1:]:
        spoilt[offset : offset + 40] = b"\xff" * 40
    expected = formats.open(path).read(Box((5, 5), (64, 60)))
    path.write_bytes(bytes(spoilt))
    source = formats.open(path)
    np.testing.assert_array_equal(source.read(Box((5, 5), (64, 60))), expected)
    with pytest.raises(InputError, match=r"a\.tif: cannot be read"):
        source.read(Box((5, 5), (65, 60)))


@pytest.mark.parametrize(
    "stored", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
def test_types(tmp_path, stored):
    bands = noise((2, 4, 5), stored) // 2
    source = formats.open(save(tmp_path / "a.tif", bands))
    assert source.dtype == (np.float32 if stored.startswith("f") else stored)
    np.testing.assert_array_equal(source.read(), bands)
    assert source.read().dtype == source.dtype


@pytest.mark.parametrize("stored", ["complex64", "complex_int16"])
def test_complex_is_refused(tmp_path, stored):
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", height=4, width=5, count=1, dtype=stored, crs=UTM,
                       transform=NORTH_UP):  # fmt: skip
        pass
    with pytest.raises(InputError, match=r"a\.tif: holds complex numbers"):
        formats.open(tmp_path / "a.tif")


def test_scale_and_offset_are_applied_and_nodata_means_the_stored_value(tmp_path):
    bands = np.array([[[0, 1000, 2000]], [[1, 0, 7]]], dtype=np.uint16)
    path = save(tmp_path / "a.tif", bands, scales=(0.0001, 2.0), offsets=(-0.1, 0.0), nodata=0)
    source = formats.open(path)
    cells, valid = source.read_valid()
    assert cells.dtype == source.dtype == np.float32
    np.testing.assert_allclose(cells, [[[-0.1, 0.0, 0.1]], [[2.0, 0.0, 14.0]]], atol=1e-7)
    np.testing.assert_array_equal(valid, [[False, False, True]])
    np.testing.assert_array_equal(source.read_valid(channels=[1])[1], [[True, False, True]])


def test_names_are_the_descriptions_if_each_band_has_its_own(tmp_path):
    bands = noise((2, 4, 5))
    assert formats.open(save(tmp_path / "a.tif", bands, names=("B2", "B8"))).names == ("B2", "B8")
    assert formats.open(save(tmp_path / "b.tif", bands, names=("B2",))).names == ()
    assert formats.open(save(tmp_path / "c.tif", bands, names=("B2", "B2"))).names == ()


@pytest.mark.parametrize(
    ("stored", "nodata"),
    [("uint8", 7), ("int16", -999), ("uint16", 65535), ("float32", -9999.0), ("float32", np.nan),
     ("float32", -3.4028234663852886e38), ("float64", -1.7976931348623157e308), ("float32", np.inf)],
)  # fmt: skip
def test_nodata_kinds(tmp_path, stored, nodata):
    bands = noise((2, 4, 5), stored)
    bands[bands == 7] = 8
    bands[0, 1, 2] = bands[1, 3, 3] = nodata
    source = formats.open(save(tmp_path / "a.tif", bands, nodata=nodata))
    for channels in ([0], [1], [1, 0]):
        expected = np.ones((4, 5), dtype=bool)
        expected[1, 2] = 0 not in channels
        expected[3, 3] = 1 not in channels
        _, valid = source.read_valid(channels=channels)
        np.testing.assert_array_equal(valid, expected)
        with rasterio.open(tmp_path / "a.tif") as scene:
            masks = scene.read_masks([c + 1 for c in channels])
        np.testing.assert_array_equal(valid, (masks > 0).all(axis=0))


@pytest.mark.parametrize(("stored", "nodata"), [("uint8", -1), ("uint8", 300), ("uint8", 1.5), ("uint16", np.nan)])
def test_nodata_that_no_cell_can_have_is_none(tmp_path, stored, nodata):
    path = save(tmp_path / "a.tif", noise((1, 4, 5), stored))
    (tmp_path / "a.tif.aux.xml").write_text(
        f"<PAMDataset><PAMRasterBand band='1'><NoDataValue>{nodata}</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    assert formats.open(path).read_valid()[1].all()


def test_no_mask_is_made_where_no_cell_can_be_without_data(tmp_path):
    cells = np.array([[[1, 2], [3, 4]]], np.uint16)
    source = formats.open(save(tmp_path / "a.tif", cells, nodata=0))
    assert source.read_known()[1] is None
    cells[0, 1, 0] = 0
    holed = formats.open(save(tmp_path / "b.tif", cells, nodata=0))
    np.testing.assert_array_equal(holed.read_known()[1], [[True, True], [False, True]])
    assert holed.read_known(Box((0, 0), (1, 2)))[1] is None


def test_nan_is_left_to_the_caller_unless_it_is_the_nodata_value(tmp_path):
    bands = noise((1, 4, 5), "float32")
    bands[0, 0, 0] = np.nan
    assert formats.open(save(tmp_path / "a.tif", bands)).read_valid()[1].all()
    assert formats.open(save(tmp_path / "b.tif", bands, nodata=5000)).read_valid()[1].all()


def test_masks_of_the_file(tmp_path):
    bands, mask = noise((3, 6, 5), "uint16"), noise((6, 5), "uint8") > 99
    source = formats.open(save(tmp_path / "a.tif", bands, mask=mask))
    box = Box((1, 2), (5, 4))
    np.testing.assert_array_equal(source.read_valid(box, [1])[1], mask[box.slices])


def test_an_alpha_band_is_validity_unless_told_otherwise(tmp_path):
    bands = noise((4, 6, 5), "uint8")
    bands[3] = np.where(bands[3] > 99, bands[3], 0)
    path = save(tmp_path / "a.tif", bands)  # GDAL's own tags
    with rasterio.open(path) as scene:
        assert scene.colorinterp[3] == ColorInterp.alpha
    source = formats.open(path)
    assert source.n_channels == 3
    cells, valid = source.read_valid(channels=[2, 0])
    np.testing.assert_array_equal(cells, bands[[2, 0]])
    np.testing.assert_array_equal(valid, bands[3] > 0)
    every = formats.open(path, alpha=False)
    np.testing.assert_array_equal(every.read(), bands)
    assert every.read_valid()[1].all()


def test_a_file_without_georeference_does_not_warn(tmp_path):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = save(tmp_path / "a.tif", noise((1, 4, 5)), transform=None, crs=None)
    source = formats.open(path)  # warnings are errors
    assert source.grid.frame == PIXEL
    np.testing.assert_array_equal(source.grid.affine, np.eye(3))
    source.read()


def test_a_transform_without_crs_is_kept(tmp_path):
    source = formats.open(save(tmp_path / "a.tif", noise((1, 4, 5)), crs=None))
    assert source.grid.frame == PIXEL
    np.testing.assert_array_equal(source.grid.affine, [[0, 10, 465185], [-10, 0, 5080245], [0, 0, 1]])


def test_a_singular_transform_and_pages_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.tif: grid: the affine is singular"):
        formats.open(save(tmp_path / "a.tif", noise((1, 4, 5)), transform=Affine(1, 1, 0, 1, 1, 0)))
    from PIL import Image

    pages = [Image.fromarray(noise((4, 5), "uint8")) for _ in range(3)]
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match=r"b\.tif: holds 3 pages, one was expected; save each as its own file"):
        formats.open(tmp_path / "b.tif")


@pytest.mark.parametrize("keep", [0, 6, 300, 0.5])
def test_a_file_cut_short_is_told_in_one_line(tmp_path, keep, capfd):
    path = save(tmp_path / "a.tif", noise((3, 200, 200)), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(
        InputError, match=r"a\.tif: cannot be read, expected a complete file that is readable; copy"
    ) as told:
        formats.open(path).read()
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_tiff_is_refused(tmp_path, capfd):
    (tmp_path / "a.tif").write_bytes(b"<VRTDataset rasterXSize='5' rasterYSize='5'></VRTDataset>" * 20)
    with pytest.raises(InputError, match=r"a\.tif: cannot be read"):
        formats.open(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")


def test_a_replaced_file_is_not_read_from_the_old_handle(tmp_path):
    first, second = noise((1, 30, 30), seed=1), noise((1, 30, 30), seed=2)
    path = save(tmp_path / "a.tif", first)
    source = formats.open(path)
    np.testing.assert_array_equal(source.read(), first)
    save(tmp_path / "b.tif", second)
    os.replace(tmp_path / "b.tif", path)
    np.testing.assert_array_equal(source.read(), second)
    save(tmp_path / "b.tif", noise((1, 20, 20)))
    os.replace(tmp_path / "b.tif", path)
    with pytest.raises(InputError, match=r"a\.tif: cannot be read, .*replaced by another image while in use"):
        source.read(Box((0, 0), (5, 5)))
    path.unlink()
    with pytest.raises(InputError, match=r"a\.tif: cannot be read"):
        source.read()


def test_handles_are_bounded(tmp_path):
    paths = [save(tmp_path / f"{i}.tif", noise((1, 4, 5), seed=i)) for i in range(geotiff.OPEN_FILES + 8)]
    sources = [formats.open(path) for path in paths]
    for _ in range(2):
        for i, source in enumerate(sources):
            np.testing.assert_array_equal(source.read(), noise((1, 4, 5), seed=i))
    held = [
        os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")
    ]
    assert sum(str(tmp_path) in name for name in held) <= geotiff.OPEN_FILES


def test_a_pickled_source_is_small_and_reads(tmp_path):
    bands = noise((3, 300, 300))
    bands[0, 0, 0] = 0
    source = formats.open(save(tmp_path / "a.tif", bands, nodata=0))
    source.read(Box((0, 0), (3, 3)))
    sent = pickle.dumps(source)
    assert len(sent) < 4000
    back = pickle.loads(sent)
    np.testing.assert_array_equal(back.read(), bands)
    np.testing.assert_array_equal(back.read_valid()[1], source.read_valid()[1])


def test_threads_share_a_source(tmp_path):
    bands = noise((3, 128, 128))
    path = save(tmp_path / "a.tif", bands, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    source = formats.open(path)
    corners = np.random.default_rng(0).integers(0, 100, size=(200, 2)).tolist()

    def right(corner):
        box = Box.at(corner, (28, 28))
        return threading.get_ident(), np.array_equal(source.read(box), bands[(slice(None), *box.slices)])

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(right, corners))
    assert all(same for _, same in told)


_FORKS = """
import os, sys
from pathlib import Path
import numpy as np
from medseg import formats
from medseg.geometry.box import Box
source, bands = formats.open(Path(sys.argv[1])), np.load(sys.argv[2])
boxes = [Box((i, i), (i + 28, i + 28)) for i in range(0, 100, 5)]
def right():
    return all(np.array_equal(source.read(box), bands[(slice(None), *box.slices)]) for box in boxes)
assert right()
children = []
for _ in range(2):
    pid = os.fork()
    if not pid:
        os._exit(0 if right() else 1)
    children.append(pid)
assert right()
sys.exit(sum(os.waitpid(pid, 0)[1] for pid in children))
"""


def test_forks_share_a_source(tmp_path):
    """In a process without other threads, whose locks forks would keep for ever."""
    bands = noise((3, 128, 128))
    path = save(tmp_path / "a.tif", bands, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    np.save(tmp_path / "bands.npy", bands)
    code = [sys.executable, "-c", _FORKS, str(path), str(tmp_path / "bands.npy")]
    assert subprocess.run(code, check=False, timeout=300).returncode == 0


def test_written_and_read_again(tmp_path, transform):
    source = formats.open(save(tmp_path / "a.tif", noise((1, 5, 7)), transform=transform))
    formats.write(tmp_path / "b.tif", source.read()[0], source.grid)
    back = formats.open(tmp_path / "b.tif")
    np.testing.assert_array_equal(back.read(), source.read())
    np.testing.assert_array_equal(back.grid.affine, source.grid.affine)
    assert back.grid.frame == source.grid.frame
    with rasterio.open(tmp_path / "b.tif") as scene:
        assert scene.transform == transform
        assert scene.crs == UTM
        assert (scene.compression.value, scene.profile["tiled"], scene.block_shapes) == ("DEFLATE", True, [(256, 256)])


def test_written_like_another_scene_has_its_transform_to_the_last_bit(tmp_path, real_data):
    for path in sorted((real_data / "sen1floods11_sample" / "s1").iterdir()):
        source = formats.open(path)
        formats.write(tmp_path / "a.tif", np.zeros(source.grid.shape, np.uint8), source.grid, like=path)
        formats.write(tmp_path / "b.tif", np.zeros(source.grid.shape, np.uint8), source.grid)
        for name in ("a.tif", "b.tif"):
            with rasterio.open(path) as scene, rasterio.open(tmp_path / name) as written:
                assert written.transform == scene.transform
                assert written.crs == scene.crs
    shifted = Grid(source.grid.shape, source.grid.crop(Box((1, 1), (9, 9))).affine, source.grid.frame)
    with pytest.raises(ValueError, match=r"has another grid than the one to be written"):
        formats.write(tmp_path / "c.tif", np.zeros(source.grid.shape, np.uint8), shifted, like=path)


def test_labels_become_a_palette_class_names_and_nodata(tmp_path):
    array = np.array([[0, 3, 7], [255, 3, 0]], dtype=np.uint8)
    grid = formats.open(save(tmp_path / "a.tif", noise((1, 2, 3)))).grid
    formats.write(tmp_path / "b.tif", array, grid, labels=TABLE, nodata=255)
    with rasterio.open(tmp_path / "b.tif") as scene:
        colours = scene.colormap(1)
        assert [colours[c.saved][:3] for c in TABLE.classes] == [c.colour for c in TABLE.classes]
        assert colours[3] == (1, 2, 3, 255)
        assert json.loads(scene.tags()["CLASS_NAMES"]) == {"0": "land", "3": "water", "7": "ice"}
        assert scene.nodata == 255
    cells, valid = formats.open(tmp_path / "b.tif").read_valid()
    np.testing.assert_array_equal(cells[0], array)
    np.testing.assert_array_equal(valid, array < 255)
    formats.write(tmp_path / "c.tif", array.astype(np.uint16) * 9, grid, labels=TABLE)
    np.testing.assert_array_equal(formats.open(tmp_path / "c.tif").read()[0], array.astype(np.uint16) * 9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "b.tif", "c.tif"]
    with pytest.raises(InputError, match=r"d\.tif: got nodata 256 for cells of uint8, which do not hold it"):
        formats.write(tmp_path / "d.tif", array, grid, nodata=256)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("n", [1, 3, 4, 5])
def test_image_written_and_read_again(tmp_path, dtype, n):
    bands, grid = noise((n, 5, 7), dtype), Grid((5, 7), np.eye(3), PIXEL)
    bands[:, 2, 2] = 0
    names = tuple(f"B{i}" for i in range(n))
    formats.write_image(tmp_path / "a.tif", bands, grid, names=names, nodata=0)
    source = formats.open(tmp_path / "a.tif")
    cells, valid = source.read_valid()
    np.testing.assert_array_equal(cells, bands)
    np.testing.assert_array_equal(~valid, np.arange(35).reshape(5, 7) == 16)
    assert (source.names, source.dtype, source.grid.frame) == (names, np.dtype(dtype), PIXEL)


def test_cost_of_the_pool_is_small(tmp_path):
    """Every call that the pool adds to a read, counted, since times vary."""
    source = formats.open(save(tmp_path / "a.tif", noise((1, 64, 64))))
    before = geotiff._handle.cache_info()
    for i in range(20):
        source.read(Box((i, i), (i + 9, i + 9)))
    after = geotiff._handle.cache_info()
    assert (after.hits - before.hits, after.misses - before.misses) == (20, 0)


def test_real_scene_equals_rasterio(real_data):
    path = real_data / "s2_burned_area_california" / "images" / "APACHE_20240624.tif"
    source = formats.open(path)
    with rasterio.open(path) as scene:
        expected = scene.read(window=Window(50, 20, 100, 60))
        names = scene.descriptions
    np.testing.assert_array_equal(source.read(Box((20, 50), (80, 150))), expected)
    assert source.names == names
    assert source.grid.spacing == pytest.approx((19.98, 15.43), abs=0.05)  # 0.00018 degrees at latitude 39.4
