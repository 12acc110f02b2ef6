"""What training patches, validation and the store hold of the labels of several observers."""

import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg import formats
from medseg.data.datamodule import DataModule
from medseg.data.dataset import Dataset
from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.sampling.case_samplers import Sampling
from medseg.data.sampling.observed import draw_observer
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.factory.loss import build_loss
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.conf import composed
from medseg.labels import IGNORE
from medseg.models.network import Network
from tests.tiny import draw, save

READERS = ("anna", "bert", "carl")
SHAPE = (24, 32)


def label_of(observer: int) -> np.ndarray:
    """Columns from that of the observer on; the observers ignore a row each, and one all of them."""
    label = np.zeros(SHAPE, np.uint8)
    label[:, 8 + 4 * observer : 24] = 1
    label[[0, 1 + observer]] = 255
    return label


@pytest.fixture
def root(tmp_path: Path) -> Path:
    grid = Grid(SHAPE, np.eye(3), PIXEL)
    for folder in ("images", *READERS):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    for case in "abc":
        image = np.random.default_rng(ord(case)).random((1, *SHAPE), np.float32)
        formats.write_image(tmp_path / f"raw/images/{case}.tif", image, grid, names=["B1"])
        for number, reader in enumerate(READERS):
            formats.write(tmp_path / f"raw/{reader}/{case}.tif", label_of(number), grid)
    return tmp_path


SCENES = (
    "data=rasters", "data.channels=[B1]", "data.labels={a: 0, b: 1, ignore: 255}",
    "data.masks={anna: anna, bert: bert, carl: carl}",
)  # fmt: skip
VOLUMES = ("data=volumes", "data.channels=[MR]", "data.labels={o: 0, p: 1, q: 2}")
PREPARE = {
    SCENES: Preprocess(None, (Normalisation("none"),)),
    VOLUMES: Preprocess((1.25, 1.0, 0.8), (Normalisation("zscore"),)),
}


