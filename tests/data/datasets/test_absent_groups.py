"""Cases that lack the files of an image group: their channels are 0 wherever a network could see them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg import formats
from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.preprocessing.windows import prepared_windows
from medseg.data.sampling.collate import collate_windows
from medseg.data.sampling.patch_dataset import Window
from medseg.data.store.stored_case import write_case
from medseg.data.store.streamed_case import StreamedCase
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.geometry.box import Box
from medseg.hydra_app.compose import compose
from medseg.planning.fingerprint import fingerprint
from tests.tiny import AFFINE, utm_grid

SHAPE = (10, 12)
CHANNELS = '[s2.B4, s1.VV, {ratio: "s2.B8 / s1.VV"}]'
SCHEMES = ("standard", "zscore", "unit_range", "percentile", "ct", "none", "rgb")


def write(folder: Path, name: str, names: Sequence[str], *, seed: int, cell: float = 10) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shape = tuple(int(n * 10 // cell) for n in SHAPE)
    image = np.random.default_rng(seed).uniform(1, 9, (len(names), *shape)).astype(np.float32)
    formats.write_image(folder / f"{name}.tif", image, utm_grid(shape, cell=cell), names=names)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Case a has both groups, b no radar, c no optical image."""
    for number, name in enumerate("abc"):
        if name != "b":
            write(tmp_path / "radar", name, ["VV"], seed=number)
        if name != "c":
            write(tmp_path / "optical", name, ["B4", "B8"], seed=number + 10)
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3 == 0).astype(np.uint8)
        formats.write(tmp_path / f"masks/{name}.tif", mask, utm_grid(SHAPE))
    return tmp_path


def dataset(root: Path, *overrides: str, channels: str = CHANNELS) -> Any:
    own = ["data=rasters", f"data.root={root}", "data.labels={background: 0, flood: 1}"]
    groups = ["data.images={s1: radar, s2: optical}", f"data.channels={channels}", "data.absent=allow"]
    return build_dataset(compose("train", [*own, *groups, *overrides]))


def test_channels_of_a_group_and_formulas_with_it_are_absent(root: Path) -> None:
    source = dataset(root)
    assert [(c.id, c.image_groups) for c in source.cases()] == [("a", ("s1", "s2")), ("b", ("s2",)), ("c", ("s1",))]
    samples = [source.read(case) for case in source.cases()]
    assert [None if s.present is None else s.present.tolist() for s in samples] == [
        None, [True, False, False], [False, True, False],
    ]  # fmt: skip
    for sample in samples:
        assert sample.valid.all()
        assert [bool(channel.any()) for channel in sample.image] == sample.has.tolist()
    assert dataset(root, channels="[s2.B4]").cases()[2].image_groups == ("s1",)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("arrays", [True, False])
def test_absent_channels_are_0_in_the_store_and_in_every_window(
    scheme: str, arrays: bool, root: Path, tmp_path: Path
) -> None:
    source = dataset(root)
    prepare = Preprocess(None, (Normalisation(scheme, mean=5, std=2, low=3, high=8),) * 3)
    for case in source.cases():
        reader = source.open(case)
        windows, grid, trace = prepared_windows(reader, prepare, (4, 4))
        stored: Any = write_case(tmp_path / case.id, windows, grid, trace, [], (4, 4), arrays=arrays)
        if not arrays:
            if prepare.per_image:
                return
            stored = StreamedCase(stored, reader, prepare)
        for box in (Box.whole(SHAPE), Box.at((2, 3), (4, 4)), Box.at((-2, 8), (6, 8))):
            sample = stored.read(box)
            assert sample.has.tolist() == reader.present.tolist()
            assert (sample.image[~sample.has] == 0).all()
            assert all(channel.any() for channel in sample.image[sample.has])


def test_a_batch_says_which_channels_are_present(root: Path) -> None:
    source = dataset(root)
    batch = collate_windows([Window(source.read(case), (0, 0, i)) for i, case in enumerate(source.cases())])
    assert batch.present.tolist() == [[True, True, True], [True, False, False], [False, True, False]]
    assert torch.equal(batch.image.flatten(2).any(2), batch.present)
    assert batch.context == {}


def test_statistics_leave_absent_channels_out(root: Path, tmp_path: Path) -> None:
    source = dataset(root)
    cases = source.cases()
    facts = fingerprint(source, cases, tmp_path / "store")
    radar = np.concatenate([formats.open(root / f"radar/{n}.tif").read().ravel() for n in "ac"])
    assert facts.intensities[1].mean == pytest.approx(radar.mean(), rel=0.02)
    assert facts.intensities[1].minimum == radar.min()
    assert facts.intensities[0].minimum >= 1
    assert facts.warnings == {}
    with pytest.raises(InputError, match=r"data\.channels: s1\.VV, ratio absent in each of the 1 training cases"):
        fingerprint(source, cases[1:2], tmp_path / "store")


