"""model_card.md: what the predictor was trained on, how well it did, what it can't do, and how it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg._version import __version__
from medseg.export.parity import CaseParity

_LIMITS = (
    "Images of another scanner, sensor, season, resolution or population than the training's may be segmented much "
    "worse than the scores say; nothing warns of it.",
    "Channels are taken in the order and units below; the runner can't see that they were exchanged.",
    "The network runs in single precision. After a training in bfloat16 or float16, medseg predicts in that precision "
    "where the device has it, which changes some cells at the border between classes.",
    "Volumes are held in memory whole, with a value for each class and cell.",
)


def card(
    settings: Mapping[str, Any],
    *,
    name: str,
    licence: str | None,
    scores: Sequence[Mapping[str, Any] | None],
    parity: Sequence[CaseParity],
    files: Sequence[str],
) -> str:
    """The text of a model card.

    Args:
        settings: Content of ``predictor.json``.
        name: Of the experiment.
        licence: As the user states it; None if nobody did.
        scores: ``metrics.json`` of the run of each member; None where there is none.
        parity: What was measured at export.
        files: Names of the network files.
    """
    parts = [
        f"# {name}",
        _what(settings, files),
        f"## Data\n\n{_data(settings, licence)}",
        f"## Channels\n\n{_channels(settings)}",
        f"## Classes\n\n{_classes(settings)}",
        f"## Scores\n\n{_scores(settings, scores)}",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _LIMITS),
        f"## How to run\n\n{_run(settings, files)}",
        f"## Parity\n\n{_parity(parity)}",
    ]
    return "\n\n".join(parts) + "\n"


def scores_of(checkpoint: Path) -> Mapping[str, Any] | None:
    """``metrics.json`` of the run whose checkpoint this is; None where it is not that of a run, or can't be read."""
    if checkpoint.parent.name != "checkpoints":
        return None
    try:
        metrics = json.loads((checkpoint.parent.parent / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) and isinstance(metrics.get("summary"), dict) else None


def _what(settings: Mapping[str, Any], files: Sequence[str]) -> str:
    members = settings["members"]
    kind = "volumes" if settings["ndim"] == 3 else "scenes and images"
    networks = ", ".join(f"{m['architecture']} after {m['step']} steps ({m['network']})" for m in members)
    several = f" The probabilities of its {len(members)} networks are averaged." if len(members) > 1 else ""
    names = list(dict.fromkeys(fact["name"] for member in members for fact in member.get("facts", ())))
    several += f" They take facts of each case: {', '.join(names)} (`--facts FACTS.json`)." if names else ""
    several += f" They find {settings['case_label']['name']} of each case." if "case_label" in settings else ""
    return (
        f"Segments {kind}. Exported by medseg {__version__}: {networks}.{several} `predictor.json` holds "
        f"preprocessing, tiling, way back and post-processing; networks: {', '.join(f'`{file}`' for file in files)}."
    )


def _data(settings: Mapping[str, Any], licence: str | None) -> str:
    origin = settings["provenance"]
    cases = [f"{count} {part}" for part, count in origin["data"].items() if isinstance(count, int)]
    lines = [
        f"- cases: {', '.join(cases) or 'not recorded'}",
        f"- training command: `{' '.join(origin.get('command') or []) or 'not recorded'}`",
        f"- licence of the data and of these weights: {licence or 'not stated; ask whoever trained them'}",
    ]
    return "\n".join(lines)


def _channels(settings: Mapping[str, Any]) -> str:
    rows = ["| channel | unit | wavelength in nm | normalisation |", "|---|---|---|---|"]
    for number, channel in enumerate(settings["channels"]):
        formula = f" = {channel['formula']}" if channel["formula"] else ""
        rule = settings["members"][0]["preprocessing"]["normalisation"][number]["scheme"]
        wave = channel["wavelength_nm"] or ""
        rows.append(f"| {channel['name']}{formula} | {channel['unit'] or 'not stated'} | {wave} | {rule} |")
    return "\n".join(rows)


def _classes(settings: Mapping[str, Any]) -> str:
    rows = ["| value in label files | class |", "|---|---|"]
    rows += [f"| {c['saved']} | {c['name']} |" for c in settings["labels"]["classes"]]
    return "\n".join(rows)


def _scores(settings: Mapping[str, Any], scores: Sequence[Mapping[str, Any] | None]) -> str:
    parts = []
    for member, metrics in zip(settings["members"], scores, strict=True):
        if metrics is None:
            parts.append(f"`{member['network']}`: no metrics.json next to its checkpoint.")
            continue
        rows = ["| metric | mean | 95 % interval | cases |", "|---|---|---|---|"]
        rows += [_score(metric, value) for metric, value in metrics["summary"].items() if isinstance(value, dict)]
        title = f"`{member['network']}` alone, on the cases that scored its training:"
        parts.append(f"{title}\n\n" + "\n".join(rows))
    if len(scores) > 1:
        parts.append("The average of the networks was not scored here; `medseg-evaluate` scores its label files.")
    return "\n\n".join(parts)


def _score(metric: str, value: Mapping[str, Any]) -> str:
    interval = value.get("ci95")
    shown = " to ".join(f"{v:.4g}" for v in interval) if interval and None not in interval else ""
    mean = value.get("mean")
    return f"| {metric} | {'' if mean is None else f'{mean:.4g}'} | {shown} | {value.get('cases', '')} |"


def _run(settings: Mapping[str, Any], files: Sequence[str]) -> str:
    reader = "nibabel" if settings["ndim"] == 3 else "rasterio"
    engine = "onnxruntime" if any(file.endswith(".onnx") for file in files) else "torch"
    return f"```text\npip install numpy {engine} {reader}\npython runner.py INPUT OUTPUT [--probabilities]\n```"


def _parity(parity: Sequence[CaseParity]) -> str:
    rows = [
        "| case | cells | cells of another class | largest difference of probabilities | seconds in medseg, here |",
        "|---|---|---|---|---|",
    ]
    rows += [
        f"| {one.case} | {one.cells} | {one.cells_that_differ} | {one.largest_difference:.2g} | "
        f"{one.seconds_medseg:.2f}, {one.seconds_runner:.2f} |"
        for one in parity
    ]
    return "\n".join(rows)
