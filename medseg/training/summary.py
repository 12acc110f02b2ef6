"""Summary: data, plan, network and budget of a training, on one screen of 24 lines of 80 characters."""

from __future__ import annotations

import logging
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from medseg.data.case import Case
from medseg.hydra_app.choices import network_name, option_name
from medseg.labels import LabelTable
from medseg.runtime.console import WIDTH, show

_LOG = logging.getLogger(__name__)

_KEY = 10  # characters of the first column, with the space after it
_ROOM = WIDTH - _KEY


def shortened(text: str, *, lines: int = 2, width: int = _ROOM) -> str:
    """The text if it fits so many lines, else with its middle left out.

    Example:
        >>> shortened("runs/hippocampus/2026-01-01_12-00-00", lines=1, width=20)
        'runs/hi…-01_12-00-00'
    """
    most = lines * width - (lines - 1) * 16  # what folding at spaces may leave empty
    if len(text) <= most and len(textwrap.wrap(text, width)) <= lines:
        return text
    before = (most - 1) * 2 // 5
    return f"{text[:before]}…{text[-(most - 1 - before) :]}"


def listed(names: Sequence[str], *, lines: int = 2, width: int = _ROOM) -> str:
    """Names with commas between them; of many, the first, how many are left out, and the last.

    Example:
        >>> listed([f"class {i}" for i in range(117)], lines=1, width=42)
        'class 0, class 1, … 114 more …, class 116'
    """
    joined = ", ".join(names)
    if len(textwrap.wrap(joined, width)) <= lines:
        return joined
    for n in range(len(names) - 2, 0, -1):
        joined = ", ".join([*names[:n], f"… {len(names) - 1 - n} more …", names[-1]])
        if len(textwrap.wrap(joined, width)) <= lines:
            return joined
    return shortened(f"{names[0]}, … {len(names) - 2} more …, {names[-1]}", lines=lines, width=width)