def test_the_grid_is_that_of_the_first_group_that_is_there(root: Path) -> None:
    write(root / "optical", "a", ["B4", "B8"], seed=0, cell=5)
    source = dataset(root, "data.reference=s2")
    readers = [source.open(case) for case in source.cases()]
    assert [reader.grid.spacing[0] for reader in readers] == [5, 10, 10]
    assert readers[2].notes == ["case c: has no file of s2; its grid is that of s1"]
    assert not readers[1].notes


def test_a_group_without_a_file_of_any_case_is_refused_in_one_line(root: Path) -> None:
    for path in (root / "radar").iterdir():
        path.rename(path.with_name(f"old_{path.name}"))
    (root / "masks/c.tif").unlink()
    message = r"radar: has a file of none of the 2 cases, expected one of some case at least; rename"
    with pytest.raises(InputError, match=r"2 file\(s\) of .* without one of the same name in .*masks: old_a, old_c"):
        dataset(root).cases()
    for name in ("old_a", "old_c"):
        (root / f"radar/{name}.tif").rename(root / f"{name}.tif")
    with pytest.raises(InputError, match=r"radar: no image among its 0 entries"):
        dataset(root).cases()
    (root / "radar/other.tif").touch()
    from medseg.data.case import refusals

    with refusals(), pytest.raises(InputError, match=message) as error:
        dataset(root).cases()
    assert len(str(error.value).splitlines()) == 1


def test_a_case_without_any_channel_is_refused(root: Path) -> None:
    source = dataset(root, channels="[s2.B4]")
    with pytest.raises(InputError, match=r"case c: its image groups s1 have none of the channels \['s2\.B4'\], expect"):
        source.open(source.cases()[2])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.absent=error"], r"1 file\(s\) of .*radar without one of the same name in .*optical: c; add the files"),
        (["data.absent=some"], r"data\.absent=some: choose error or allow"),
    ],
)
def test_what_else_is_refused(words: list[str], message: str, root: Path) -> None:
    with pytest.raises(InputError, match=message):
        dataset(root, *words).cases()


def test_a_volume_is_resampled_and_turned_with_its_absent_channel_at_0(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, names in (("T1w", "ab"), ("T2w", "a"), ("seg", "ab")):
        (tmp_path / folder).mkdir()
        for name in names:
            cells = rng.uniform(1, 9, (6, 5, 4)).astype(np.float32)
            array = (cells > 5).astype(np.uint8) if folder == "seg" else cells
            nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / folder / f"{name}.nii.gz")
    words = ["data=volumes", f"data.root={tmp_path}", "data.images={t1: T1w, t2: T2w}", "data.channels=[t2, t1]"]
    more = ["data.label_folder=seg", "data.labels={background: 0, organ: 1}", "data.absent=allow"]
    source = build_dataset(compose("train", [*words, *more]))
    for masked in (False, True):
        prepare = Preprocess((0.7, 1.3, 1.1), (Normalisation("zscore"),) * 2, masked=masked)
        sample, _ = prepare(source.read(source.cases()[1]))
        assert sample.has.tolist() == [False, True]
        assert (sample.image[0] == 0).all()
        assert sample.image[1].any()
    facts = fingerprint(source, source.cases(), tmp_path / "store")
    assert facts.intensities[0].minimum > 1
    assert facts.warnings == {}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(there=st.lists(st.lists(st.booleans(), min_size=3, max_size=3).filter(any), min_size=2, max_size=4))
def test_any_pattern_of_absence_is_read(there: list[list[bool]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("patterns")
    for number, own in enumerate(there):
        for group, present in zip("xyz", own, strict=True):
            (folder / group).mkdir(exist_ok=True)
            if present:
                write(folder / group, f"case{number}", [group.upper()], seed=number)
    words = ["data=rasters", f"data.root={folder}", "data.images={x: x, y: y, z: z}", "data.channels=[z.Z, x.X, y.Y]"]
    cfg = compose("train", [*words, "data.labels=null", "data.masks=null", "data.absent=allow"])
    used = [any(column) for column in zip(*there, strict=True)]
    if not all(used):
        with pytest.raises(InputError, match="no image among its 0 entries"):
            build_dataset(cfg).cases()
        return
    source = build_dataset(cfg)
    for case, (x, y, z) in zip(source.cases(), there, strict=True):
        sample = source.read(case)
        assert sample.has.tolist() == [z, x, y]
        assert sample.image.any((1, 2)).tolist() == [z, x, y]