class Silent(Network):
    """A network that gives nothing but logits, and is never called."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def source_of(root: Path, *own: str, kind: tuple[str, ...] = SCENES) -> Dataset:
    return build_dataset(composed("train", [*kind, f"data.root={root}/raw", f"cache_dir={root}/cache", *own]))


def module_of(
    root: Path, *own: str, kind: tuple[str, ...] = SCENES, workers: int = 0, in_store: bool = True
) -> DataModule:
    """A prepared module of patches that are as large as the cases, of all but the last case."""
    source = source_of(root, *own, kind=kind)
    cases = source.cases()
    patch = SHAPE if source.spec.ndim == 2 else (16, 16, 16)
    module = DataModule(
        train_cases=cases[:-1], val_cases=cases[-1:], open=source.open, reading=source.reading.to_dict(),
        spec=source.spec, preprocess=PREPARE[kind], store=root / "store", patch=patch, batch_size=4,
        transform=SimpleNamespace(window_shape=patch), sampling=Sampling(foreground_fraction=0), steps_per_epoch=5,
        workers=workers, seed=0, in_store=in_store,
    )  # fmt: skip
    module.prepare_data()
    module.setup()
    return module


def index_of(observer: int) -> np.ndarray:
    return np.where(label_of(observer) == 255, IGNORE, label_of(observer).astype(int))


def batches(module: DataModule) -> list[Any]:
    return list(module.train_dataloader())


@pytest.mark.parametrize("in_store", [True, False])
def test_each_patch_has_the_label_of_the_observer_that_its_key_draws(root: Path, in_store: bool) -> None:
    module = module_of(root, "data.annotations=draw", in_store=in_store)
    seen: Counter[int] = Counter()
    for batch in batches(module):
        assert batch.soft is None
        for label, key in zip(batch.label, batch.key.tolist(), strict=True):
            observer = draw_observer(tuple(key), 3)
            np.testing.assert_array_equal(label.numpy(), index_of(observer))
            seen[observer] += 1
    assert len(seen) == 3
    plain = module_of(root, in_store=in_store)
    for drawn, joined in zip(batches(module), batches(plain), strict=True):
        assert torch.equal(drawn.image, joined.image)
        assert drawn.cases == joined.cases


def test_loader_processes_change_nothing(root: Path) -> None:
    here, there = (module_of(root, "data.annotations=draw", workers=n) for n in (0, 1))
    for own, other in zip(batches(here), batches(there), strict=True):
        assert torch.equal(own.label, other.label)


@pytest.mark.parametrize("in_store", [True, False])
def test_soft_labels_are_the_shares_of_the_observers_next_to_the_majority(root: Path, in_store: bool) -> None:
    module = module_of(root, "data.annotations=soft", in_store=in_store)
    (plain,) = {case.read().label.tobytes() for case in module_of(root).stored["train"]}  # type: ignore[union-attr]
    batch = batches(module)[0]
    votes = np.stack([index_of(i) for i in range(3)])
    expected = np.stack([(votes == k).sum(0) for k in (0, 1)]) / np.maximum((votes >= 0).sum(0), 1)
    for label, soft in zip(batch.label, batch.soft, strict=True):
        np.testing.assert_allclose(soft.numpy(), expected, rtol=1e-6)
        assert label.numpy().astype(np.int16).tobytes() == plain


@pytest.mark.parametrize("rule", ["draw", "soft"])
def test_validation_and_sampling_take_the_majority(root: Path, rule: str) -> None:
    module, plain = module_of(root, f"data.annotations={rule}"), module_of(root)
    (held,), (joined,) = list(module.val_dataloader()), list(plain.val_dataloader())
    assert torch.equal(held.label, joined.label)
    assert held.soft is None
    for own, other in zip(module.stored["train"], plain.stored["train"], strict=True):
        assert own.counts == other.counts
        assert all(np.array_equal(own.cells[name], other.cells[name]) for name in other.cells)


def test_the_store_holds_every_observer_and_reads_those_that_are_asked_for(root: Path) -> None:
    module = module_of(root, "data.annotations=draw")
    case: Any = module.stored["train"][0]
    assert case.read().votes is None
    np.testing.assert_array_equal(case.read(votes=[2, 0]).votes, np.stack([index_of(2), index_of(0)]))
    array = case._votes._array
    assert (array.shape, array.chunks) == ((3, *SHAPE), (1, *SHAPE))
    plain: Any = module_of(root).stored["train"][0]
    assert plain.folder != case.folder
    assert not (plain.folder / "votes.b2nd").exists()
    soft: Any = module_of(root, "data.annotations=soft").stored["train"][0]
    assert soft.folder == case.folder, "of the same votes"
    kept = root / "kept.tif"  # two change places: the majority stays what it is
    for source, target in (("raw/anna/a.tif", kept), ("raw/carl/a.tif", root / "raw/anna/a.tif")):
        shutil.copy(root / source, target)
    shutil.copy(kept, root / "raw/carl/a.tif")
    changed: Any = module_of(root, "data.annotations=draw").stored["train"][0]
    assert changed.folder != case.folder


def test_labels_of_volumes_are_turned_cropped_and_resampled_each_by_itself(tmp_path: Path) -> None:
    for folder in ("images", "a", "b"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    for number in range(3):
        image, label = draw(number)
        save(tmp_path / f"raw/images/c{number}.nii.gz", image)
        save(tmp_path / f"raw/a/c{number}.nii.gz", label)
        save(tmp_path / f"raw/b/c{number}.nii.gz", np.roll(label, 3, axis=1))
    stored = []
    for own in ("data.label_folder={a: a, b: b}", "data.label_folder=a", "data.label_folder=b"):
        rule = ["data.annotations=draw"] if "{" in own else []
        stored.append(module_of(tmp_path, own, *rule, kind=VOLUMES).stored["train"][0])
    votes: Any = stored[0].read(votes=[0, 1]).votes
    assert nib.load(tmp_path / "raw/a/c0.nii.gz").shape != votes.shape[1:]
    for vote, alone in zip(votes, stored[1:], strict=True):
        np.testing.assert_array_equal(vote, alone.read().label)


def test_soft_labels_of_a_loss_that_takes_none_are_refused(root: Path) -> None:
    network = Silent(1, (1, 1))
    message = r"data\.annotations=soft: loss\.terms\.boundary takes no soft labels; take some of loss/term=\[.*dice,"
    cfg = composed("train", ["data=rasters", "data.annotations=soft", "loss/term=[dice,boundary]"])
    spec = source_of(root).spec
    with pytest.raises(InputError, match=message):
        build_loss(cfg, spec, network)
    streams = "+streams={other: {data: {annotations: soft}}}"
    with pytest.raises(InputError, match=message):
        build_loss(composed("train", ["data=rasters", streams, "loss/term=[dice,boundary]"]), spec, network)
    build_loss(composed("train", ["data=rasters", "data.annotations=soft"]), spec, network)
    with pytest.raises(InputError, match=r"case a does not annotate every class"):
        source_of(root, "data.annotations=soft", "data.annotated={a: [b]}").cases()
