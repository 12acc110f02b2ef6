"""Families of files for ``fuzz_readers.py``: small valid ones, and what reads them to the end."""

import io
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg import formats
from medseg.geometry.grid import Grid

SHAPE = (6, 5, 4)
Files = dict[str, bytes]


@dataclass(frozen=True)
class Family:
    """Files of one kind.

    Attributes:
        seeds: Folders of valid files, by name.
        target: Name of what is opened; empty for the folder itself.
        kind: Of ``fuzz_mutations.mutate``, by suffix of the files that are mutated.
        read: Opens and reads the target to the end.
    """

    seeds: Callable[[], list[Files]]
    target: str
    kind: dict[str, str]
    read: Callable[[Path], None]


def _volume(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 100, size=shape).astype(dtype)


def _built(build: Callable[[Path], None]) -> Files:
    """What a function writes into a folder."""
    with tempfile.TemporaryDirectory() as name:
        build(Path(name))
        return {path.name: path.read_bytes() for path in sorted(Path(name).iterdir())}


def _nifti(ending: str) -> list[Files]:
    import nibabel as nib

    def build(folder: Path, kind: Any, dtype: str, shape: tuple[int, ...]) -> None:
        image = kind(_volume(dtype, shape), np.diag([1.0, 1.2, 2.5, 1]))
        image.header["scl_slope"], image.header["scl_inter"] = 2, -1
        image.to_filename(folder / f"x{ending}")

    kinds = [
        (nib.Nifti1Image, "int16", SHAPE), (nib.Nifti2Image, "float64", SHAPE), (nib.Nifti1Image, "uint8", (*SHAPE, 2)),
    ]  # fmt: skip
    return [_built(partial(build, kind=k, dtype=d, shape=s)) for k, d, s in kinds]


def _itk(ending: str) -> list[Files]:
    import SimpleITK as sitk

    def build(folder: Path, dtype: str, packed: bool, vector: bool) -> None:
        shape = (*SHAPE[::-1], 2) if vector else SHAPE[::-1]
        image = sitk.GetImageFromArray(_volume(dtype, shape), isVector=vector)
        image.SetSpacing((1.0, 1.5, 2.5))
        image.SetMetaData("note", "kept")
        sitk.WriteImage(image, str(folder / f"x{ending}"), packed)

    kinds = [("int16", False, False), ("uint8", True, False), ("float32", False, True)]
    return [_built(partial(build, dtype=d, packed=p, vector=v)) for d, p, v in kinds]


def _dicom() -> list[Files]:
    import SimpleITK as sitk

    def build(folder: Path) -> None:
        shared = {
            "0020|000e": "1.2.3",
            "0020|000d": "1.2.4",
            "0008|0060": "CT",
            "0018|0050": "2.5",
            "0028|1053": "2",
            "0028|1052": "-3",
        }
        for k in range(3):
            image = sitk.GetImageFromArray(_volume("int16", (1, 5, 6)) + k)
            image.SetSpacing((1.0, 1.5, 2.5))
            tags = {"0020|0032": f"0\\0\\{2.5 * k}", "0020|0037": "1\\0\\0\\0\\1\\0", "0008|0018": f"1.2.3.{k}"}
            for tag, value in (shared | tags).items():
                image.SetMetaData(tag, value)
            writer = sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            writer.SetFileName(str(folder / f"{k}.dcm"))
            writer.Execute(image)

    return [_built(build)]


def _geotiff() -> list[Files]:
    import rasterio
    from rasterio.transform import from_origin

    def build(folder: Path, count: int, dtype: str, **more: Any) -> None:
        place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 10, 10)}
        size = {"height": 40, "width": 32, "count": count, "dtype": dtype, "nodata": 7}
        with rasterio.open(folder / "x.tif", "w", driver="GTiff", **size, **place, **more) as scene:
            scene.write(_volume(dtype, (count, 40, 32)))
            scene.set_band_description(1, "red")

    tiled: dict[str, Any] = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    return [
        _built(partial(build, count=4, dtype="uint8", **tiled)),
        _built(partial(build, count=1, dtype="float32", compress="lzw")),
        _built(partial(build, count=2, dtype="int16", photometric="MINISBLACK")),
    ]


