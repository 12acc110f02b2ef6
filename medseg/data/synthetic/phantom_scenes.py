"""Drawn scenes: land cover in six bands, deterministic, so that every command runs anywhere."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg import formats
from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.data.datasets.rasters import RastersDataset
from medseg.data.reading.options import ReadOptions
from medseg.data.synthetic.cache import draw_once, settings_folder
from medseg.data.synthetic.scene import BANDS, COLOURS, IGNORE_VALUE, LABELS, NODATA, NOMINAL_SHAPE, draw_scene
from medseg.errors import InputError
from medseg.sample import DataSpec

_DRAWING = 1
"""Raised with every change of the drawing, so that scenes drawn before are not taken for new ones."""


class DrawnScenes(Dataset):
    """Scenes that are drawn on first use, as GeoTIFF, in a sub-folder of ``root`` that is named after the settings.

    There they are a ``RastersDataset`` like any other.

    Args:
        root: Cache folder.
        settings: Settings of the drawing, with ``n_scenes``, ``n_test`` and ``shape``.
        drawing: Version of the drawing.
        scenes: Further arguments of the ``RastersDataset``.

    Raises:
        InputError: Too few scenes or cells.
    """

    def __init__(self, root: Path | str, settings: Mapping[str, Any], *, drawing: int, **scenes: Any) -> None:
        n_scenes, n_test, shape = (settings[key] for key in ("n_scenes", "n_test", "shape"))
        if n_scenes < 2 or n_test < 0 or len(shape) != 2 or min(shape) < 32:
            raise InputError(
                f"{self.name}: got n_scenes={n_scenes}, n_test={n_test}, shape={tuple(shape)}; expected at least 2 "
                "scenes, no negative number of test scenes and two axes of at least 32 cells"
            )
        self.settings = {**settings, "shape": [int(n) for n in shape]}
        self.folder = settings_folder(root, {**self.settings, "drawing": drawing})
        tests: dict[str, Any] = {"test_images": "test_images" if n_test else None, "test_masks": "test_masks"}
        self._drawn = RastersDataset(self.folder, sensor="sentinel-2", name=self.name, **tests, **scenes)
        self.reading = self._drawn.reading

    @abstractmethod
    def draw(self, number: int, images: Path, masks: Path) -> None:
        """Draw one scene into these folders."""

    @property
    def spec(self) -> DataSpec:
        """Bands of Sentinel-2 and classes without background."""
        return self._drawn.spec

    @property
    def normalisation(self) -> tuple[str, ...]:
        """The scheme that was chosen, for every channel."""
        return self._drawn.normalisation

    def cases(self) -> list[Case]:
        """Training scenes; draws them if need be."""
        draw_once(self.folder, self._draw)
        return self._drawn.cases()

    def test_cases(self) -> list[Case]:
        """Test scenes with labels; draws them if need be."""
        draw_once(self.folder, self._draw)
        return self._drawn.test_cases()

    def _draw(self, folder: Path) -> None:
        n_scenes, n_test = self.settings["n_scenes"], self.settings["n_test"]
        for part, numbers in (("", range(n_scenes)), ("test_", range(n_scenes, n_scenes + n_test))):
            images, masks = folder / f"{part}images", folder / f"{part}masks"
            for number in numbers:
                images.mkdir(exist_ok=True)
                masks.mkdir(exist_ok=True)
                self.draw(number, images, masks)


class PhantomScenes(DrawnScenes):
    """Scenes of Sentinel-2's kind that differ in size, place, light and haze, each 320 x 384 cells or so.

    Land cover: every class is scored. Spectra alone do not tell the classes: woods and green crops are
    alike, and so are bare fields, soil, towns and old burns; they differ in texture and in the shape of
    their borders.

    Args:
        root: Cache folder.
        reading: Options of reading.
        n_scenes: Scenes for training and validation.
        n_test: Further scenes, with labels.
        shape: Average number of rows and columns.
        seed: Another seed draws other scenes.
        channels: Channels of the network: bands of ``landscape.BANDS``, or computed ones, as for
            ``RastersDataset``.
        normalisation: Scheme of every channel, as for ``RastersDataset``.
    """

    name = "phantom_scenes"

    def __init__(
        self,
        root: Path | str,
        *,
        reading: ReadOptions,
        n_scenes: int = 12,
        n_test: int = 3,
        shape: Sequence[int] = NOMINAL_SHAPE,
        seed: int = 0,
        channels: Sequence[str | Mapping[str, str]] = BANDS,
        normalisation: str = "standard",
    ) -> None:
        super().__init__(
            root,
            {"n_scenes": n_scenes, "n_test": n_test, "shape": shape, "seed": seed},
            drawing=_DRAWING,
            channels=channels,
            labels={**LABELS, "ignore": IGNORE_VALUE},
            reading=reading,
            colours=COLOURS,
            normalisation=normalisation,
        )

    def draw(self, number: int, images: Path, masks: Path) -> None:
        """Draw one scene."""
        image, label, grid = draw_scene(self.settings["seed"], number, self.settings["shape"])
        name = f"scene_{number:03d}.tif"
        formats.write_image(images / name, image, grid, names=BANDS, nodata=NODATA)
        formats.write(masks / name, label, grid, labels=self.spec.labels)
