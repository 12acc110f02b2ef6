"""TotalSegmentator v2 (1,228 CT scans, 117 structures) in nnU-Net's raw layout: one label file a scan.

medseg-prepare totalsegmentator FOLDER TARGET [--classes organs]

Reads s0000/ct.nii.gz, s0000/segmentations/liver.nii.gz and so on, and meta.csv (image_id;...;split;...). Writes
imagesTr/s0000_0000.nii.gz (the same bytes), labelsTr/s0000.nii.gz (the CT's header; the values of the dataset's own
list, the later structure where two overlap), imagesTs and labelsTs of its test split, dataset.json, and
splits_final.json with its training and validation split. --classes takes one of the groups that its authors train
apart: organs (24), vertebrae (26), cardiac (18), muscles (23), ribs (26).
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np

from medseg import formats
from medseg.data.case import refuse
from medseg.data.conversion.preparation import Choice, PublishedDataset, Work, expected, text_work
from medseg.errors import InputError


def _sides(*names: str, first: str = "left") -> list[str]:
    order = ("left", "right") if first == "left" else ("right", "left")
    return [f"{name}_{side}" for name in names for side in order]


VERTEBRAE = [f"{kind}{n}" for kind, most in (("L", 5), ("T", 12), ("C", 7)) for n in range(most, 0, -1)]
GROUPS = {
    "organs": [
        "spleen", *_sides("kidney", first="right"), "gallbladder", "liver", "stomach", "pancreas",
        *_sides("adrenal_gland", first="right"), "lung_upper_lobe_left", "lung_lower_lobe_left",
        "lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right", "esophagus", "trachea",
        "thyroid_gland", "small_bowel", "duodenum", "colon", "urinary_bladder", "prostate", *_sides("kidney_cyst"),
    ],
    "vertebrae": ["sacrum", "vertebrae_S1", *(f"vertebrae_{name}" for name in VERTEBRAE)],
    "cardiac": [
        "heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk", *_sides("subclavian_artery", first="right"),
        *_sides("common_carotid_artery", first="right"), *_sides("brachiocephalic_vein"), "atrial_appendage_left",
        "superior_vena_cava", "inferior_vena_cava", "portal_vein_and_splenic_vein",
        *_sides("iliac_artery", "iliac_vena"),
    ],
    "muscles": [
        *_sides("humerus", "scapula", "clavicula", "femur", "hip"), "spinal_cord",
        *_sides("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas"), "brain", "skull",
    ],
    "ribs": [*(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)), "sternum", "costal_cartilages"],
}  # fmt: skip
VALUES = {name: value for value, name in enumerate((n for names in GROUPS.values() for n in names), start=1)}
"""Label value by structure, as TotalSegmentator v2 numbers them."""


def plan(source: Path, *, classes: str) -> list[Work]:
    """Work of the dataset, a scan each, and its tables; see the module."""
    names = GROUPS.get(classes, list(VALUES))
    split = _read_split(expected(source / "meta.csv", "TotalSegmentator's table of scans"))
    lacking = [case for case in split if not (source / case / "ct.nii.gz").is_file()]
    refuse(lacking, f"scan(s) of meta.csv without a ct.nii.gz in {source}", "unpack the whole archive")
    labels = {"background": 0, **{name: VALUES[name] for name in names}}
    training = {part: [case for case, its in split.items() if its == part] for part in ("train", "val")}
    declared = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": sum(map(len, training.values())),
        "file_ending": ".nii.gz",
    }
    tables = {"dataset.json": declared, "splits_final.json": [training]}
    work = [text_work(name, json.dumps(table, indent=1) + "\n") for name, table in tables.items()]
    return work + [_merge_masks(source / case, names, test=part == "test") for case, part in split.items()]


def _read_split(table: Path) -> dict[str, str]:
    """Part (train, val, test) by scan, sorted."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream, delimiter=";"))
    parts = {row.get("image_id") or "": row.get("split") for row in rows}
    found = {case: part for case, part in sorted(parts.items()) if part in ("train", "val", "test")}
    if len(found) != len(rows) or not {"train", "val"} <= set(found.values()):
        raise InputError(
            f"{table}: {len(found)} of {len(rows)} lines have an image_id and a split of train, val or test; expected "
            "all of them, divided by ';', as in version 2"
        )
    return found


def _merge_masks(case: Path, names: list[str], *, test: bool) -> Work:
    masks = {name: case / "segmentations" / f"{name}.nii.gz" for name in names}
    images, labels = ("imagesTs", "labelsTs") if test else ("imagesTr", "labelsTr")

    def write(image_draft: Path, label_draft: Path) -> None:
        lacking = [path.name for path in masks.values() if not path.is_file()]
        refuse(lacking, f"mask(s) missing in {case / 'segmentations'}", "unpack the whole archive, of version 2")
        image = case / "ct.nii.gz"
        grid = formats.open(image).grid
        merged = np.zeros(grid.shape, dtype=np.uint8)
        for name, path in masks.items():
            source = formats.open(path)
            if source.grid.shape != grid.shape:
                raise InputError(f"{path}: has shape {source.grid.shape}, {image} {grid.shape}; fetch the scan anew")
            merged[source.read()[0] > 0] = VALUES[name]
        shutil.copyfile(image, image_draft)
        formats.write(label_draft, merged, grid, like=image)

    return Work(case.name, (f"{images}/{case.name}_0000.nii.gz", f"{labels}/{case.name}.nii.gz"), write)


DATASET = PublishedDataset(
    "TotalSegmentator", plan, {"classes": Choice(("all", *GROUPS), "all", "which structures become classes")}
)