def _picture() -> list[Files]:
    from PIL import Image

    found = []
    for mode, ending in (("RGB", "png"), ("P", "png"), ("I;16", "png"), ("RGB", "jpg"), ("RGB", "bmp"), ("L", "png")):
        cells = _volume("uint16" if mode == "I;16" else "uint8", (40, 32, 3) if mode == "RGB" else (40, 32))
        picture, stream = Image.fromarray(cells), io.BytesIO()
        (picture.convert("P") if mode == "P" else picture).save(stream, {"jpg": "jpeg"}.get(ending, ending))
        found.append({"x." + ending: stream.getvalue()})
    return found


def _vector(ending: str) -> list[Files]:
    import pyogrio
    import shapely

    def build(folder: Path) -> None:
        boxes = np.array(
            [shapely.to_wkb(shapely.box(5e5 + i * 50, 4.9997e6, 5e5 + i * 50 + 40, 5e6)) for i in (0, 1, 2)]
        )
        driver = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf"}[ending]
        columns = [np.array([1, 2, 3]), np.array(["a", "b", "c"], dtype=object)]
        pyogrio.raw.write(
            folder / f"x{ending}", boxes, columns, ["value", "name"], driver=driver, geometry_type="Polygon",
            crs="EPSG:32633",
        )  # fmt: skip

    return [_built(build)]


def _geoparquet() -> list[Files]:
    import geopandas as gpd
    import shapely

    boxes = [shapely.box(5e5 + i * 50, 4.9997e6, 5e5 + i * 50 + 40, 5e6) for i in (0, 1, 2)]
    frame = gpd.GeoDataFrame({"value": [1, 2, 3]}, geometry=boxes, crs="EPSG:32633")
    return [_built(lambda folder: frame.to_parquet(folder / "x.parquet", compression=None))]


def _copied(ending: str, driver: str, **options: str) -> list[Files]:
    """The GeoTIFF files as files of another driver; a VRT with the files that it names."""
    import rasterio.shutil

    def build(folder: Path, files: Files) -> None:
        (folder / "x.tif").write_bytes(files["x.tif"])
        rasterio.shutil.copy(folder / "x.tif", folder / f"x{ending}", driver=driver, **options)
        if ending != ".vrt":
            (folder / "x.tif").unlink()

    return [_built(partial(build, files=files)) for files in _geotiff()[::2]]  # of integers, as JPEG 2000 holds


def _enhanced() -> list[Files]:
    import pydicom
    from pydicom.dataset import Dataset

    def item(**tags: Any) -> Any:
        made = Dataset()
        for tag, value in tags.items():
            setattr(made, tag, value)
        return [made]

    def build(folder: Path) -> None:
        header = pydicom.dcmread(io.BytesIO(_dicom()[0]["0.dcm"]))
        header.NumberOfFrames = 3
        header.PixelData = header.PixelData * 3
        orientation = item(ImageOrientationPatient=header.ImageOrientationPatient)
        measures = item(PixelSpacing=header.PixelSpacing, SliceThickness=2.5)
        header.SharedFunctionalGroupsSequence = item(
            PlaneOrientationSequence=orientation, PixelMeasuresSequence=measures
        )
        positions = [item(ImagePositionPatient=[0, 0, 2.5 * k]) for k in range(3)]
        header.PerFrameFunctionalGroupsSequence = [item(PlanePositionSequence=one)[0] for one in positions]
        header.save_as(folder / "x.dcm")

    return [_built(build)]


def _tensors() -> dict[str, Any]:
    import torch

    return {"conv.weight": torch.ones(2, 1, 3, 3), "conv.bias": torch.zeros(2)}


def _safetensors() -> list[Files]:
    import safetensors.torch

    return [{"x.safetensors": safetensors.torch.save(_tensors(), {"note": "kept"})}]


