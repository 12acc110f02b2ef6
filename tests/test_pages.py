"""Every command that a page shows works; they are taken from the pages, so that none is forgotten.

A command is read by the first of ``KINDS`` that knows it; one that none knows fails. Real data are replaced by drawn
ones in the same layout, and budgets by a step.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from medseg.cli.plan import write as write_plan
from medseg.cli.prepare import dataset_names, prepare
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.hydra_app import app
from medseg.hydra_app.compose import compose
from tests.data.datasets.test_embeddings import scenes
from tests.pages import COMMANDS, PROJECT, ROOT, jobs, kind_of, overrides_of, shown
from tests.prepared import script
from tests.test_conf import GROUPS, chosen_by, take_a_step, tiny_data
from tests.tiny import write_planar


@pytest.mark.parametrize("text", [pytest.param(c.text, id=c.text[:70]) for c in COMMANDS])
def test_some_kind_knows_the_command(text: str) -> None:
    assert kind_of(text), f"a new kind of command, which no test here runs: {text}"


@pytest.mark.parametrize("text", ["medseg-trian data=x", "medseg_train", "python bench.py", "wandb login", "make"])
def test_a_command_of_no_kind_is_noticed(text: str) -> None:
    assert kind_of(text) is None


# What stands in for DIR, "..." and the like.


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


def options_of(overrides: list[str]) -> tuple[dict[str, str], str | None]:
    """Option of each group, and the experiment, if one is chosen."""
    words = dict(w.partition("=")[::2] for w in overrides)
    experiment = words.get("experiment")
    named = {k: v for k, v in words.items() if k in GROUPS or k.startswith("model/")}
    named.pop("experiment", None)
    chosen = {"data": "phantom_volumes", "model": "unet"} | (chosen_by(experiment) if experiment else {}) | named
    return chosen, experiment


def without_places(overrides: list[str]) -> list[str]:
    """Without what names files of the user's, which the drawn ones bring; NAME is an experiment.

    A cascade is two commands in one, which ``tests/sweeps/test_cascade.py`` runs; here its words train one network.
    """
    places = ("data.root=", "plan.file=", "run_dir=", "output=", "cascade=", "weights=nnUNet_results/")
    return [w.replace("=NAME", "=hippocampus") for w in overrides if not w.startswith(places)]


@pytest.fixture(scope="module")
def pretrained(cache: Path) -> str:
    """A checkpoint that stands in for CHECKPOINT and for that of a run: masked autoencoding of drawn volumes."""
    overrides = ["experiment=hippocampus_mae", "logger=csv"]
    chosen, experiment = options_of(overrides)
    take_a_step(cache, cache / "mae", overrides, chosen=chosen, experiment=experiment)
    return str(cache / "mae/checkpoints/best.ckpt")


def dated(cache: Path) -> Path:
    """A cache in which the files of ``data=rasters`` are those of a drawn time series."""
    drawing = build_dataset(compose("train", ["data=phantom_series", *tiny_data(cache, "phantom_series")]))
    root = drawing.cases()[0].images[0].parents[1]
    values = ", ".join(f"{c.name}: {c.values[0]}" for c in drawing.spec.labels.classes)
    overrides = [f"data.root={root}", "data.channels=[B4,B8]", f"data.labels={{{values}, ignore: 255}}"]
    (cache / "dated").mkdir(exist_ok=True)
    (cache / "dated/rasters-None.json").write_text(json.dumps(overrides))
    return cache / "dated"


def grouped(cache: Path, job: list[str]) -> Path:
    """A cache in which the files of ``data=rasters`` lie in the image groups of a command."""
    folder = cache / f"grouped_{hashlib.sha256(str(job).encode()).hexdigest()[:8]}"
    root = f"data.root={folder}/raw"
    write_planar(folder / "raw", compose("train", [*job, root]), n_cases=6, shape=(40, 56))
    (folder / "rasters-None.json").write_text(json.dumps([root]))
    return folder


def of_embeddings(cache: Path) -> Path:
    """A cache in which the files of ``data=rasters`` are embeddings of AlphaEarth."""
    folder = cache / "embeddings"
    scenes(folder / "raw", 64, scaled=False, names="abcdef")
    (folder / "rasters-None.json").write_text(json.dumps([f"data.root={folder}/raw"]))
    return folder


# Trainings


ELSEWHERE = {
    r"medseg-train( -m)? experiment=\w+ data\.root=DIR( weights=\S+| seed=\S+)*": "test_conf.py steps each experiment",
    r"medseg-train experiment=\w+ data\.root=DIR engine\S+": "test_datamodule.py prepares by engines",
    r"medseg-train data=nnunet .*=nnUNet_results/.*": "test_from_nnunet.py goes on from nnU-Net's files",
    r"medseg-train sweep=optuna .*": "test_sweep.py runs searches",
    r"medseg-train trainer=ddp .*": "test_processes.py trains in several processes",
}
"""Trainings that take their step in another test; here they compose, and their drawn cases are found."""


def steps_here(text: str) -> bool:
    return not any(re.fullmatch(pattern, text) for pattern in ELSEWHERE)


TRAININGS = shown("train")


def fewest(words: list[str], experiment: str | None) -> list[str]:
    """One labelled case where the command asks for few: the drawn sets have two that train."""
    asks = "few" in str(experiment) or any(word.startswith("split.n_labelled=") for word in words)
    return ["split.n_labelled=1"] if asks else []


@pytest.mark.parametrize("text", [p for p in TRAININGS if not steps_here(p.values[0])])
def test_training_composes_and_finds_its_cases(text: str, cache: Path) -> None:
    for job in jobs(without_places(overrides_of(text))):
        chosen, experiment = options_of(job)
        cfg = compose("train", [*job, *tiny_data(cache, chosen["data"], experiment)])
        assert build_dataset(cfg).cases()


@pytest.mark.parametrize("text", [p for p in TRAININGS if steps_here(p.values[0])])
def test_training_takes_a_step(text: str, cache: Path, tmp_path: Path) -> None:
    words = overrides_of(text)
    job = [*jobs(without_places(words))[0], "logger=csv"]
    chosen, experiment = options_of(job)
    own = fewest(job, experiment)
    if any(w.startswith("plan.file=") for w in words):
        tiny = [*tiny_data(cache, chosen["data"]), "split.n_folds=3", f"cache_dir={cache}/cache"]
        own += ["plan.patch=null", "plan.batch_size=null", f"plan.file={tmp_path}/plan.yaml"]
        write_plan(compose("plan", [*job, *tiny, f"output={tmp_path}/plan.yaml"]))
    files = dated(cache) if "data.dates={}" in words else cache
    files = grouped(cache, job) if any(w.startswith("data.images={") for w in words) else files
    files = of_embeddings(cache) if "data.embeddings=alphaearth" in words else files
    take_a_step(files, tmp_path / "run", job, chosen=chosen, experiment=experiment, own=own)


@pytest.mark.slow
@pytest.mark.parametrize("text", [p for p in TRAININGS if re.match(r"medseg-train( -m)? experiment=", p.values[0])])
def test_experiment_takes_a_step_as_the_command_says(text: str, cache: Path, tmp_path: Path, pretrained: str) -> None:
    for number, job in enumerate(jobs(without_places(overrides_of(text)))):
        job = [re.sub(r"^weights=(?!null).+", f"weights={pretrained}", word) for word in job]
        chosen, experiment = options_of(job)
        if chosen["data"] != "nnunet":  # the checkpoint is that of volumes
            job = [word for word in job if not word.startswith("weights=")]
        own = fewest(job, experiment)
        take_a_step(cache, tmp_path / f"{number}", [*job, "logger=csv"], chosen=chosen, experiment=experiment, own=own)


@pytest.mark.parametrize("text", shown("told"))
def test_listings_tell(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(text))
    if "--help" in text:
        with pytest.raises(SystemExit, match=r"^0$"):
            app.run("train", lambda _: pytest.fail("help trains nothing"))
    else:
        app.run("train", lambda _: pytest.fail("a listing trains nothing"))
    assert "hippocampus" in capsys.readouterr().out


@pytest.mark.parametrize("text", shown("refused"))
def test_a_misspelt_key_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"did you mean data\.root"):
        compose("train", overrides_of(text))


@pytest.mark.parametrize("text", shown("name"))
def test_the_command_is_installed_and_composes(text: str) -> None:
    assert PROJECT["scripts"][text] == f"medseg.cli.{text.removeprefix('medseg-')}:main"
    if text != "medseg-prepare":  # the only command without a configuration
        compose(text.removeprefix("medseg-"), [])


@pytest.mark.parametrize("text", shown("plan"))
def test_plan_is_written(text: str, cache: Path, tmp_path: Path) -> None:
    job = without_places(overrides_of(text))
    chosen, _ = options_of(job)
    more = [
        *tiny_data(cache, chosen["data"]),
        "split.n_folds=3",
        f"output={tmp_path}/plan.yaml",
        f"cache_dir={cache}/cache",
    ]
    assert "spacing:" in write_plan(compose("plan", [*job, *more])).read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [*shown("predict"), *shown("evaluate"), *shown("select"), *shown("export")])
def test_keys_of_what_is_shown_in_part_are_known(text: str) -> None:
    """Of whole commands see the paths below."""
    name = text.split()[0].removeprefix("medseg-")
    assert compose(name, overrides_of(text))


@pytest.mark.parametrize("text", shown("prepare"))
def test_preparation_takes_its_arguments(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``tests/data/conversion`` runs them; here the arguments are read, for each dataset where the page says NAME."""
    monkeypatch.setattr("medseg.cli.prepare._run", lambda name, dataset, given: 0)
    name, *words = shlex.split(text)[1:]
    if name == "--help":
        with pytest.raises(SystemExit, match=r"^0$"):
            prepare([name])
        return
    for dataset in dataset_names() if name == "NAME" else [name]:
        assert prepare([dataset, *words]) == 0


