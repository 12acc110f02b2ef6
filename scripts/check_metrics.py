"""Compare the metrics with those of other packages on drawn cases whose values are known, and write what differs.

python scripts/check_metrics.py [--output docs/benchmarks/metrics.md] [--only surfaces overlap]

Packages that are not installed are left out; the page takes MONAI, scikit-image, scikit-learn, surface-distance, MedPy,
panoptica and torchmetrics. Exit code 1 if a difference has no reason in ``REASONS``, or if a distance is further from
that of the drawn shapes than the diagonal of a voxel.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from metric_cases import CASES, EMPTY, INSTANCES, PROBABILITIES, THIN, Pair
from metric_peers import CALIBRATION, INSTANCE, OVERLAP, RECOMPUTED, SKELETON, SURFACE, TOLERANCE

from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.runtime.atomic import write_whole

TABLE = LabelTable.declare({"background": 0, "structure": 1})
PACKAGES = ("monai", "scikit-image", "scikit-learn", "surface-distance", "medpy", "panoptica", "torchmetrics")
_NO_VALUE = "NotImplementedError"
CLOSE = 1e-6
"""Largest difference that is none; of values above 1, relative to them."""
REASONS: Mapping[str, str] = {
    "a": "surface-distance weighs each piece of the surface by its area, and its surface lies at the corners between "
    "voxels, where ours is the centres of the outermost voxels, each counted once (as in MONAI and MedPy). A distance "
    "differs by up to the diagonal of a voxel, a share or a mean by the weights.",
    "b": "MedPy takes the percentile over the distances of both directions together; ours, as MONAI's and DeepMind's, "
    "is the larger of the two directed percentiles. Of our distances taken together, it is the same as MedPy's.",
    "c": "scikit-image thins by Zhang and Suen (2D) and by Lee (3D), which end lines and break ties elsewhere.",
    "d": "panoptica matches from an IoU of 0.5 on; ours above it, as the definition and MONAI do. Its components are "
    "those across faces in 2D and across corners in 3D. With both, our functions give its values.",
    "e": "AUC is counted in 2048 bins of log-odds, so that memory is bounded; equal bins count as ties.",
    "f": "MONAI (without its smoothing) has no segmentation quality without a match; ours is 0, the worst.",
}
EXPLAINED: Mapping[tuple[str, str], str] = {
    **{("surface-distance", name): "a" for name in SURFACE},
    ("medpy", "hd95"): "b",
    ("scikit-image", "cldice"): "c",
    ("scikit-learn", "auc"): "e",
    **{("panoptica", name): "d" for name in INSTANCE},
}
"""Reason of each package and metric that differ."""


@dataclass(frozen=True)
class Compared:
    """A value of ours and that of a package.

    Attributes:
        group: Kind of metric.
        case: Name of the case.
        metric: Name of the metric.
        package: Name of the package.
        ours: Our value.
        theirs: Their value, or what the package says instead.
    """

    group: str
    case: str
    metric: str
    package: str
    ours: float
    theirs: float | str

    @property
    def gap(self) -> float:
        """Difference, relative to values above 1; infinite where only one has a value."""
        if isinstance(self.theirs, str) or math.isnan(self.theirs) != math.isnan(self.ours):
            return math.inf
        return 0.0 if math.isnan(self.ours) else abs(self.theirs - self.ours) / max(1.0, abs(self.ours))

    @property
    def agrees(self) -> bool:
        """Whether it is close."""
        return self.gap <= CLOSE


def ours(pair: Pair, metrics: Sequence[str], prob: Any = None) -> dict[str, float]:
    """Our values of a case, by name without unit."""
    scores = CaseScores(TABLE, metrics=list(metrics), nsd_tolerance=TOLERANCE, object_connectivity="faces")
    valid = np.ones(pair.label.shape, dtype=bool)
    arrays = (pair.pred.astype(np.int16), pair.label.astype(np.int16), valid)
    rows = scores.add(pair.name, *arrays, spacing=pair.spacing, unit="mm", prob=prob)
    values = {key.removesuffix("_mm"): value for row in rows for key, value in row.items()}
    return {name: values[name] for name in metrics}


def installed(package: str) -> str | None:
    """Version of a package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def theirs(compute: Callable[..., float], *given: Any) -> float | str:
    """Their value, or the kind of the error."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return compute(*given)
    except Exception as error:  # whatever a package raises is part of the comparison
        return type(error).__name__


def compare(group: str, pairs: Sequence[Pair], peers: Mapping[str, Mapping[str, Any]]) -> Iterator[Compared]:
    """Every case and metric by every package that is installed."""
    for pair in pairs:
        values = ours(pair, list(peers))
        for metric, packages in peers.items():
            for package, compute in packages.items():
                other = theirs(compute, pair) if installed(package) else _NO_VALUE
                if other != _NO_VALUE:
                    yield Compared(group, pair.name, metric, package, values[metric], other)


def compare_probabilities() -> Iterator[Compared]:
    """Calibration of drawn probabilities of two classes."""
    for name, (prob, label) in PROBABILITIES.items():
        pair = Pair(name, prob[1] > prob[0], label == 1, (1.0, 1.0))
        values = ours(pair, list(CALIBRATION), prob)
        for metric, packages in CALIBRATION.items():
            for package, compute in packages.items():
                if installed(package):
                    yield Compared("probabilities", name, metric, package, values[metric], theirs(compute, prob, label))


GROUPS: Mapping[str, Callable[[], Iterator[Compared]]] = {
    "surfaces": lambda: compare("surfaces", CASES, SURFACE),
    "overlap": lambda: compare("overlap", CASES, OVERLAP),
    "centrelines": lambda: compare("centrelines", THIN, SKELETON),
    "instances": lambda: compare("instances", INSTANCES, INSTANCE),
    "probabilities": compare_probabilities,
    "missing": lambda: compare("missing", EMPTY, {**SURFACE, **OVERLAP, **INSTANCE}),
}


def reason(row: Compared) -> str:
    """Letter of the reason of a difference, empty if there is none."""
    without_match = row.metric == "sq" and row.gap == math.inf and row.package in ("monai", "panoptica")
    return "f" if without_match else EXPLAINED.get((row.package, row.metric), "")


def recomputed() -> Iterator[Compared]:
    """What packages compute instead of a metric, by our functions."""
    for (package, metric), compute in RECOMPUTED.items():
        group = {**SURFACE, **INSTANCE}[metric]
        for pair in (CASES if metric in SURFACE else INSTANCES) if installed(package) else ():
            yield Compared("", pair.name, metric, package, compute(pair), theirs(group[package], pair))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ["---"] * len(header), *rows))


def shown(value: float | str) -> str:
    """A value of a table."""
    return value if isinstance(value, str) else "no value" if math.isnan(value) else f"{value:.6g}"


def agreement(rows: Sequence[Compared]) -> str:
    """Metric by package: the largest difference, or the reasons of those that are none of rounding."""
    packages = [p for p in PACKAGES if any(row.package == p for row in rows)]
    lines = []
    for metric in dict.fromkeys(row.metric for row in rows):
        cells = []
        for package in packages:
            own = [row for row in rows if (row.metric, row.package) == (metric, package)]
            close = [row.gap for row in own if row.agrees]
            letters = sorted({reason(row) or "?" for row in own if not row.agrees})
            text = f"{len(close)} of {len(own)}" if own else ""
            text += f", {max(close):.0e}" if max(close, default=0.0) > 0 else ""
            cells.append(text + (f" ({', '.join(letters)})" if letters else ""))
        lines.append([f"`{metric}`", *cells])
    return table(["metric", *packages], lines)


def differences(rows: Sequence[Compared]) -> str:
    """Every value that differs, with its reason."""
    return table(
        ["case", "metric", "medseg", "package", "its value", "reason"],
        [
            [row.case, f"`{row.metric}`", shown(row.ours), row.package, shown(row.theirs), reason(row)]
            for row in rows
            if not row.agrees
        ],
    )


def exact() -> tuple[str, list[str]]:
    """Our values and those of the drawn shapes; and what is further off than a voxel."""
    lines, wrong = [], []
    for pair in CASES:
        for metric, value in ours(pair, list(pair.exact) or ["dice"]).items():
            if metric in pair.exact:
                drawn, diagonal = pair.exact[metric], math.hypot(*pair.spacing)
                lines.append([pair.name, f"`{metric}`", shown(drawn), shown(value)])
                allowed = diagonal if metric in SURFACE else 0.05
                wrong += [f"{pair.name}, {metric}: {value} for {drawn}"] if abs(value - drawn) > allowed else []
    return table(["case", "metric", "drawn", "medseg"], lines), wrong


def missing(rows: Sequence[Compared]) -> str:
    """What a structure that is missing gives."""
    packages = [p for p in PACKAGES if any(row.package == p for row in rows)]
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        for metric in dict.fromkeys(row.metric for row in rows):
            own = {row.package: row for row in rows if (row.case, row.metric) == (case, metric)}
            value = next(iter(own.values())).ours
            cells = [shown(own[package].theirs) if package in own else "" for package in packages]
            lines.append([case, f"`{metric}`", shown(value), *cells])
    return table(["structure", "metric", "medseg", *packages], lines)


PAGE = """# Metrics compared with other packages

