"""Copies of a dataset with one kind of damage in one case: what a data doctor has to find.

python scripts/damage_data.py KIND TARGET experiment=hippocampus data.root=DIR [--seed 0] [--cases 12]

The dataset is given as to medseg-check. The copy has the same layout below TARGET, undamaged files as links, and
``damage.json``, which says what was done to which case. KIND ``list`` prints the kinds.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import rasterio
from PIL import Image
from scipy import ndimage
from stored_cells import TIFF, DoesNotApply, Patient, affine_of, cells, floats, several, store

from medseg import formats
from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose


# files ---------------------------------------------------------------------------------------------------------------
def orphan_image(p: Patient) -> None:
    p.label.unlink()


def orphan_label(p: Patient) -> None:
    for path in p.case.images:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def truncated_image(p: Patient) -> None:
    if p.image.is_dir():
        raise DoesNotApply("a folder")
    p.image.write_bytes(p.image.read_bytes()[: p.image.stat().st_size * 6 // 10])


def truncated_label(p: Patient) -> None:
    p.label.write_bytes(p.label.read_bytes()[: p.label.stat().st_size // 2])


def no_bytes(p: Patient) -> None:
    p.image.write_bytes(b"")


def jpeg_label(p: Patient) -> None:
    if formats.suffix(p.label) not in formats.suffixes("image"):
        raise DoesNotApply("pictures only")
    Image.fromarray(cells(p.label)[0].astype(np.uint8)).save(p.label.with_suffix(".jpg"), quality=90)
    p.label.unlink()


def missing_channel(p: Patient) -> None:
    files = several(p)
    if len(files) > 1:
        files[-1].unlink()
    else:
        store(files[0], cells(files[0])[:-1] if formats.suffix(files[0]) in TIFF else cells(files[0])[:1])


# geometry ------------------------------------------------------------------------------------------------------------
def label_cropped(p: Patient) -> None:
    store(p.label, cells(p.label)[:, 2:])


def label_axes(p: Patient) -> None:
    affine, array = affine_of(p.label), cells(p.label)[0]
    store(p.label, array.transpose(1, 0, 2)[None], affine=affine[:, [1, 0, 2, 3]])


def label_transposed(p: Patient) -> None:
    array = cells(p.label)
    if array.shape[1] == array.shape[2]:
        raise DoesNotApply("as high as wide")
    store(p.label, array.swapaxes(1, 2))


def label_shifted(p: Patient) -> None:
    if formats.suffix(p.label) in TIFF:
        with rasterio.open(p.label) as scene:
            if scene.crs is None:
                raise DoesNotApply("no georeference")
            moved = scene.transform * rasterio.Affine.translation(4, 3)
        store(p.label, cells(p.label), transform=moved)
        return
    affine = affine_of(p.label)
    affine[:3, 3] += affine[:3, 0] * 3
    store(p.label, cells(p.label), affine=affine)


def direction_jitter(p: Patient) -> None:
    affine, turn = affine_of(p.label), np.eye(4)
    angle = 0.15 / max(cells(p.label).shape)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    store(p.label, cells(p.label), affine=turn @ affine)


def sform_qform(p: Patient) -> None:
    affine_of(p.image)
    picture = nib.load(p.image)
    picture = nib.Nifti1Image(np.asanyarray(picture.dataobj), picture.affine)
    picture.set_sform(picture.affine, code=1)
    picture.set_qform(picture.affine @ np.diag([-1, 1, 1, 1]), code=1)
    nib.save(picture, p.image)


def no_forms(p: Patient) -> None:
    affine_of(p.label)
    picture = nib.Nifti1Image(cells(p.label)[0], None)
    picture.header["sform_code"] = picture.header["qform_code"] = 0
    nib.save(picture, p.label)


def skewed(p: Patient) -> None:
    shear = np.eye(4)
    shear[0, 1] = 0.3
    for path in (*p.case.images, p.label):
        store(path, cells(path), affine=shear @ affine_of(path))


def spacing_cm(p: Patient) -> None:
    for path in (*p.case.images, p.label):
        affine = affine_of(path)
        store(path, cells(path), affine=affine @ np.diag([0.1, 0.1, 0.1, 1]))


def other_crs(p: Patient) -> None:
    if formats.suffix(p.label) not in TIFF:
        raise DoesNotApply("scenes only")
    store(p.label, cells(p.label), crs="EPSG:3857")


def no_crs(p: Patient) -> None:
    if any(formats.suffix(path) not in TIFF for path in (*p.case.images, p.label)):
        raise DoesNotApply("scenes only")
    for path in (*p.case.images, p.label):
        store(path, cells(path), crs=None, transform=rasterio.Affine.identity())


# labels --------------------------------------------------------------------------------------------------------------
def unknown_value(p: Patient) -> None:
    array = cells(p.label)
    array[:, :4, :4] = 77
    store(p.label, array)


def binary_255(p: Patient) -> None:
    array = cells(p.label)
    if p.table.n_classes != 2 or p.table.classes[1].values != (1,):
        raise DoesNotApply("several classes")
    store(p.label, np.where(array == 1, 255, array).astype(np.uint8 if array.min() >= 0 else np.int16))


def near_integers(p: Patient) -> None:
    store(p.label, cells(p.label) + np.float32(1e-3))


def interpolated(p: Patient) -> None:
    store(
        p.label, ndimage.uniform_filter(cells(p.label).astype(np.float32), size=(1, *[3] * (cells(p.label).ndim - 1)))
    )


def nan_label(p: Patient) -> None:
    array = cells(p.label).astype(np.float32)
    array[:, :3, :3] = np.nan
    store(p.label, array)


def empty_label(p: Patient) -> None:
    background = _background(p)
    store(p.label, np.full_like(cells(p.label), background))


def tiny_label(p: Patient) -> None:
    background, array = _background(p), cells(p.label)
    flat = array.ravel()
    flat[np.flatnonzero(flat != background)[2:]] = background
    store(p.label, flat.reshape(array.shape))


def stray_piece(p: Patient) -> None:
    background, array = _background(p), cells(p.label)
    held = np.argwhere(array[0] != background)
    corner = tuple(0 if m > n / 2 else n - 3 for m, n in zip(held.mean(axis=0), array.shape[1:], strict=True))
    value = array[0][tuple(held[0])]
    array[0][tuple(slice(c, c + 2) for c in corner)] = value
    store(p.label, array)


def wrong_label(p: Patient) -> None:
    array = cells(p.other.label)  # type: ignore[arg-type]
    if array.shape != cells(p.label).shape:
        raise DoesNotApply("other sizes")
    store(p.label, array)


def flipped_label(p: Patient) -> None:
    store(p.label, np.flip(cells(p.label), 1).copy())


def _background(p: Patient) -> int:
    if not p.table.background:
        raise DoesNotApply("no background")
    return p.table.classes[0].values[0]


# images --------------------------------------------------------------------------------------------------------------
def constant(p: Patient) -> None:
    array = cells(p.image)
    array[-1] = 7
    store(p.image, array)


def duplicated_channel(p: Patient) -> None:
    files = several(p)
    if len(files) > 1:
        store(files[1], cells(files[0]))
    else:
        array = cells(files[0])
        array[:] = array[:1]
        store(files[0], array)


def exchanged_channels(p: Patient) -> None:
    files = several(p)
    if len(files) > 1:
        one, other = cells(files[0]), cells(files[1])
        store(files[0], other)
        store(files[1], one)
    else:
        array = cells(files[0])
        store(files[0], array[::-1].copy())


def scaled(p: Patient) -> None:
    array = cells(p.image)
    store(p.image, (array // 255 if array.dtype == np.uint8 else array.astype(np.float32) * 10000))


def moved_values(p: Patient) -> None:
    array = floats(p)
    store(p.image, array + 10 * (np.nanmax(array) - np.nanmin(array)))


def inverted(p: Patient) -> None:
    array = cells(p.image)
    store(p.image, np.nanmax(array) + np.nanmin(array) - array)


def nan_cells(p: Patient) -> None:
    array = floats(p)
    array[:, 5:9, 5:9] = np.nan
    store(p.image, array)


def untagged_nodata(p: Patient) -> None:
    array = floats(p)
    array[:, : array.shape[1] // 6] = -9999
    store(p.image, array, **({"nodata": None} if formats.suffix(p.image) in TIFF else {}))


def duplicate(p: Patient) -> None:
    _double(p)


def duplicate_flipped(p: Patient) -> None:
    for copy in _double(p):
        if copy.suffix in (".jpg", ".jpeg"):
            raise DoesNotApply("stored with loss")
        store(copy, np.flip(cells(copy), -1).copy())


def _double(p: Patient) -> list[Path]:
    """Copies of its files under another name."""
    copies = []
    for path in p.case.files:
        if path.is_dir() or p.case.id not in path.name:
            raise DoesNotApply("files are not named after cases")
        copies.append(path.with_name(path.name.replace(p.case.id, f"{p.case.id}copy")))
        shutil.copy(path, copies[-1])
    return copies


KINDS: dict[str, Callable[[Patient], None]] = {
    f.__name__: f
    for f in (
        orphan_image, orphan_label, truncated_image, truncated_label, no_bytes, jpeg_label, missing_channel,
        label_cropped, label_axes, label_transposed, label_shifted, direction_jitter, sform_qform, no_forms, skewed,
        spacing_cm, other_crs, no_crs, unknown_value, binary_255, near_integers, interpolated, nan_label, empty_label,
        tiny_label, stray_piece, wrong_label, flipped_label, constant, duplicated_channel, exchanged_channels, scaled,
        moved_values, inverted, nan_cells, untagged_nodata, duplicate, duplicate_flipped,
    )
}  # fmt: skip


def linked(source: Dataset, root: Path, target: Path, n_cases: int) -> list[Case]:
    """Links to the files of some cases, spread evenly, in the layout of the dataset; and its tables at the top."""
    cases = source.cases()
    chosen = [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, min(n_cases, len(cases))).round().astype(int))]
    tops = [path for path in root.iterdir() if path.suffix in (".json", ".csv")]
    for path in {path for case in chosen for path in case.files} | {*tops}:
        link = target / path.relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve(), target_is_directory=path.is_dir())
    return chosen


def damaged(overrides: Sequence[str], kind: str, target: Path, *, seed: int = 0, n_cases: int = 12) -> str:
    """Write the copy, and return the id of the damaged case.

    Raises:
        DoesNotApply: Files of this dataset can't have this damage.
    """
    cfg = compose("check", overrides)
    root = Path(cfg.data.root)
    chosen = linked(build_dataset(cfg), root, target, n_cases)
    rng = np.random.default_rng([seed, *kind.encode()])
    by_id = {case.id: case for case in build_dataset(compose("check", [*overrides, f"data.root={target}"])).cases()}
    victim, other = (by_id[chosen[i].id] for i in (rng.permutation(len(chosen))[:2] if len(chosen) > 1 else (0, 0)))
    for path in victim.files:
        if path.is_symlink() and not path.is_dir():
            original = path.resolve()
            path.unlink()
            shutil.copy(original, path)
    KINDS[kind](Patient(victim, other, build_dataset(cfg).spec.labels, rng))
    (target / "damage.json").write_text(json.dumps({"kind": kind, "case": victim.id, "seed": seed}, indent=2) + "\n")
    return victim.id


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=[*KINDS, "list"])
    parser.add_argument("target", type=Path, nargs="?")
    parser.add_argument("overrides", nargs="*", help="as of medseg-check")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=12)
    chosen = parser.parse_args()
    if chosen.kind == "list":
        print("\n".join(KINDS))
        return
    print(damaged(chosen.overrides, chosen.kind, chosen.target, seed=chosen.seed, n_cases=chosen.cases))


if __name__ == "__main__":
    main()