# Scripts, targets and packages


class Parsed(Exception):
    """Raised where a script has read its arguments, before it does anything."""


@pytest.mark.parametrize("text", shown("python"))
def test_script_takes_its_arguments(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = argparse.ArgumentParser.parse_args

    def parse_args(parser: argparse.ArgumentParser, *given: Any) -> None:
        read(parser, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    words = [str(tmp_path) if word in ("DIR", "SOURCE", "TARGET") else word for word in shlex.split(text)[1:]]
    paths = sorted(ROOT.glob(re.sub(r"<\w+>", "*", words[0])))
    assert paths, f"{words[0]}: no such script"
    for path in paths:
        monkeypatch.setattr(sys, "argv", [str(path), *words[1:]])
        with pytest.raises(Parsed):
            script(path.stem).main()


bench_all = script("bench_all")
DATA = {"bench_engine": "hippocampus", "bench_hippocampus": "hippocampus", "bench_loader": "hippocampus",
        "burned_area": "s2_burned_area_california", "burned_area_few": "s2_burned_area_california",
        "dubai": "aerial_dubai"}  # fmt: skip
"""Set in whose folder a script or an experiment of it looks, under the real data."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", [p for p in shown("python") if Path(shlex.split(p.values[0])[1]).stem in bench_all.SHORT]
)
def test_benchmark_runs(text: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """To its end, with a small budget."""
    words = shlex.split(text)[1:]
    name = Path(words[0]).stem
    if "DIR" in words:
        folder = next(DATA[word] for word in (name, *words) if word in DATA)
        words[words.index("DIR")] = str(request.getfixturevalue("real_data") / folder)
    done = subprocess.run(
        [sys.executable, *words, *bench_all.SHORT[name].split()], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MEDSEG_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
    assert "refused" not in done.stdout


@pytest.mark.parametrize("text", shown("bash"))
def test_shell_script_is_sound(text: str) -> None:
    path = ROOT / shlex.split(text)[1]
    subprocess.run(["bash", "-n", path], check=True)
    assert not [w for w in shlex.split(text)[2:] if w != "…" and "=" not in w]


@pytest.mark.parametrize("text", shown("dask"))
def test_dask_takes_the_words(text: str) -> None:
    _, name, *words = shlex.split(text)
    import_module(f"distributed.cli.dask_{name}").main.make_context(name, words)


@pytest.mark.parametrize("text", shown("make"))
def test_make_knows_the_target(text: str) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert text.split()[1] in targets
    if shutil.which("make"):
        subprocess.run([*text.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.slow
def test_make_demo_leaves_a_picture_and_a_report(tmp_path: Path) -> None:
    """What ``make demo`` runs after its set-up, some minutes; ``make test`` is what runs this."""
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "WANDB_MODE": "offline"}
    subprocess.run(["bash", "scripts/demo.sh"], cwd=tmp_path, check=True, env=environment, capture_output=True)
    assert (tmp_path / "demo/picture.png").stat().st_size > 10_000
    assert (
        json.loads((tmp_path / "demo/scores/metrics.json").read_text(encoding="utf-8"))["summary"]["dice"]["mean"] > 0.8
    )


@pytest.mark.parametrize("text", shown("pip"))
def test_what_is_installed_is_declared(text: str) -> None:
    for word in shlex.split(text)[2:]:
        if extra := re.fullmatch(r"medseg\[(\w+)\]", word):
            assert extra[1] in PROJECT["optional-dependencies"]
        elif word not in ("-c", "."):
            assert (ROOT / word).is_file()


@pytest.mark.parametrize("text", shown("wandb"))
def test_wandb_has_the_command(text: str) -> None:
    from wandb.cli.cli import cli

    _, name, *files = text.split()
    assert name in cli.commands
    assert all((ROOT / f).is_file() for f in files if f.startswith("scripts/"))