def rows(cfg: Any, run: Any, resumed: Any, overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and text of each line, of two lines of text at most.

    Args:
        cfg: The configuration of the training, with its ``run_dir``.
        run: The result of ``factory.run.assemble``.
        resumed: Checkpoint to continue from, if any.
        overrides: Words of the command, from which the command to resume with is made; empty in Python.
    """
    spec, parts = run.dataset.spec, run.datamodule.cases
    yield (
        "data",
        shortened(f"{run.dataset.name}: {len(parts['train'])} cases to train, {len(parts['val'])} to validate"),
    )
    for name, stream in run.datamodule.streams.items():
        yield "stream", shortened(_stream_line(name, stream))
    dates = [f"on up to {spec.dates} dates"] if spec.dates else []
    yield "channels", " ".join([listed([c.name for c in spec.channels]), *dates])
    yield "labels", listed([*_valued(spec.labels)])
    yield from _of_partial(spec.labels, parts["train"])
    yield from _of_table(spec)
    if spec.labels.pairs and not spec.labels.one_sided:
        yield "sides", _sides(spec.labels)
    if cfg.get("first_stage"):
        yield "cascade", shortened(f"second stage, sees the classes of {cfg.first_stage}")
    yield "plan", shortened(_plan_line(run.plan, run.trainer.world_size))
    yield "network", shortened(_network_line(cfg, run))
    yield "budget", shortened(_budget_line(cfg, run.trainer))
    if all(cfg.plan[key] is None for key in ("file", "patch", "batch_size")):
        yield "memory", shortened(_memory_line(cfg, run.plan.reasons))
    yield "outputs", shortened(cfg.run_dir)
    if resumed is not None:
        yield "resumes", shortened(str(resumed))
    command = _resuming(overrides)
    fits = bool(overrides) and len(textwrap.wrap(f"after an interruption: {command}", _ROOM)) <= 2
    yield "next", f"after an interruption: {command if fits else 'the same command with ckpt_path=last'}"


def _of_partial(labels: LabelTable, cases: Sequence[Case]) -> Iterator[tuple[str, str]]:
    """How many training cases annotate each class, where some do not annotate all."""
    partial = [case.annotated for case in cases if case.annotated is not None]
    if partial:
        complete = len(cases) - len(partial)
        counts = {name: complete + sum(name in own for own in partial) for name, _ in labels.targets}
        yield "annotated", listed([f"{name} in {n} of {len(cases)} training cases" for name, n in counts.items()])


def _of_table(spec: Any) -> Iterator[tuple[str, str]]:
    """Facts of cases and their class, where there are some."""
    if spec.facts:
        yield "facts", listed([fact.summary() for fact in spec.facts])
    if spec.case_label:
        yield "case label", shortened(spec.case_label.summary())


def _stream_line(name: str, stream: Any) -> str:
    kind = "" if stream.labelled else " without labels"
    return f"{name}: {len(stream.cases)} cases{kind}, {stream.rate:g} samples for each of the main stream"


def _sides(labels: LabelTable) -> str:
    """Pairs of classes that a mirror across the body exchanges."""
    sides = [f"{left} / {right}" for left, right in labels.paired_names]
    return listed([*sides[:-1], f"{sides[-1]} (exchanged in mirror images)"])


def _plan_line(plan: Any, world_size: int) -> str:
    devices = f" on each of {world_size} devices" if world_size > 1 else ""
    patch = f"patch {_times(plan.patch)}{_rounded(plan.reasons.get('patch', ''))}"
    return f"spacing {_times(plan.spacing)}, {patch}, batch {plan.batch_size}{devices}"


def _network_line(cfg: Any, run: Any) -> str:
    learning = sum(p.numel() for p in run.method.parameters() if p.requires_grad)
    every = sum(p.numel() for p in run.method.parameters())
    line = f"{network_name(cfg.model)}, {_millions(every)} million parameters"
    if learning < every:
        line += f", {_millions(learning)} of them learn (finetuning={option_name('finetuning', cfg.finetuning)})"
    return line + (f", temporal={option_name('temporal', cfg.temporal)}" if run.dataset.spec.dates else "")


def _budget_line(cfg: Any, trainer: Any) -> str:
    limits = {k: cfg.trainer[k] for k in ("max_steps", "max_epochs", "max_time") if cfg.trainer[k] not in (None, -1)}
    device = str(trainer.strategy.root_device)
    return ", ".join([*(f"{k} {v}" for k, v in limits.items()), f"on {device}, {trainer.precision}"])


def _memory_line(cfg: Any, reasons: Mapping[str, str]) -> str:
    unknown = f"with a U-Net; what {network_name(cfg.model)} needs is not known"
    return f"planned for {cfg.plan.memory_gb:g} GB (plan.memory_gb), {reasons.get('memory', unknown)}"


def _rounded(reason: str) -> str:
    """The size that the patch was rounded up from, by the reason in the plan; empty if it was not.

    Example:
        >>> _rounded("set by plan.patch, rounded up from [36, 50, 36] for pooling")
        ' (36 x 50 x 36 rounded up)'
    """
    match = re.search(r"rounded up from \[([\d, ]+)\]", reason)
    return f" ({match[1].replace(', ', ' x ')} rounded up)" if match else ""


def _valued(labels: LabelTable) -> Iterator[str]:
    """Values in the files with the names of their classes."""
    for kind in labels.classes:
        yield f"{'+'.join(map(str, kind.values))}={kind.name}"
    if labels.ignore_values:
        yield f"{'+'.join(map(str, labels.ignore_values))}=ignored"


def print_summary(cfg: Any, run: Any, resumed: Any, overrides: Sequence[str]) -> None:
    """Print the summary; in colours on a terminal only."""
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    table.add_column(style="bold cyan", no_wrap=True, width=_KEY - 1)
    table.add_column(overflow="fold", max_width=_ROOM)
    for key, value in rows(cfg, run, resumed, overrides):
        table.add_row(key, value)
    if run.report is not None:
        show(_LOG, run.report.table())
    show(_LOG, table)


def _resuming(overrides: Sequence[str]) -> str:
    other = [word for word in overrides if not word.startswith("ckpt_path=")]
    return " ".join(["medseg-train", *(shlex.quote(word) for word in other), "ckpt_path=last"])


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}" if count >= 1e4 else f"{count / 1e6:.2g}"


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{v:g}" for v in values)
