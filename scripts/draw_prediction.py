"""Draw a validation case of a run: composite, label and prediction.

python scripts/draw_prediction.py RUN_DIR TARGET.png [CASE]
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from medseg import build, folds, restore
from medseg.report.figures import overlay_figure, to_png


def main(run_dir: str, target: str, name: str | None = None) -> None:
    cfg = OmegaConf.load(Path(run_dir) / "config.yaml")
    source = build.dataset(cfg)
    cases = {case.id: case for case in folds.halves(cfg, source)[1]}
    sample = source.read(cases[name or next(iter(cases))])
    pred = restore.predictor(Path(run_dir) / "checkpoints" / f"{cfg.judged}.ckpt").index(sample)
    spec = source.spec
    figure = overlay_figure(
        sample.image, sample.label, pred, spec.labels, sample.grid, channels=spec.channels, valid=sample.valid,
        title=sample.case,
    )  # fmt: skip
    Path(target).write_bytes(to_png(figure))


if __name__ == "__main__":
    main(*sys.argv[1:4])