def _torch(content: Callable[[], Any], *, forms: Sequence[bool] = (True, False)) -> list[Files]:
    import torch

    found = []
    for new in forms:
        stream = io.BytesIO()
        torch.save(content(), stream, _use_new_zipfile_serialization=new)
        found.append({"x.pt": stream.getvalue()})
    return found


def _checkpoint() -> dict[str, Any]:
    from medseg.checkpoint import RunMetadata
    from medseg.data.preprocessing.normalise import Normalisation
    from medseg.labels import LabelTable
    from medseg.planning.plan import Plan
    from medseg.sample import Channel, DataSpec

    spec = DataSpec((Channel("R"),), LabelTable.declare({"background": 0, "a": 1}), 2)
    plan = Plan((1.0, 1.0), (8, 8), 2, ((3, 3),), ((1, 1),), (Normalisation("zscore"),), masked=False)
    state = {f"network.{name}": tensor for name, tensor in _tensors().items()}
    return {"medseg": RunMetadata.of_new_run({}, spec, plan, cases={}).to_dict(), "state_dict": state}


_LISTED = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
_DECLARED: dict[str, Any] = {
    "name": "x", "labels": {"background": 0, "liver": 1, "tumour": [1, 2]}, "regions_class_order": [1, 2],
    "channel_names": {"0": "CT", "1": "T1"}, "file_ending": ".nii.gz", "numTraining": 1,
}  # fmt: skip
_DECATHLON: dict[str, Any] = {
    "name": "x", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "numTraining": 1,
    "training": [_LISTED], "test": ["./imagesTr/a.nii.gz"],
}  # fmt: skip


def _json(*contents: Any) -> list[Files]:
    return [{"dataset.json": json.dumps(content).encode()} for content in contents]


def _plan() -> list[Files]:
    stored = {
        "spacing": [1.0, 1.0, 2.5], "patch": [32, 32, 16], "batch_size": 2,
        "normalisation": [{"scheme": "ct", "mean": 1.0, "std": 2.0, "low": -1.0, "high": 3.0}],
        "kernels": [[3, 3, 3]] * 3, "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 1]],
        "masked": False, "reasons": {"spacing": "median"},
    }  # fmt: skip
    return [{"plan.yaml": json.dumps(stored).encode()}]


def _read_volume(path: Path) -> None:
    from medseg.data.dataset import Case, CaseReader, ReadOptions, named_channels
    from medseg.data.preprocessing.normalise import Normalisation
    from medseg.data.preprocessing.preprocess import Preprocess
    from medseg.labels import LabelTable
    from medseg.sample import DataSpec

    source = formats.open(path)
    n = source.n_channels
    spec = DataSpec(named_channels(["T1"] * n), LabelTable.declare({"background": 0, "a": 1}), ndim=3)
    sample = CaseReader(Case("x", (path,), None, "x"), spec, ReadOptions()).read()
    Preprocess((1.5, 1.5, 1.5), (Normalisation("zscore"),) * n)(sample)


def _read_scene(path: Path) -> None:
    from medseg.geometry.box import Box

    source = formats.open(path)
    shape = source.grid.shape
    source.grid.spacing  # noqa: B018  computed from the CRS
    window = Box(tuple(max(0, n - 16) for n in shape), shape)
    for box in (Box.whole(shape) if np.prod(shape, dtype=float) < 1e7 else window, window):
        source.read_valid(box)


@cache
def _map() -> Grid:
    from rasterio.crs import CRS

    affine = np.array([[0, 10, 5e5 + 5], [-10, 0, 5e6 - 5], [0, 0, 1.0]])
    return Grid((30, 20), affine, CRS.from_epsg(32633).to_wkt())


def _read_vector(path: Path) -> None:
    from medseg.formats.vector import rasterised

    rasterised(path, _map(), attribute="value").read()


def _read_weights(path: Path) -> None:
    from medseg.weights import pretrained

    pretrained.read(path)


