"""The control: paired differences over seeds and cases, and the page that tells them."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from medseg.cli.train import main
from medseg.errors import InputError
from medseg.metrics.differences import paired
from medseg.report.comparison import lines, write_comparison
from medseg.sweeps.compare import CompletedRun, compare, read_runs


def ended(weights: str | None, seed: int, scores: dict[str, float], fold: int = 0) -> CompletedRun:
    rows = [{"case": case, "class": "lesion", "dice": score} for case, score in scores.items()]
    mean = float(np.mean(list(scores.values())))
    result = {
        "summary": {"dice": {"mean": mean, "ci95": None, "cases": len(scores)}},
        "classes": {"lesion": {"dice": {"mean": mean}}},
        "cases": rows,
    }
    settings = {"model.encoder.weights": weights, "seed": seed, "split.fold": fold, "run_dir": f"{weights}{seed}"}
    return CompletedRun(Path("runs"), settings, result)


SWEEP = [
    ended(None, 0, {"a": 0.4, "b": 0.6}),
    ended(None, 1, {"a": 0.7, "b": 0.7}),
    ended("mae.ckpt", 0, {"a": 0.6, "b": 0.6}),
    ended("mae.ckpt", 1, {"a": 1.0, "b": 0.8}),
]


def test_differences_are_paired_by_seed_and_by_case() -> None:
    result = compare(SWEEP)
    (row,) = result["differences"]
    assert result["varied"] == ["model.encoder.weights"]
    assert row["of"] == "model.encoder.weights=mae.ckpt"
    assert row["to"] == "model.encoder.weights=null"
    np.testing.assert_allclose([row["seeds"]["0"], row["seeds"]["1"], row["difference"]], [0.1, 0.2, 0.15])
    np.testing.assert_allclose(row["of_cases"]["difference"], 0.15)
    np.testing.assert_allclose(row["of_cases"]["ci95"], [0.05, 0.25])  # of two cases, with differences 0.25 and 0.05
    assert [arm["mean"] for arm in result["arms"]] == pytest.approx([0.6, 0.75])


def test_folds_alone_are_no_rivals() -> None:
    runs = [ended(None, 0, {"a": 0.5, "b": 0.7}, fold=0), ended(None, 0, {"c": 0.8, "d": 1.0}, fold=1)]
    with pytest.raises(InputError, match="differ in their seed or fold alone"):
        compare(runs)


def test_arms_on_several_folds_are_paired_by_fold(tmp_path: Path) -> None:
    arms = [
        ended(weights, 0, {f"{fold}{case}": base + gain for case in "ab"}, fold=fold)
        for weights, gain in ((None, 0.0), ("mae.ckpt", 0.1))
        for fold, base in ((0, 0.3), (1, 0.6))
    ]
    result = compare(arms)
    assert result["varied"] == ["model.encoder.weights"]
    (row,) = result["differences"]
    assert row["seeds"] == pytest.approx({"fold 0": 0.1, "fold 1": 0.1})
    assert row["of_cases"]["cases"] == 4
    assert "folds share training cases: no interval" in lines(result)[-1]
    write_comparison(tmp_path / "c.html", result)
    assert "paired by fold and seed" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_one_seed_has_no_interval_over_seeds(tmp_path: Path) -> None:
    result = compare([SWEEP[0], SWEEP[2]])
    assert "(one seed: no interval over seeds; another seed may reverse it), ahead with 1 of 1" in lines(result)[-1]
    write_comparison(tmp_path / "c.html", result)
    assert "(one seed: no interval" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_interval_is_that_of_a_paired_t_test() -> None:
    a, b = np.array([0.8, 0.7, 0.9, 0.85]), np.array([0.7, 0.72, 0.8, 0.8])
    mean, interval = paired(list(a - b))
    oracle = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert interval == pytest.approx([oracle.low, oracle.high])
    assert mean == pytest.approx((a - b).mean())
    assert paired([0.1]) == (pytest.approx(0.1), None)


def test_arms_of_other_classes_are_told_apart_by_them() -> None:
    def tuned(name: str, **settings: object) -> CompletedRun:
        run = ended(None, 0, {"a": 0.5, "b": 0.7})
        own = {f"finetuning.{key}": value for key, value in settings.items()}
        return CompletedRun(
            run.folder, {"seed": 0, "finetuning._target_": f"medseg.finetuning.{name}", **own}, run.result
        )

    arms = compare(
        [tuned("full.Full"), tuned("frozen.Frozen", _convert_="all"), tuned("lora.Lora", _convert_="all", rank=8)]
    )["arms"]
    assert [arm["name"] for arm in arms] == ["finetuning=full", "finetuning=frozen", "finetuning=lora"]
    arms = compare([tuned("full.Full"), tuned("lora.Lora", rank=4), tuned("lora.Lora", rank=8)])["arms"]
    assert [arm["name"] for arm in arms][1:] == [
        "finetuning=lora, finetuning.rank=4",
        "finetuning=lora, finetuning.rank=8",
    ]
    arms = compare([tuned("full.Full"), tuned("mine.Own")])["arms"]
    assert [arm["name"] for arm in arms] == ["finetuning=full", "finetuning=Own"], "no option names the user's class"


def test_only_common_seeds_enter() -> None:
    (row,) = compare([*SWEEP, ended(None, 2, {"a": 0.0, "b": 0.0})])["differences"]
    assert set(row["seeds"]) == {"0", "1"}


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (SWEEP[:2], "differ in their seed or fold alone"),
        ([SWEEP[0], SWEEP[3]], "share no seed"),
    ],
)
def test_what_cannot_be_compared_is_said(runs: list[CompletedRun], told: str) -> None:
    with pytest.raises(InputError, match=told):
        compare(runs)


def test_runs_are_read_in_the_order_of_their_jobs(tmp_path: Path) -> None:
    for job, run in enumerate([*SWEEP, *SWEEP, *SWEEP]):
        folder = tmp_path / str(job)
        folder.mkdir()
        config = {"model": {"encoder": {"weights": run.settings["model.encoder.weights"]}}, "seed": job}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "metrics.json").write_text(json.dumps(run.result))
    (tmp_path / "12").mkdir()  # stopped before it was judged
    assert [run.seed for run in read_runs(tmp_path)] == list(range(12))
    with pytest.raises(InputError, match="no completed runs"):
        read_runs(tmp_path / "12")


def test_page_and_lines_tell_every_number(tmp_path: Path) -> None:
    result = compare(SWEEP)
    write_comparison(tmp_path / "c.html", result)
    text = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "+0.1500" in text
    assert "model.encoder.weights=mae.ckpt" in text
    assert "Dice less that of model.encoder.weights=null" in text
    assert "[+0.0500, +0.2500] over 2 cases, p 0.5: they would show" in text
    assert any("ahead with 2 of 2" in line for line in lines(result))


def test_a_sweep_ends_with_its_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "medseg-train", "-m", "data=phantom_volumes", "data.n_cases=4", "data.n_test=2", "data.shape=[24,28,20]",
        "split.n_folds=2", "trainer.steps_per_epoch=1", "plan.patch=[16,16,16]", "plan.batch_size=2",
        "model.base_features=4", "trainer.max_steps=1", "callback={}", "logger=csv", "trainer.accelerator=cpu",
        "metric=overlap", f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/runs", "seed=0,1",
        "optimizer.lr=1e-3,1e-2",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.chdir(tmp_path)
    main()
    result = json.loads((tmp_path / "runs" / "comparison.json").read_text(encoding="utf-8"))
    assert [arm["name"] for arm in result["arms"]] == ["optimizer.lr=0.001", "optimizer.lr=0.01"]
    assert set(result["differences"][0]["seeds"]) == {"0", "1"}
    assert "comparison.html" in capsys.readouterr().out

    shutil.rmtree(tmp_path / "runs" / "3")  # as if the sweep had been killed before its last job
    monkeypatch.setattr(sys, "argv", [*command, "ckpt_path=last"])
    main()
    again = json.loads((tmp_path / "runs" / "comparison.json").read_text(encoding="utf-8"))
    assert again["differences"] == result["differences"], "the last job began, and went on with no other"
