"""A raster that is written row by row, survives being killed, and becomes a Cloud-Optimised GeoTIFF."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.formats.geotiff_write import profile
from medseg.geometry.grid import Grid
from medseg.labels import LabelTable
from medseg.runtime.cpu import cores

_GDAL_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "float32": "Float32", "float64": "Float64",
}  # fmt: skip
_CACHE_MB = 64  # decoded blocks that GDAL keeps; its own default is 5 % of the memory
_THREADS = 4
_LONGEST = 200  # bytes of a name to which endings are added; files may have 255
_LEVEL = 5  # on class maps of 36 million cells, 6 took up to twice as long and saved 3 % to 7 %


class RasterSink:
    """Rows of a raster, stored next to the target until it is complete.

    They lie in ``.<name>.part``, uncompressed, row after row with the bands of each one after the other.
    Only whole rows count, so that a run that is killed at any moment leaves what it had written. Next to
    it ``.<name>.json`` says whose rows these are; rows of another key, size or type are thrown away.

    Args:
        target: A ``.tif`` file, replaced by ``finish``; its folder must exist.
        grid: Grid of two axes.
        dtype: Type of the cells.
        key: Names everything that decides the rows: checkpoint, input and settings.
        n_bands: Number of bands.
        nodata: Value of cells that are not valid.
        like: File of the same grid whose CRS and transform are copied bit for bit; else they are the grid's.

    Raises:
        InputError: Missing folder, or another process is at work on the same target.
        ValueError: ``like`` has another grid.
    """

    def __init__(
        self,
        target: Path,
        grid: Grid,
        *,
        dtype: npt.DTypeLike,
        key: str,
        n_bands: int = 1,
        nodata: int | float = 255,
        like: Path | None = None,
    ) -> None:
        self.target = Path(target)
        self.grid = grid
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.n_bands = n_bands
        self.nodata = nodata
        self._placed = profile(grid, self.dtype, n_bands, nodata=nodata, like=like)
        self._row_bytes = n_bands * grid.shape[1] * self.dtype.itemsize
        if not self.target.parent.is_dir():
            raise InputError(f"{target}: the folder {self.target.parent} does not exist; make it first")
        # O_APPEND and no buffer: what is written is the kernel's at once, and outlives this process
        self._part = open(self._sibling("part"), "ab", buffering=0)  # noqa: SIM115  open as long as the sink
        try:
            fcntl.flock(self._part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._part.close()
            raise InputError(f"{target}: another process is writing it; wait for that one, or end it") from None
        except OSError:  # a file system without locks
            pass
        state = {"key": key, "shape": list(grid.shape), "bands": n_bands, "dtype": self.dtype.name}
        if self._state() != state:
            self.keep(0)
            self._write("json", json.dumps(state))
        self.keep(self.rows_done)

    def __enter__(self) -> RasterSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def rows_done(self) -> int:
        """Whole rows that are kept."""
        return min(os.fstat(self._part.fileno()).st_size // self._row_bytes, self.grid.shape[0])

    def keep(self, rows: int) -> None:
        """Forget the rows from ``rows`` on."""
        self._part.truncate(rows * self._row_bytes)

    def append(self, cells: Shaped[np.ndarray, "n r w"]) -> None:
        """Keep further rows ``[n_bands, rows, width]``.

        Raises:
            ValueError: Other bands, width or type, or more rows than the grid has.
        """
        bands, rows, width = cells.shape
        if (bands, width, cells.dtype) != (self.n_bands, self.grid.shape[1], self.dtype):
            raise ValueError(f"got {cells.dtype} cells {cells.shape} for {self.n_bands} bands {self.grid.shape}")
        if self.rows_done + rows > self.grid.shape[0]:
            raise ValueError(f"got {rows} rows after {self.rows_done} of {self.grid.shape[0]}")
        remaining = np.ascontiguousarray(cells.swapaxes(0, 1)).data.cast("B")
        while remaining:
            remaining = remaining[self._part.write(remaining) :]

    def close(self) -> None:
        """Let go of the files; they stay for another sink of the same key to go on with."""
        self._part.close()

    def finish(
        self,
        *,
        labels: LabelTable | None = None,
        names: Sequence[str] = (),
        scale: float | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Path:
        """Turn the rows into the target, in one rename, and remove them.

        The target is tiled (512), compressed by deflate, with overviews: of the most frequent class for
        labels, else of means. CRS and transform are the grid's to the last bit, whether north-up,
        south-up or rotated.

        Args:
            labels: Table of the values of a single band. The tag ``CLASS_NAMES`` then is a JSON object
                from saved value to class name; values of 8 or 16 bits get the classes' colours as palette
                and their names as categories (which GDAL keeps in ``<name>.aux.xml``).
            names: Descriptions of the bands.
            scale: Tag that turns stored values into real ones, such as 1/254 for probabilities.
            tags: Further tags of the file.

        Raises:
            ValueError: Rows are missing.
        """
        if self.rows_done != self.grid.shape[0]:
            raise ValueError(f"{self.target}: {self.rows_done} of {self.grid.shape[0]} rows are there")
        self._write("vrt", self._vrt(labels, names, scale, dict(tags or {})))
        building, sidecar = self._sibling("building.tif"), self._sibling("building.tif.aux.xml")
        sidecar.unlink(missing_ok=True)
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB << 20):
            rasterio.shutil.copy(
                self._sibling("vrt"), building, driver="COG", compress="deflate", level=_LEVEL, blocksize=512,
                predictor="no" if labels else "yes", overview_resampling="mode" if labels else "average",
                bigtiff="if_safer", num_threads=min(_THREADS, cores()),
            )  # fmt: skip
        names_file = self.target.with_name(f"{self.target.name}.aux.xml")
        if sidecar.exists():
            os.replace(sidecar, names_file)
        else:
            names_file.unlink(missing_ok=True)  # of an older target
        os.replace(building, self.target)
        for ending in ("vrt", "json", "part"):
            self._sibling(ending).unlink()
        self.close()
        return self.target

    def _vrt(self, labels: LabelTable | None, names: Sequence[str], scale: float | None, tags: dict[str, str]) -> str:
        """The raw rows as a file that GDAL reads."""
        height, width = self.grid.shape
        root = ElementTree.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
        if self._placed["crs"] is not None:
            ElementTree.SubElement(root, "SRS").text = self._placed["crs"].to_wkt()
        if "transform" in self._placed:
            numbers = map(repr, self._placed["transform"].to_gdal())
            ElementTree.SubElement(root, "GeoTransform").text = ", ".join(numbers)
        if labels is not None:
            tags["CLASS_NAMES"] = json.dumps({str(c.saved): c.name for c in labels.classes})
        metadata = ElementTree.SubElement(root, "Metadata")
        for name, text in tags.items():
            ElementTree.SubElement(metadata, "MDI", key=name).text = text
        for i in range(self.n_bands):
            band = self._vrt_band(root, i, names[i] if names else None, scale)
            if labels is not None and self.dtype.name in ("uint8", "uint16"):
                _explain(band, labels)
        return ElementTree.tostring(root, encoding="unicode")

    def _vrt_band(
        self, root: ElementTree.Element, i: int, name: str | None, scale: float | None
    ) -> ElementTree.Element:
        """A band of the raw rows, added to the file."""
        kind = {"dataType": _GDAL_TYPES[self.dtype.name], "band": str(i + 1), "subClass": "VRTRawRasterBand"}
        band = ElementTree.SubElement(root, "VRTRasterBand", kind)
        fields = {
            "Description": name,
            "NoDataValue": repr(self.nodata),
            "Scale": None if scale is None else repr(scale),
            "ImageOffset": str(i * self.grid.shape[1] * self.dtype.itemsize),
            "PixelOffset": str(self.dtype.itemsize),
            "LineOffset": str(self._row_bytes),
        }
        for field, text in fields.items():
            if text is not None:
                ElementTree.SubElement(band, field).text = text
        ElementTree.SubElement(band, "SourceFilename", relativeToVRT="1").text = self._sibling("part").name
        return band

    def _sibling(self, ending: str) -> Path:
        """A hidden file next to the target."""
        name = self.target.name
        if len(os.fsencode(name)) > _LONGEST:  # the same for every sink of this target
            name = f"{name[:40]}-{sha256(os.fsencode(name)).hexdigest()[:16]}"
        return self.target.with_name(f".{name}.{ending}")

    def _write(self, ending: str, text: str) -> None:
        """Write a small file in one rename."""
        building = self._sibling(f"{ending}.new")
        building.write_text(text, encoding="utf-8")
        os.replace(building, self._sibling(ending))

    def _state(self) -> object:
        try:
            return json.loads(self._sibling("json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def _explain(band: ElementTree.Element, labels: LabelTable) -> None:
    """Palette and category names, of which the position is the value."""
    ElementTree.SubElement(band, "ColorInterp").text = "Palette"
    table, categories = ElementTree.SubElement(band, "ColorTable"), ElementTree.SubElement(band, "CategoryNames")
    classes = {c.saved: c for c in labels.classes}
    for value in range(max(classes) + 1):
        red, green, blue = map(str, classes[value].colour if value in classes else (0, 0, 0))
        ElementTree.SubElement(table, "Entry", c1=red, c2=green, c3=blue, c4="255")
        ElementTree.SubElement(categories, "Category").text = classes[value].name if value in classes else ""


def class_nodata(labels: LabelTable) -> int:
    """Nodata value next to saved values: the largest of their type (255 for most) that no class has.

    Where classes have all of them, the next one, which needs a wider type.

    Example:
        >>> class_nodata(LabelTable.declare({"land": 0, "water": 1, "cloud": 255}))
        254
    """
    used = {c.saved for c in labels.classes}
    largest = int(np.iinfo(labels.saved_dtype).max)
    return next((value for value in range(largest, -1, -1) if value not in used), largest + 1)
