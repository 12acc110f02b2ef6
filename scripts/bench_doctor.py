"""What medseg-check finds of the damage that ``damage_data.py`` does to real data sets, and what it finds without.

python scripts/bench_doctor.py --root DIR [--output doctor.json] [--sets hippocampus retina] [--cases 12]

DIR has the data sets in the folders that ``SETS`` names. Each is examined as it is, and with every kind of damage that
its files can have, in one of at most ``--cases`` of its cases. A damage is found if an error or warning names the
damaged case (or the whole dataset) that was not there before; every new error or warning on other cases is a false
alarm. Times are of the examination, without imports.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from damage_data import KINDS, damaged, linked
from stored_cells import DoesNotApply

from medseg.doctor import Finding, examine
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose

_VOLUMES = ["data=volumes", "data.images=imagesTr", "data.label_folder=labelsTr"]
_VESSELS = ["data=images", "data.labels={background: 0, vessel: 1}"]
_AXONS = "data.labels={background: 0, axon: 1, myelin: 2}"
_CORD = r"labels/(?P<case>.+?)(?<!_graymatter)\.nii\.gz"
_COVER = "data.labels={ignore: 0, cultivated: 1, forest: 2, grassland: 3, shrubland: 4, artificial: 8}"
_TUMOUR = "data.labels={background: 0, necrosis: 1, oedema: 2, non_enhancing: 3, enhancing: 4}"
SETS: dict[str, tuple[str, list[str]]] = {
    "hippocampus": ("hippocampus", ["experiment=hippocampus"]),
    "brats": ("brats2013_crops", [*_VOLUMES, "data.channels=[FLAIR,T1c]", _TUMOUR]),
    "spleen": ("ct_spleen_msd09_crop", [*_VOLUMES, "data.channels=[CT]", "data.labels={background: 0, spleen: 1}"]),
    "cord": (
        "mr_spinal_cord",
        ["data=volumes", "data.channels=[MR]", "data.labels={background: 0, cord: 1}",
         rf"data.names={{image: 'images/(?P<case>.+)\.nii\.gz', label: '{_CORD}'}}"],
    ),
    "retina": ("retina_drive", ["experiment=retina"]),
    "chase": ("retina_chasedb1", [*_VESSELS, r"data.groups='Image_(\d+)'"]),
    "nuclei": ("nuclei_dsb2018", ["experiment=nuclei"]),
    "membranes": ("em_isbi2012", ["experiment=membranes"]),
    "axons": ("sem_axon_myelin", ["data=images", "data.channels=[grey]", _AXONS]),
    "dubai": ("aerial_dubai", ["experiment=dubai"]),
    "roads": ("aerial_massachusetts_roads", ["data=images", "data.labels={background: 0, road: 1}"]),
    "burned_area": ("s2_burned_area_california", ["experiment=burned_area"]),
    "floods": ("sen1floods11_sample", ["experiment=floods"]),
    "slovenia": ("s2_lulc_slovenia", ["data=rasters", "data.channels=[B02,B03,B04,B08]", _COVER]),
}  # fmt: skip
"""Folder below the root, and how the set is given to medseg-check."""


def found_in(overrides: Sequence[str]) -> tuple[list[Finding], int, float]:
    """(errors and warnings, cases, seconds)."""
    cfg = compose("check", overrides)
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        survey, findings = examine(build_dataset(cfg), wishes={"spacing": cfg.plan.spacing})
    return [f for f in findings if f.severity != "note"], len(survey.cases), time.perf_counter() - began


def judged(before: Sequence[Finding], after: Sequence[Finding], case: str) -> tuple[list[str], list[str]]:
    """(checks that found the damage, false alarms)."""
    known = {(f.check, f.cases) for f in before}
    new = [f for f in after if (f.check, f.cases) not in known]
    hits = [f for f in new if not f.cases or any(case in name for name in f.cases)]
    return sorted({f.check for f in hits}), [f"{f.check}: {f.message}" for f in new if f not in hits]


def of_set(name: str, root: Path, n_cases: int, folder: Path) -> dict[str, Any]:
    place, options = SETS[name]
    overrides = [*options, f"data.root={root / place}"]
    clean, n, seconds = found_in(overrides)
    print(f"{name}: {n} cases in {seconds:.1f} s, {len(clean)} findings as it is", flush=True)
    result: dict[str, Any] = {"cases": n, "seconds": seconds, "clean": [f.to_dict() for f in clean], "damage": {}}
    few, _, _ = found_in([*options, f"data.root={_linked(overrides, folder / 'clean', n_cases)}"])
    for kind in KINDS:
        target = folder / kind
        try:
            case = damaged(overrides, kind, target, n_cases=n_cases)
        except DoesNotApply:
            continue
        try:
            after, _, took = found_in([*options, f"data.root={target}"])
            by, alarms = judged(few, after, case)
        except InputError:  # the dataset cannot be listed: the command ends with one line
            took, by, alarms = 0.0, ["refused"], []
        result["damage"][kind] = {"case": case, "found_by": by, "false_alarms": alarms, "seconds": took}
        print(
            f"  {kind:20s} {', '.join(by) or 'MISSED'}" + "".join(f"\n    false: {a[:150]}" for a in alarms), flush=True
        )
    return result


def _linked(overrides: Sequence[str], target: Path, n_cases: int) -> Path:
    cfg = compose("check", overrides)
    linked(build_dataset(cfg), Path(cfg.data.root), target, n_cases)
    return target


def table(results: dict[str, Any]) -> str:
    """Found and missed by kind, over the sets that it applies to."""
    lines = [f"{'damage':20s} found of  false alarms  missed in"]
    totals = [0, 0, 0]
    for kind in KINDS:
        tried = {name: r["damage"][kind] for name, r in results.items() if kind in r["damage"]}
        if not tried:
            continue
        missed = [name for name, d in tried.items() if not d["found_by"]]
        alarms = sum(len(d["false_alarms"]) for d in tried.values())
        totals = [a + b for a, b in zip(totals, (len(tried) - len(missed), len(tried), alarms), strict=True)]
        lines.append(f"{kind:20s} {len(tried) - len(missed):5d} {len(tried):2d} {alarms:13d}  {', '.join(missed)}")
    return "\n".join([*lines, f"{'all':20s} {totals[0]:5d} {totals[1]:2d} {totals[2]:11d}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("doctor.json"))
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--cases", type=int, default=12)
    chosen = parser.parse_args()
    results: dict[str, Any] = {}
    for name in chosen.sets:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = of_set(name, chosen.root, chosen.cases, Path(folder))
        chosen.output.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
