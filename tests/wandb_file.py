"""Reads the file of an offline W&B run, as wandb sync does."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import ArtifactRecord, MetricRecord, Record

_HEADER, _BLOCK = 7, 32768


def records(path: Path) -> Iterator[Record]:
    """Records of a .wandb file: a LevelDB log, in which a record may span several blocks of 32 KiB."""
    content, at, parts = path.read_bytes(), _HEADER, b""
    while at + 7 <= len(content):
        if (left := _BLOCK - at % _BLOCK) < 7:
            at += left  # too short for a header: padding
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


@dataclass
class Offline:
    """What stands in the file of an offline run.

    Attributes:
        files: Folder of its media.
        about: Id, name, group, job type and tags.
        config: Settings.
        summary: What stands for the run at its end, by key.
        history: Rows of what was logged.
        metrics: How keys are summarised, by key.
        artifacts: By name, every version in the order of logging.
        exits: Exit codes.
    """

    files: Path
    about: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, MetricRecord] = field(default_factory=dict)
    artifacts: dict[str, list[ArtifactRecord]] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)

    def last(self, key: str) -> Any:
        """What was logged last under a key."""
        return [row[key] for row in self.history if key in row][-1]

    def table(self, key: str) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows of a table."""
        stored = json.loads((self.files / self.last(key)["path"]).read_text(encoding="utf-8"))
        return stored["columns"], stored["data"]


def parts(run_dir: Path) -> list[Offline]:
    """The offline parts of the run in a run folder, in the order of their beginning."""
    return [_read(path) for path in sorted(run_dir.glob("wandb/offline-run-*/run-*.wandb"))]


def only_part(run_dir: Path) -> Offline:
    """The one offline part of the run in a run folder."""
    (part,) = parts(run_dir)
    return part


def _read(path: Path) -> Offline:
    found = Offline(path.parent / "files")
    for record in records(path):
        for entry in (*record.run.config.update, *record.config.update):
            _put(found.config, entry)
        for entry in (*record.run.summary.update, *record.summary.update):
            _put(found.summary, entry)
        if record.HasField("run"):
            run = record.run
            found.about = {"id": run.run_id, "name": run.display_name, "group": run.run_group}
            found.about |= {"job_type": run.job_type, "tags": list(run.tags), "project": run.project}
        if record.HasField("metric"):
            found.metrics[record.metric.name or record.metric.glob_name] = record.metric
        if record.HasField("artifact"):
            found.artifacts.setdefault(record.artifact.name, []).append(record.artifact)
        if record.HasField("exit"):
            found.exits.append(record.exit.exit_code)
        if record.history.item:
            row: dict[str, Any] = {}
            for entry in record.history.item:
                _put(row, entry)
            found.history.append(row)
    return found


def _put(tree: dict[str, Any], entry: Any) -> None:
    """One key, perhaps a nested one, with its value; what else stood below it is gone, as in wandb-core."""
    *outer, key = entry.nested_key or [entry.key]
    for name in outer:
        tree = tree.setdefault(name, {})
    tree[key] = json.loads(entry.value_json)
