"""Image groups: folders with names, whose bands are called ``pre.B4``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg import formats
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose
from medseg.sample import DataSpec
from medseg.sensors.formula import Formula
from tests.tiny import AFFINE, utm_grid

SHAPE = (6, 8)
BANDS = ("B4", "B8", "B12")
DNBR = '{dNBR: "(pre.B8-pre.B12)/(pre.B8+pre.B12)-(post.B8-post.B12)/(post.B8+post.B12)"}'
GROUPS = "data.images={pre: before, post: after}"


def cells(seed: int, n: int = 3, shape: Sequence[int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 9, (n, *shape)).astype(np.float32)


def write(folder: Path, image: np.ndarray, names: Sequence[str] = BANDS, *, name: str = "a", cell: float = 10) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    grid = utm_grid(image.shape[1:], cell=cell)
    formats.write_image(folder / f"{name}.tif", image, grid, names=names)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The case a before and after, with the same bands."""
    write(tmp_path / "before", cells(0))
    write(tmp_path / "after", cells(1))
    (tmp_path / "masks").mkdir()
    formats.write(tmp_path / "masks/a.tif", np.ones(SHAPE, np.uint8), utm_grid(SHAPE))
    return tmp_path


def dataset(root: Path, channels: str, *overrides: str, images: str = GROUPS) -> Any:
    own = ["data=rasters", f"data.root={root}", "data.labels={background: 0, burned: 1}", images]
    return build_dataset(compose("train", [*own, f"data.channels={channels}", *overrides]))


def read(source: Any) -> np.ndarray:
    return source.read(source.cases()[0]).image


def test_bands_of_two_dates_and_their_difference(root: Path) -> None:
    source = dataset(root, f"[pre.B4, post.B4, {DNBR}]", "data.sensor=sentinel2")
    before, after = cells(0), cells(1)
    nbr = [(image[1] - image[2]) / (image[1] + image[2]) for image in (before, after)]
    np.testing.assert_allclose(read(source), [before[0], after[0], nbr[0] - nbr[1]], rtol=1e-5, atol=1e-6)
    pre, post, difference = source.spec.channels
    assert (pre.wavelength_nm, post.wavelength_nm, difference.wavelength_nm) == (664.6, 664.6, None)
    assert (pre.band, post.groups, difference.groups) == ("B4", ("post",), ("pre", "post"))
    assert DataSpec.from_dict(source.spec.to_dict()) == source.spec
    assert source.cases()[0].image_groups == ("pre", "post")


def test_an_index_of_a_group_and_of_the_only_group_that_has_its_bands(root: Path) -> None:
    source = dataset(root, "[pre.B4, pre.B8, post.B8, post.B4, pre.NDVI, post.NDVI]", "data.sensor=sentinel2")
    assert [c.formula for c in source.spec.channels[4:]] == [
        f"({g}.B8 - {g}.B4) / ({g}.B8 + {g}.B4)" for g in ("pre", "post")
    ]
    assert read(source)[5] == pytest.approx((cells(1)[1] - cells(1)[0]) / (cells(1)[1] + cells(1)[0]), rel=1e-5)
    only = dataset(root, "[pre.B4, pre.B8, NDVI, post.B12]", "data.sensor=sentinel2")
    assert only.spec.channels[2].groups == ("pre",)
    with pytest.raises(InputError, match=r"NDVI without an image group, expected one of pre, post in front, as in pre"):
        dataset(root, "[pre.B4, pre.B8, post.B4, post.B8, NDVI]", "data.sensor=sentinel2")


def test_each_group_has_a_sensor(root: Path) -> None:
    write(root / "radar", cells(2, 1), ["VV_dB"])
    own = (root, "[s1.VV_dB, s2.B8]")
    images = "data.images={s1: radar, s2: after}"
    by_group = dataset(*own, "data.sensor={s1: sentinel1, s2: sentinel2}", images=images)
    assert [(c.unit, c.wavelength_nm) for c in by_group.spec.channels] == [("dB", None), ("", 832.8)]
    guessed = dataset(root, "[s1.VV_dB, s2.B8, s2.B12]", images=images)
    assert [c.wavelength_nm for c in guessed.spec.channels] == [None, 832.8, 2202.4]
    waves = dataset(*own, "data.wavelengths_nm={B8: 800}", images=images)
    assert waves.spec.channels[1].wavelength_nm == 800
    with pytest.raises(InputError, match=r"data\.sensor names \['s3'\], the image groups .* are \['s1', 's2'\]"):
        dataset(*own, "data.sensor={s3: sentinel2}", images=images)


@pytest.mark.parametrize(
    "bands", ["[B4,B8,B12]", "[post.B4,post.B8,post.B12,pre.B4,pre.B8,pre.B12]"], ids=["each", "by group"]
)
def test_files_without_names_are_named_group_by_group(bands: str, root: Path) -> None:
    for folder, seed in (("before", 0), ("after", 1)):
        write(root / folder, cells(seed), ())
    source = dataset(root, "[post.B12, pre.B8]", f"data.bands={bands}")
    np.testing.assert_array_equal(read(source), [cells(1)[2], cells(0)[1]])


def test_bands_without_names_are_those_of_the_channels_in_order(root: Path) -> None:
    write(root / "height", cells(3, 1), ())
    for channels in ("[dem, pre.B8]", "[dem.metres, pre.B8]"):
        source = dataset(root, channels, images="data.images={pre: before, dem: height}")
        np.testing.assert_array_equal(read(source), [cells(3, 1)[0], cells(0)[1]])
    source = dataset(root, "[dem.metres, dem.slope, pre.B8]", images="data.images={pre: before, dem: height}")
    with pytest.raises(InputError, match=r"1 channel\(s\) without names in .*a\.tif, expected 2 \['dem\.metres', 'dem"):
        read(source)


