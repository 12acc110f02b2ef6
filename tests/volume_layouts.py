"""Tiny volumes in the layouts in which the Decathlon, BTCV, ACDC, AMOS, BraTS, KiTS and TotalSegmentator are published.

Written by nibabel, not by the package. What is drawn is a function of the case's name.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tests.prepared import prepare
from tests.tiny import save

SHAPE = (20, 18, 16)
AFFINE = np.array([[-1.5, 0, 0, 9], [0, 1.5, 0, -9], [0, 0, 2, 3], [0, 0, 0, 1.0]])


def drawn(name: str, values: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Image and label of a case: blocks of all values in turn, as bright as their place in the list."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    blocks = np.arange(5 * 6 * 4).reshape(5, 6, 4) + rng.integers(len(values))
    place = np.kron(blocks % len(values), np.ones((4, 3, 4), dtype=int))
    image = 100 * place + rng.normal(0, 10, SHAPE)
    return image.astype(np.float32), np.array(values)[place].astype(np.uint8)


def put(path: Path, cells: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, cells, AFFINE)


DECATHLON = {
    "msd01_brain_tumour": (
        "BRATS_{:03d}", ["FLAIR", "T1w", "t1gd", "T2w"],
        ["background", "edema", "non-enhancing tumor", "enhancing tumour"],
    ),
    "msd02_heart": ("la_{:03d}", ["MRI"], ["background", "left atrium"]),
    "msd03_liver": ("liver_{}", ["CT"], ["background", "liver", "cancer"]),
    "msd04_hippocampus": ("hippocampus_{:03d}", ["MRI"], ["background", "Anterior", "Posterior"]),
    "msd05_prostate": ("prostate_{:02d}", ["T2", "ADC"], ["background", "PZ", "TZ"]),
    "msd06_lung": ("lung_{:03d}", ["CT"], ["background", "cancer"]),
    "msd07_pancreas": ("pancreas_{:03d}", ["CT"], ["background", "pancreas", "cancer"]),
    "msd08_hepatic_vessel": ("hepaticvessel_{:03d}", ["CT"], ["background", "Vessel", "Tumour"]),
    "msd09_spleen": ("spleen_{}", ["CT"], ["background", "spleen"]),
    "msd10_colon": ("colon_{:03d}", ["CT"], ["background", "colon cancer primaries"]),
}  # fmt: skip
"""By experiment: names of cases, modalities and classes as the task's dataset.json has them."""


def decathlon(root: Path, experiment: str) -> list[str]:
    named, modalities, classes = DECATHLON[experiment]
    training = []
    for number in (1, 2, 4):
        name = named.format(number)
        image, label = drawn(name, range(len(classes)))
        sequences = [image * (1 - 0.5 * i) for i in range(len(modalities))]
        put(root / f"imagesTr/{name}.nii.gz", np.stack(sequences, axis=-1) if len(sequences) > 1 else image)
        put(root / f"labelsTr/{name}.nii.gz", label)
        (root / f"imagesTr/._{name}.nii.gz").write_bytes(b"Mac OS X")
        training.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
        if number == 4:
            unlabelled = named.format(9)
            put(root / f"imagesTs/{unlabelled}.nii.gz", np.stack(sequences, axis=-1) if sequences[1:] else image)
    declared = {
        "name": experiment, "tensorImageSize": "4D" if modalities[1:] else "3D",
        "modality": {str(i): name for i, name in enumerate(modalities)},
        "labels": {str(i): name for i, name in enumerate(classes)},
        "numTraining": 3, "numTest": 1, "training": training,
        "test": [f"./imagesTs/{named.format(9)}.nii.gz"],
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(declared))
    return [f"data.root={root}"]


def btcv(root: Path) -> list[str]:
    for number in ("0001", "0002", "0003"):
        image, label = drawn(number, range(14))
        put(root / f"img/img{number}.nii.gz", image)
        put(root / f"label/label{number}.nii.gz", label)
    return [f"data.root={root}"]


