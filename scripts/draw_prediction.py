"""Draw held-out cases of trainings below one another: image, label and prediction, one row a checkpoint.

python scripts/draw_prediction.py OUT.png CHECKPOINT[:CASE] [CHECKPOINT[:CASE] ...]

The data is where the checkpoint's configuration says, and is read by the classes that it names: draw checkpoints of
your own only. A case that the training judged or validated on is
drawn: the one that is named, or else the first. The image is a composite of all bands of the case's (first)
file, of which the network may see others.
"""

import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from medseg import checkpoint, formats
from medseg.data.case import Case, first_five
from medseg.errors import InputError
from medseg.factory import split
from medseg.factory.dataset import build_dataset
from medseg.prediction import restore
from medseg.sensors.bands import bands_of
from medseg.viz.figures import rows_figure, to_png
from medseg.viz.overlay import Panels


def row(path: Path, name: str) -> tuple[str, Panels]:
    """Title and panels of one held-out case; an empty name takes the first."""
    cfg: Any = OmegaConf.create(dict(checkpoint.read(path).metadata.config))
    source = build_dataset(cfg)
    train, val = split.halves(cfg.split, source)
    seen = {case.id for case in train}
    held_out = {case.id: case for case in [*split.judged(cfg.split, source), *val] if case.id not in seen}
    if not held_out or (name and name not in held_out):
        raise InputError(
            f"{path}:{name}: held out of its training are {first_five(list(held_out)) or 'none'}; name one"
        )
    case = held_out[name or next(iter(held_out))]
    sample = source.read(case)
    if sample.label is None:
        raise InputError(f"{path}:{case.id}: it has no label to draw; name another case")
    pred = restore.predictor(path).arrays.index(sample)
    image, channels = shown(case, cfg, source.spec, sample.picture)
    panels = Panels.of(
        image, sample.label, pred, source.spec.labels, sample.grid, channels=channels, valid=sample.valid
    )
    return f"{cfg.name}: {case.id}", panels


def shown(case: Case, cfg: Any, spec: Any, image: Any) -> tuple[Any, Any]:
    """All bands of the first file and what they are, where they have names; else what the network sees.

    Of time series, what it sees of one date.
    """
    if spec.ndim == 3 or spec.dates:
        return image, spec.channels
    file = formats.open(case.images[0])
    names = list(cfg.data.get("bands") or file.names)
    if len(names) != file.n_channels:
        return image, spec.channels
    return file.read(case.box), bands_of(names, cfg.data.get("sensor"))


def main(target: str, *checkpoints: str) -> None:
    """Write the picture."""
    rows = []
    for text in checkpoints:
        path, _, name = (text, "", "") if Path(text).is_file() else text.partition(":")
        rows.append(row(Path(path), name))
    Path(target).write_bytes(to_png(rows_figure(rows)))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
