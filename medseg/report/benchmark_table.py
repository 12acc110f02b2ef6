"""A row of the scores of a run, in the columns of torchgeo-bench's table of results."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.errors import InputError
from medseg.runtime.atomic import write_whole

COLUMNS = (
    "dataset", "method", "metric_name", "metric_value", "ci_lower", "ci_upper", "feature_dim", "best_c", "best_lr",
    "best_batch_size", "n_train", "n_val", "n_test", "seed", "model", "name", "normalization", "image_size",
    "interpolation", "partition", "bands", "c_range_start", "c_range_stop", "c_range_num", "merge_val", "bootstrap",
    "fw_iou", "precision", "recall", "f1", "ece", "rms_ce", "mce", "ece_ts", "rms_ce_ts", "mce_ts", "temperature",
    "calibration_n_bins",
)  # fmt: skip
_RESAMPLES = re.compile(r"(\d+) resamples")


def row(config: Mapping[str, Any], result: Mapping[str, Any], cases: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What a run says for the table; columns that it has nothing for are left out.

    The method is ``seg-`` and the decoder, as there; where the encoder learned too, which torchgeo-bench never does,
    ``-finetuned`` is added. Scores are fractions, with the interval of this package's bootstrap over cases.

    Args:
        config: Resolved configuration of the run.
        result: Its ``metrics.json``.
        cases: Names of its training and validation cases (``train``, ``val``).

    Raises:
        InputError: The run has no mean IoU.
    """
    own = _about(config) | _scores(result) | {"n_train": len(cases["train"]), "n_val": len(cases["val"])}
    return {name: value for name, value in own.items() if value is not None}


def _about(config: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of the settings."""
    data, model, planned = config["data"], config["model"], config["plan"]
    encoder, few = model.get("encoder", {}), config["split"].get("n_labelled")
    return {
        "dataset": data["name"],
        "method": _method(config),
        "best_lr": config["optimizer"]["lr"],
        "best_batch_size": planned.get("batch_size"),
        "seed": config["seed"],
        "model": encoder.get("_target_", model["_target_"]),
        "name": encoder.get("name") or encoder.get("size") or model["_target_"].rpartition(".")[2],
        "normalization": data.get("normalisation"),
        "image_size": (planned.get("patch") or [None])[0],
        "partition": "default" if few is None else f"{few}_cases",
        "bands": ",".join(name for channel in data.get("channels") or () for name in _names(channel)),
    }


def _names(channel: str | Mapping[str, str]) -> list[str]:
    """Of a band, or of what formulas compute."""
    return [channel] if isinstance(channel, str) else list(channel)


def _scores(result: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of the scores.

    Raises:
        InputError: There is no mean IoU.
    """
    summary, policy = result["summary"], result["policy"]
    score = summary.get("miou")
    if score is None or score["mean"] is None:
        raise InputError("benchmark: the run has no mean IoU, which the table has; train with metric=scene")
    low, high = score["ci95"] or (None, None)
    resamples = _RESAMPLES.search(str(policy.get("ci95")))
    tested = {case["case"] for case in result["cases"]} if policy.get("cases") == "the test set" else ()
    calibration = result.get("calibration", {})
    return {
        "metric_name": "mIoU",
        "metric_value": score["mean"],
        "ci_lower": low,
        "ci_upper": high,
        "n_test": len(tested),
        "bootstrap": resamples and resamples[1],
        **{name: summary.get(name, {}).get("mean") for name in ("precision", "recall", "f1")},
        "ece": calibration.get("ece", {}).get("before"),
        "ece_ts": calibration.get("ece", {}).get("after"),
        "temperature": calibration.get("temperature"),
    }


def check(path: Path, metrics: Sequence[object]) -> None:
    """Refuse what would make no row, before a run is scored.

    Args:
        path: Of the table.
        metrics: Of the run.

    Raises:
        InputError: No mean IoU among the metrics, or a table of other columns.
    """
    if "miou" not in metrics:
        raise InputError("benchmark: the run has no mean IoU, which the table has; train with metric=scene")
    _check_header(path, _header(_content(path)), ("dataset", "method", "metric_value"))


def append(path: Path, added: Mapping[str, Any]) -> None:
    """Add a row to a table, or make the table; a kill leaves the old one.

    Raises:
        InputError: The file has other columns.
    """
    before = _content(path)
    header = _header(before)
    _check_header(path, header, list(added))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header, lineterminator="\n")
    if not before:
        writer.writeheader()
    writer.writerow(dict(added))
    write_whole(path, before + ("" if before.endswith("\n") or not before else "\n") + text.getvalue())


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _header(content: str) -> tuple[str, ...]:
    return tuple(next(csv.reader(io.StringIO(content)), COLUMNS))


def _check_header(path: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in header]:
        raise InputError(
            f"benchmark={path}: its columns lack {missing[0]}; expected those of torchgeo-bench: name a new file"
        )


def _method(config: Mapping[str, Any]) -> str:
    """``seg-linear`` of a frozen encoder, ``seg-unet-finetuned`` of one that learned."""
    model, tuning = config["model"], config.get("finetuning") or {}
    part = model.get("decoder", model)["_target_"].rpartition(".")[2].lower()
    frozen = tuning.get("_target_", "").rpartition(".")[2] in ("Frozen", "LinearProbe")
    return f"seg-{part}" if frozen else f"seg-{part}-finetuned"