def acdc(root: Path) -> list[str]:
    patients = {"training": ["patient001", "patient002", "patient003"], "testing": ["patient101"]}
    for part, names in patients.items():
        for name in names:
            folder = root / part / name
            frames = [drawn(f"{name}_frame{number}", range(4)) for number in ("01", "12")]
            for number, (image, label) in zip(("01", "12"), frames, strict=True):
                put(folder / f"{name}_frame{number}.nii.gz", image)
                put(folder / f"{name}_frame{number}_gt.nii.gz", label)
            put(folder / f"{name}_4d.nii.gz", np.stack([image for image, _ in frames], axis=-1))
            (folder / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n")
    (root / "MANDATORY_CITATION.md").write_text("Bernard et al., 2018\n")
    return [f"data.root={root}"]


def amos(root: Path) -> list[str]:
    parts = {"Tr": ["amos_0001", "amos_0004", "amos_0507"], "Va": ["amos_0008", "amos_0541"], "Ts": ["amos_0002"]}
    for part, names in parts.items():
        for name in names:
            image, label = drawn(name, range(16))
            put(root / f"images{part}/{name}.nii.gz", image)
            if part != "Ts":
                put(root / f"labels{part}/{name}.nii.gz", label)
    (root / "dataset.json").write_text("{}")
    return [f"data.root={root}"]


def brats(root: Path) -> list[str]:
    for name in ("BraTS2021_00000", "BraTS2021_00002", "BraTS2021_00003"):
        image, label = drawn(name, (0, 1, 2, 4))
        for number, sequence in enumerate(("flair", "t1", "t1ce", "t2")):
            put(root / f"{name}/{name}_{sequence}.nii.gz", image + 50 * number)
        put(root / f"{name}/{name}_seg.nii.gz", label)
    return [f"data.root={root}"]


def kits(root: Path) -> list[str]:
    for name in ("case_00000", "case_00001", "case_00002"):
        image, label = drawn(name, range(4))
        put(root / f"{name}/imaging.nii.gz", image)
        put(root / f"{name}/segmentation.nii.gz", label)
        put(root / f"{name}/instances/kidney_instance-1_annotation-1.nii.gz", (label > 0).astype(np.uint8))
    (root / "kits23.json").write_text("[]")
    return [f"data.root={root}"]


SCANS = {"s0000": "train", "s0001": "train", "s0002": "val", "s0003": "test"}


def write_totalsegmentator(root: Path, names: Sequence[str], scans: dict[str, str] = SCANS) -> None:
    """Scans with a mask for each structure; every second block of cells has none."""
    for scan in scans:
        image, label = drawn(scan, [value if value % 2 else 0 for value in range(2 * len(names) + 1)])
        put(root / scan / "ct.nii.gz", image)
        for number, name in enumerate(names):
            put(root / scan / f"segmentations/{name}.nii.gz", (label == 2 * number + 1).astype(np.uint8))
    lines = [f"{scan};62;m;inst_a;ct thorax;{part}" for scan, part in scans.items()]
    (root / "meta.csv").write_text("\n".join(["image_id;age;gender;institute;study_type;split", *lines]) + "\n")


CARDIAC = [
    "heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk", "subclavian_artery_right", "subclavian_artery_left",
    "common_carotid_artery_right", "common_carotid_artery_left", "brachiocephalic_vein_left",
    "brachiocephalic_vein_right", "atrial_appendage_left", "superior_vena_cava", "inferior_vena_cava",
    "portal_vein_and_splenic_vein", "iliac_artery_left", "iliac_artery_right", "iliac_vena_left", "iliac_vena_right",
]  # fmt: skip


def totalsegmentator(root: Path) -> list[str]:
    write_totalsegmentator(root / "Totalsegmentator_dataset_v201", CARDIAC)
    prepare("totalsegmentator", root / "Totalsegmentator_dataset_v201", root / "prepared", "--classes=cardiac")
    return [f"data.root={root / 'prepared'}"]


PUBLISHED_VOLUMES: dict[str, Callable[[Path], list[str]]] = {
    **{experiment: partial(decathlon, experiment=experiment) for experiment in DECATHLON},
    **{write.__name__: write for write in (btcv, acdc, amos, brats, kits, totalsegmentator)},
}
"""By experiment: what writes the dataset, and gives the overrides that point to it."""