def _read_checkpoint(path: Path) -> None:
    from medseg import checkpoint

    dict(checkpoint.read(path).network_state)


def _read_plan(path: Path) -> None:
    from medseg.planning.plan import read_plan

    read_plan(path)


def _read_dataset(name: str, path: Path) -> None:
    from medseg.data.datasets.msd import MsdDataset
    from medseg.data.datasets.nnunet import NnunetDataset

    for folder in ("imagesTr", "labelsTr"):
        (path.parent / folder).mkdir(exist_ok=True)
    for file in ("imagesTr/a_0000", "imagesTr/a_0001", "imagesTr/a", "labelsTr/a"):
        if name == "msd" or file != "imagesTr/a":
            (path.parent / f"{file}.nii.gz").touch()
    dataset = MsdDataset(path.parent) if name == "msd" else NnunetDataset(path.parent)
    dataset.spec.to_dict()
    dataset.cases()
    dataset.test_cases()


_PLAIN = {"": "bytes"}
FAMILIES: dict[str, Family] = {
    "nifti": Family(partial(_nifti, ".nii"), "x.nii", _PLAIN, _read_volume),
    "nifti_gz": Family(partial(_nifti, ".nii.gz"), "x.nii.gz", {"": "gzip"}, _read_volume),
    "nrrd": Family(partial(_itk, ".nrrd"), "x.nrrd", {"": "text"}, _read_volume),
    "mha": Family(partial(_itk, ".mha"), "x.mha", {"": "text"}, _read_volume),
    "nhdr": Family(partial(_itk, ".nhdr"), "x.nhdr", {".nhdr": "text"}, _read_volume),
    "mhd": Family(partial(_itk, ".mhd"), "x.mhd", {".mhd": "text"}, _read_volume),
    "dicom": Family(_dicom, "", _PLAIN, _read_volume),
    "enhanced": Family(_enhanced, "", _PLAIN, _read_volume),
    "jpeg2000": Family(partial(_copied, ".jp2", "JP2OpenJPEG"), "x.jp2", {".jp2": "bytes"}, _read_scene),
    "vrt": Family(partial(_copied, ".vrt", "VRT"), "x.vrt", {".vrt": "text"}, _read_scene),
    "geotiff": Family(_geotiff, "x.tif", _PLAIN, _read_scene),
    "picture": Family(_picture, "x.*", _PLAIN, _read_scene),
    "geojson": Family(partial(_vector, ".geojson"), "x.geojson", {"": "json"}, _read_vector),
    "geopackage": Family(partial(_vector, ".gpkg"), "x.gpkg", _PLAIN, _read_vector),
    "shapefile": Family(partial(_vector, ".shp"), "x.shp", _PLAIN, _read_vector),
    "flatgeobuf": Family(partial(_vector, ".fgb"), "x.fgb", _PLAIN, _read_vector),
    "geoparquet": Family(_geoparquet, "x.parquet", _PLAIN, _read_vector),
    "safetensors": Family(_safetensors, "x.safetensors", _PLAIN, _read_weights),
    "weights": Family(partial(_torch, _tensors), "x.pt", _PLAIN, _read_weights),
    "checkpoint": Family(partial(_torch, _checkpoint, forms=[True]), "x.pt", _PLAIN, _read_checkpoint),
    "nnunet": Family(partial(_json, _DECLARED), "dataset.json", {"": "json"}, partial(_read_dataset, "nnunet")),
    "decathlon": Family(partial(_json, _DECATHLON), "dataset.json", {"": "json"}, partial(_read_dataset, "msd")),
    "plan": Family(_plan, "plan.yaml", {"": "yaml"}, _read_plan),
}
"""By the name that ``--families`` takes."""


@cache
def seeds(name: str) -> list[Files]:
    """Valid files of a family, drawn once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FAMILIES[name].seeds()


def names(name: str) -> Iterator[str]:
    """Files of the first seed that are mutated."""
    yield from sorted(seeds(name)[0])
