"""The start-up summary fits a screen, whatever it has to tell."""

import io
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from medseg.data.case import Case
from medseg.labels import LabelTable
from medseg.training import summary
from medseg.training.summary import listed, print_summary, shortened

TOLD = [
    "1000 cases to train, 228 to validate", "0=a rather long name", "patch 128", "1.01 million parameters",
    "max_steps 450, on cpu", "planned for 8 GB", "runs/x/2026",
]  # fmt: skip
COMPLETE = Case("a", (), None, "a")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def training(n_classes: int = 3, *, channels: int = 1, run_dir: str = "runs/x/2026", learning: bool = True) -> Any:
    """Configuration and run as ``build.run`` makes them, as far as the summary looks."""
    cfg = OmegaConf.create(
        {
            "run_dir": run_dir, "model": {"_target_": "medseg.models.unet.UNet"},
            "finetuning": {"_target_": "medseg.finetuning.lora.Lora"},
            "trainer": {"max_steps": 450, "max_epochs": -1, "max_time": None},
            "plan": {"file": None, "patch": None, "batch_size": None, "memory_gb": 8},
        }
    )  # fmt: skip
    spec = SimpleNamespace(
        channels=[SimpleNamespace(name=f"band number {i}") for i in range(channels)], dates=0,
        facts=(), case_label=None,
        labels=LabelTable.declare({f"a rather long name of an organ {i}": i for i in range(n_classes)}),
    )  # fmt: skip
    method = nn.Sequential(nn.Linear(1000, 1000, bias=False), nn.Linear(100, 100, bias=False))
    method[0].requires_grad_(learning)
    run = SimpleNamespace(
        dataset=SimpleNamespace(spec=spec, name="totalsegmentator"), method=method, report=None,
        plan=SimpleNamespace(spacing=(1.5, 1.5, 1.5), patch=(128, 128, 128), batch_size=2, reasons={}),
        datamodule=SimpleNamespace(cases={"train": [COMPLETE] * 1000, "val": [COMPLETE] * 228}, streams={}),
        trainer=SimpleNamespace(
            world_size=1, precision="32-true", strategy=SimpleNamespace(root_device=torch.device("cpu"))
        ),
    )  # fmt: skip
    return cfg, run


def printed(*arguments: Any, capsys: pytest.CaptureFixture[str]) -> str:
    print_summary(*arguments)
    return capsys.readouterr().out


@pytest.mark.parametrize("n_classes", [2, 117])
@pytest.mark.parametrize("depth", [0, 60])
def test_summary_fits_a_screen(n_classes: int, depth: int, capsys: pytest.CaptureFixture[str]) -> None:
    long = "/scratch/a folder" * depth
    cfg, run = training(n_classes, channels=1 if depth == 0 else 200, run_dir=f"{long}/runs/x/2026")
    overrides = ["data=nnunet", f"data.root={long}/y"]
    lines = printed(cfg, run, Path(f"{long}/last.ckpt"), overrides, capsys=capsys).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for told in [*TOLD, f"{n_classes - 1}=a rather"]:
        assert told in text
    expected = (
        "the same command with ckpt_path=last" if depth else "medseg-train data=nnunet data.root=/y ckpt_path=last"
    )
    assert f"after an interruption: {expected}" in text


def test_what_is_piped_has_no_colours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b" not in printed(*training(), None, [], capsys=capsys)
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    print_summary(*training(), None, [])
    assert "\x1b[1;36mdata" in screen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    monkeypatch.setattr("sys.stdout", plain)
    print_summary(*training(), None, [])
    assert not re.search(r"\x1b\[[\d;]*3\dm", plain.getvalue())


def test_parameters_that_learn_are_told_if_fewer(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(printed(*training(learning=False), None, [], capsys=capsys).split())
    assert "1.01 million parameters, 0.01 of them learn (finetuning=lora)" in text
    assert "learn" not in printed(*training(), None, [], capsys=capsys)


def test_planned_memory_is_told_only_of_what_was_planned(capsys: pytest.CaptureFixture[str]) -> None:
    cfg, run = training()
    cfg.plan.batch_size = 4
    assert "GB" not in printed(cfg, run, None, [], capsys=capsys)


def test_planned_memory_is_that_of_a_unet_where_the_need_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    cfg, run = training()
    cfg.model._target_ = "medseg.models.monai.segresnet.SegResNet"
    text = " ".join(printed(cfg, run, None, [], capsys=capsys).split())
    assert "planned for 8 GB (plan.memory_gb), with a U-Net; what segresnet needs is not known" in text
    run.plan.reasons["memory"] = "a step needs about 2.5 GB"
    text = " ".join(printed(cfg, run, None, [], capsys=capsys).split())
    assert "planned for 8 GB (plan.memory_gb), a step needs about 2.5 GB" in text


def test_a_patch_that_was_rounded_up_is_told_as_it_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    cfg, run = training()
    assert "rounded" not in printed(cfg, run, None, [], capsys=capsys)
    run.plan.reasons["patch"] = "set by plan.patch, rounded up from [120, 128, 100] for pooling"
    text = " ".join(printed(cfg, run, None, [], capsys=capsys).split())
    assert "patch 128 x 128 x 128 (120 x 128 x 100 rounded up), batch 2" in text


def test_command_to_resume_quotes_what_the_shell_would_read(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(*training(), None, ["plan.patch=[16,16]", "ckpt_path=old.ckpt"], capsys=capsys)
    assert "medseg-train 'plan.patch=[16,16]' ckpt_path=last" in " ".join(text.split())


def test_long_texts_keep_both_ends() -> None:
    text = "".join(chr(97 + i % 26) for i in range(500))
    short = shortened(text)
    assert len(short) <= 2 * summary.WIDTH
    before, after = short.split("…")
    assert text.startswith(before)
    assert text.endswith(after)
    assert shortened("short") == "short"
    assert listed(["a", "b"]) == "a, b"
    assert listed(["x" * 300, "y", "z" * 300]).count("…") >= 1


def test_labels_have_the_values_of_their_files(capsys: pytest.CaptureFixture[str]) -> None:
    cfg, run = training()
    run.dataset.spec.labels = LabelTable.declare(
        {"ignore": [0, 255], "water": 1, "reed": [7, 8]}, background=None, merge=True
    )
    assert "labels    1=water, 7+8=reed, 0+255=ignored" in printed(cfg, run, None, [], capsys=capsys)


def test_partial_labels_are_counted_by_class(capsys: pytest.CaptureFixture[str]) -> None:
    cfg, run = training(2)
    name = "a rather long name of an organ 1"
    run.dataset.spec.labels = LabelTable.declare({"background": 0, name: 1, "b": 2})
    run.datamodule.cases["train"] = [COMPLETE, replace(COMPLETE, annotated=frozenset({"b"}))]
    lines = dict(summary.rows(cfg, run, None, []))
    assert lines["annotated"] == f"{name} in 1 of 2 training cases, b in 2 of 2 training cases"
    run.datamodule.cases["train"] = [COMPLETE]
    assert "annotated" not in dict(summary.rows(cfg, run, None, []))