Written by `python scripts/check_metrics.py --output docs/benchmarks/metrics.md`; do not edit. {versions}.
Drawn cases: `scripts/metric_cases.py`. Values are equal if they differ by 1e-6 at most (relative above 1). Instances
are components across faces here (`object_connectivity=faces`).

## Agreement

Number of cases with equal values, their largest difference if there is any, and the reasons of the others.

{agreement}
## What differs, and why

{reasons}

{differences}
## The drawn shapes

Distances are those of voxel centres: of smooth shapes they are off by less than the diagonal of a voxel.

{exact}
## Missing structures

Where a structure is missing, packages return NaN, infinity, 0, 1 or an error. Ours is the worst value of the case, so
that a mean over cases is not that of the good ones alone; without both structures the case does not enter (see
[metrics](../reference/metrics.md)).

{missing}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="write the page; without it, what differs is printed")
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), default=list(GROUPS), metavar="GROUP")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = [row for group in given.only for row in GROUPS[group]()]
    regular, empty = ([row for row in rows if (row.group == "missing") == of] for of in (False, True))
    shapes, wrong = exact()
    wrong += [f"{r.case}, {r.metric}, {r.package}: {r.theirs} for {r.ours}, without a reason" for r in regular
              if not r.agrees and not reason(r)]  # fmt: skip
    wrong += [
        f"{r.case}, {r.metric}, {r.package}: {r.theirs}, recomputed {r.ours}" for r in recomputed() if not r.agrees
    ]
    used = sorted({reason(row) for row in regular if not row.agrees} & set(REASONS))
    content = PAGE.format(
        versions="\n".join(f"{p} {installed(p)}," for p in PACKAGES if installed(p)).rstrip(","),
        agreement=agreement(regular),
        reasons="\n".join(fill(f"- **{letter}**: {REASONS[letter]}", 118, subsequent_indent="  ") for letter in used),
        differences=differences(regular),
        exact=shapes,
        missing=missing(empty),
    )
    if given.output:
        write_whole(given.output, content)
    else:
        print(content)
    print("\n".join(wrong) or f"{len(rows)} values compared, every difference has a reason", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