@pytest.mark.parametrize(("reference", "cell", "spacing"), [(None, 20, 10), ("post", 20, 20), ("post", 5, 5)])
def test_the_reference_has_the_grid(reference: str | None, cell: int, spacing: int, root: Path) -> None:
    shape = tuple(n * 10 // cell for n in SHAPE)
    write(root / "after", np.ones((3, *shape), np.float32), cell=cell)
    given = [] if reference is None else [f"data.reference={reference}"]
    source = dataset(root, "[pre.B4, post.B8]", *given)
    sample = source.read(source.cases()[0])
    assert sample.grid.spacing == (spacing, spacing)
    assert (sample.image[1] == 1).all()
    assert source.reading == ReadOptions.from_config(
        images={"pre": "before", "post": "after"}, reference=reference, nonfinite="mask", other_grid="align"
    )


@pytest.mark.parametrize(
    ("images", "channels", "more", "message"),
    [
        ("data.images={a-b: before}", "[a-b.B4]", "", r"data\.images: got the group 'a-b', expected a name of letters"),
        ("data.images={pre: [before, after]}", "[pre.B4]", "", r"data\.images\.pre=\[.*\]: expected one folder for"),
        (GROUPS, "[B4, post.B4]", "", r"data\.channels: B4 without an image group, expected one of pre, post in front"),
        (GROUPS, '[{d: "B4 - post.B4"}]', "", r"data\.channels: B4 without an image group"),
        (GROUPS, "[pre.B4]", "data.reference=dem", r"data\.reference=dem: is no group of data\.images, expected one"),
        ("data.images=before", "[B4]", "data.reference=dem", r"data\.reference=dem: .*'data\.images=\{NAME: FOLDER"),
        (GROUPS, "[pre.B4]", "data.test_images=new", r"data\.test_images=new: got folders without names, expected"),
        (GROUPS, "[pre.B4]", "data.test_images={pre: new}", r"got pre, expected a folder for each group .*: pre, post"),
        (
            GROUPS, "[pre.B4]", "data.names={image: '(?P<case>.+)\\.tif'}",
            r"got both data\.names and image groups in data\.images; drop one",
        ),
    ],
)  # fmt: skip
def test_what_is_no_group_is_refused(images: str, channels: str, more: str, message: str, root: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        dataset(root, channels, *([more] if more else []), images=images)
    assert len(str(error.value).splitlines()) == 1


def test_a_band_that_a_group_lacks_is_named_with_it(root: Path) -> None:
    source = dataset(root, "[pre.B4, post.B11]")
    with pytest.raises(InputError, match=r"no band post\.B11 in .*, which has \['pre\.B4', .*'post\.B12'\]"):
        read(source)


def test_a_series_has_the_groups_on_each_date(root: Path) -> None:
    for folder, base in (("s1", 0), ("s2", 10)):
        for day in (1, 2):
            write(root / folder, np.full((1, *SHAPE), base + day, np.float32), ["V"], name=f"a_2020010{day}")
    source = dataset(root, "[s2.V, s1.V]", "data.dates={}", images="data.images={s1: s1, s2: s2}")
    image = read(source)
    assert image[:, :, 0, 0].tolist() == [[11, 1], [12, 2]]


def test_volumes_of_several_folders(tmp_path: Path) -> None:
    for folder, value in (("T1w", 1), ("ct", 2), ("seg", 0)):
        (tmp_path / folder).mkdir()
        array = np.full((5, 4, 3), value, dtype=np.uint8 if folder == "seg" else np.float32)
        nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / folder / "a.nii.gz")
    own = ["data=volumes", f"data.root={tmp_path}", "data.images={t1: T1w, x: ct}", "data.label_folder=seg"]
    labels = "data.labels={background: 0, organ: 1}"
    source = build_dataset(compose("train", [*own, "data.channels=[x.CT, t1]", labels]))
    assert read(source)[:, 0, 0, 0].tolist() == [2, 1]
    assert source.normalisation == ("ct", "zscore")
    assert [c.groups for c in source.spec.channels] == [("x",), ("t1",)]
    with pytest.raises(InputError, match=r"data\.channels: CT without an image group, expected the name of one, t1, x"):
        build_dataset(compose("train", [*own, "data.channels=[CT]", labels]))


NAMES = st.sampled_from(["B1", "B8A", "red"])
EXPRESSIONS = st.recursive(
    st.tuples(st.sampled_from(["pre", "post"]), NAMES).map(".".join) | st.integers(1, 9).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=6,
)


@given(EXPRESSIONS)
def test_names_with_groups_compute_what_names_without_do(text: str) -> None:
    text = f"pre.B1 + {text}"
    bands = {f"{g}.{b}": np.float32([i + 1]) for i, g in enumerate(("pre", "post")) for b in ("B1", "B8A", "red")}
    plain = Formula.parse(text.replace(".", "_"))
    expected = plain({name.replace(".", "_"): value for name, value in bands.items()})
    np.testing.assert_array_equal(Formula.parse(text)(bands), expected)


def test_settings_of_other_datasets_with_these_names_are_theirs() -> None:
    assert ReadOptions.from_config(images="scans", reference=5).image_groups == ()
