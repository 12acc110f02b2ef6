"""Draw image, label and prediction of the first test case of an nnU-Net folder.

python scripts/draw_case.py DATASET PREDICTIONS TARGET.png
"""

import sys
from pathlib import Path

from medseg import formats
from medseg.data.datasets.nnunet import NnunetDataset
from medseg.viz.figures import overlay_figure, to_png


def main(root: Path, predictions: Path, target: Path) -> None:
    dataset = NnunetDataset(root)
    case = next(c for c in dataset.test_cases() if (predictions / f"{c.id}.nii.gz").exists())
    sample = dataset.read(case)
    saved = formats.open(predictions / f"{case.id}.nii.gz").read()[0]
    pred = dataset.spec.labels.to_index(saved)
    figure = overlay_figure(sample.image[0], sample.label, pred, dataset.spec.labels, sample.grid, title=case.id)
    target.write_bytes(to_png(figure))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
