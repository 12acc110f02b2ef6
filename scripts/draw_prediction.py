"""Draw a validation case of a run on scenes: composite of all bands of its file, label and prediction.

python scripts/draw_prediction.py RUN_DIR TARGET.png [CASE]
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from medseg import build, folds, formats, restore
from medseg.data.sensors import bands_of
from medseg.report.figures import overlay_figure, to_png


def main(run_dir: str, target: str, name: str | None = None) -> None:
    cfg = OmegaConf.load(Path(run_dir) / "config.yaml")
    source = build.dataset(cfg)
    cases = {case.id: case for case in folds.halves(cfg, source)[1]}
    case = cases[name or next(iter(cases))]
    sample, file = source.read(case), formats.open(case.images[0])
    pred = restore.predictor(Path(run_dir) / "checkpoints" / f"{cfg.judged}.ckpt").index(sample)
    bands = bands_of(file.names, cfg.data.sensor) if file.names else source.spec.channels
    figure = overlay_figure(
        file.read(), sample.label, pred, source.spec.labels, sample.grid, channels=bands, valid=sample.valid,
        title=sample.case,
    )  # fmt: skip
    Path(target).write_bytes(to_png(figure))


if __name__ == "__main__":
    main(*sys.argv[1:4])
