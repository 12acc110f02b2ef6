"""Every command that the README shows works; they are taken from the page, so that none is forgotten.

A command is read by the first of ``KINDS`` that knows it; one that none knows fails. Real data are replaced by drawn
ones in the same layout, and budgets by a step.
"""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from medseg import build, command, comparison
from medseg.command import compose
from medseg.errors import BadInput
from medseg.evaluate import evaluate
from medseg.plan import write as write_plan
from medseg.predict import predict
from medseg.train import train
from tests.prepared import script
from tests.test_conf import GROUPS, ONE_STEP, chosen_by, take_a_step, tiny_data

ROOT = Path(__file__).parents[1]
readme = script("readme_commands")
COMMANDS = list({c.text: c for c in readme.commands((ROOT / "README.md").read_text(encoding="utf-8"))}.values())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

KINDS = {
    "told": r"medseg-train --(help|options)",
    "refused": r"medseg-train data\.rot=1",
    "name": r"medseg-\w+",
    "train": r"medseg-train ",
    "plan": r"medseg-plan ",
    "predict": r"medseg-predict ",
    "evaluate": r"medseg-evaluate ",
    "python": r"python scripts/[\w<>]+\.py",
    "bash": r"(bash|sbatch) scripts/\w+\.sh",
    "make": r"make \w+",
    "pip": r"pip install ",
    "wandb": r"wandb (sync|sweep)",
}
"""How commands of each kind begin; without further words where the pattern ends without a space."""


def kind_of(text: str) -> str | None:
    for kind, pattern in KINDS.items():
        more = "" if kind in ("told", "refused", "name", "make") else ".*"
        if re.fullmatch(pattern + more, text):
            return kind
    return None


def shown(kind: str, *, path: bool = False) -> list[Any]:
    return [pytest.param(c.text, id=c.text[:90]) for c in COMMANDS if kind_of(c.text) == kind and c.path == path]


@pytest.mark.parametrize("text", [pytest.param(c.text, id=f"line {c.line}") for c in COMMANDS])
def test_some_kind_knows_the_command(text: str) -> None:
    assert kind_of(text), f"a new kind of command, which no test here runs: {text}"


@pytest.mark.parametrize("text", ["medseg-trian data=x", "medseg_train", "python bench.py", "wandb login", "make"])
def test_a_command_of_no_kind_is_noticed(text: str) -> None:
    assert kind_of(text) is None


# What stands in for DIR, "..." and the like.


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def overrides_of(text: str) -> list[str]:
    """Words of a command but ``-m`` and the dots that stand for others."""
    return [w for w in shlex.split(text)[1:] if w not in ("…", "...", "-m")]


def options_of(overrides: list[str]) -> tuple[dict[str, str], str | None]:
    """Option of each group, and the experiment, if one is chosen."""
    words = dict(w.partition("=")[::2] for w in overrides)
    experiment = words.get("experiment")
    named = {k: v for k, v in words.items() if k in GROUPS or k.startswith("model/")}
    named.pop("experiment", None)
    chosen = {"data": "phantom_volumes", "model": "unet"} | (chosen_by(experiment) if experiment else {}) | named
    return chosen, experiment


def without_places(overrides: list[str]) -> list[str]:
    """Without what names files of the user's, which the drawn ones bring; NAME is an experiment."""
    places = ("data.root=", "ckpt_path=", "plan.file=", "run_dir=", "output=")
    return [w.replace("=NAME", "=hippocampus") for w in overrides if not w.startswith(places)]


def jobs(overrides: list[str]) -> list[list[str]]:
    """Of a sweep, its first job and one with the last of all values; else the command as it is."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [
        [f"{o.get_key_element()}={v}" for v in o.sweep_string_iterator()] if o.is_sweep_override() else [o.input_line]
        for o in parsed
    ]
    first, last = [v[0] for v in values], [v[-1] for v in values]
    return [first] if first == last else [first, last]


@pytest.fixture(scope="module")
def pretrained(cache: Path) -> str:
    """A checkpoint that stands in for CHECKPOINT and for that of a run: masked autoencoding of drawn volumes."""
    overrides = ["experiment=hippocampus_mae", "logger=csv"]
    chosen, experiment = options_of(overrides)
    take_a_step(cache, cache / "mae", overrides, chosen=chosen, experiment=experiment)
    return str(cache / "mae/checkpoints/best.ckpt")


# Trainings


ELSEWHERE = {
    r"medseg-train( -m)? experiment=\w+ data\.root=DIR( weights=\S+| seed=\S+)*": "test_conf.py steps each experiment",
    r"medseg-train sweep=optuna .*": "test_sweep.py runs searches",
    r"medseg-train trainer=ddp .*": "test_processes.py trains in several processes",
}
"""Trainings that take their step in another test; here they compose, and their drawn cases are found."""


def steps_here(text: str) -> bool:
    return not any(re.fullmatch(pattern, text) for pattern in ELSEWHERE)


TRAININGS = shown("train")


@pytest.mark.parametrize("text", [p for p in TRAININGS if not steps_here(p.values[0])])
def test_training_composes_and_finds_its_cases(text: str, cache: Path) -> None:
    for job in jobs(without_places(overrides_of(text))):
        chosen, experiment = options_of(job)
        cfg = compose("train", [*job, *tiny_data(cache, chosen["data"], experiment)])
        assert build.dataset(cfg).cases()
        if cfg.sweep is not None:
            assert not cfg.sweep.trials or cfg.sweep.trials > 1


@pytest.mark.parametrize("text", [p for p in TRAININGS if steps_here(p.values[0])])
def test_training_takes_a_step(text: str, cache: Path, tmp_path: Path) -> None:
    words = overrides_of(text)
    job = [*jobs(without_places(words))[0], "logger=csv"]
    chosen, experiment = options_of(job)
    own = []
    if any(w.startswith("plan.file=") for w in words):
        tiny = [*tiny_data(cache, chosen["data"]), "plan.batch_size=2", f"cache_dir={cache}/cache"]
        own = ["plan.patch=null", "plan.batch_size=null", f"plan.file={tmp_path}/plan.yaml"]
        write_plan(compose("plan", [*job, *tiny, f"output={tmp_path}/plan.yaml"]))
    take_a_step(cache, tmp_path / "run", job, chosen=chosen, experiment=experiment, own=own)
    if "ckpt_path=last" in words:
        more = [*tiny_data(cache, chosen["data"]), *ONE_STEP, "trainer.max_steps=2", "plan.patch=[16,16,16]"]
        again = [*job, *more, "model.base_features=4", "test=false", f"cache_dir={cache}/cache", "ckpt_path=last"]
        train(compose("train", [*again, f"run_dir={tmp_path}/run"]))
        assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) > 2


@pytest.mark.slow
@pytest.mark.parametrize("text", [p for p in TRAININGS if re.match(r"medseg-train( -m)? experiment=", p.values[0])])
def test_experiment_takes_a_step_as_the_command_says(text: str, cache: Path, tmp_path: Path, pretrained: str) -> None:
    for number, job in enumerate(jobs(without_places(overrides_of(text)))):
        job = [re.sub(r"^weights=(?!null).+", f"weights={pretrained}", word) for word in job]
        chosen, experiment = options_of(job)
        if chosen["data"] != "nnunet":  # the checkpoint is that of volumes
            job = [word for word in job if not word.startswith("weights=")]
        own = ["data.n_labelled=1"] if "few" in str(experiment) else []
        take_a_step(cache, tmp_path / f"{number}", [*job, "logger=csv"], chosen=chosen, experiment=experiment, own=own)


@pytest.mark.parametrize("text", shown("told"))
def test_listings_tell(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(text))
    if "--help" in text:
        with pytest.raises(SystemExit, match=r"^0$"):
            command.run("train", lambda _: pytest.fail("help trains nothing"))
    else:
        command.run("train", lambda _: pytest.fail("a listing trains nothing"))
    assert "hippocampus" in capsys.readouterr().out


@pytest.mark.parametrize("text", shown("refused"))
def test_a_misspelt_key_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"did you mean data\.root"):
        compose("train", overrides_of(text))


@pytest.mark.parametrize("text", shown("name"))
def test_the_command_is_installed_and_composes(text: str) -> None:
    assert PROJECT["scripts"][text] == f"medseg.{text.removeprefix('medseg-')}:main"
    compose(text.removeprefix("medseg-"), [])


@pytest.mark.parametrize("text", shown("plan"))
def test_plan_is_written(text: str, cache: Path, tmp_path: Path) -> None:
    job = without_places(overrides_of(text))
    chosen, _ = options_of(job)
    more = [*tiny_data(cache, chosen["data"]), f"output={tmp_path}/plan.yaml", f"cache_dir={cache}/cache"]
    assert "spacing:" in write_plan(compose("plan", [*job, *more])).read_text()


@pytest.mark.parametrize("text", [*shown("predict"), *shown("evaluate")])
def test_keys_of_what_is_shown_in_part_are_known(text: str) -> None:
    """Of whole commands see the paths below."""
    name = text.split()[0].removeprefix("medseg-")
    assert compose(name, overrides_of(text))


# The three paths, whole


SECTIONS = list(dict.fromkeys(c.section for c in COMMANDS if c.path))
SHRUNK = {
    "My volumes": ["plan.patch=[16,16,16]", "model.base_features=4"],
    "My scenes": ["plan.patch=[32,32]", "model.encoder=tu-test_resnet", "model.decoder_channels=[16,16,16,16,16]"],
    "My encoder": ["plan.patch=[32,32]", "model.decoder.base_features=4"],
}
"""What makes a step of a section's trainings quick; the encoder stays that of its file."""


@pytest.fixture(scope="module")
def drawn(cache: Path) -> Path:
    """The folders of ``scripts/draw_folders.py``, with fewer and smaller cases."""
    folders, root = script("draw_folders"), cache / "drawn"
    folders.draw_abdomen(root / "abdomen", n_cases=5, n_new=1, shape=(16, 19, 14))
    folders.draw_wetland(root / "wetland", n_tiles=5, n_new=1, shape=(64, 72))
    folders.draw_cities(root / "cities", n_scenes=5, n_new=1, shape=(64, 72))
    folders.write_encoder(root / "encoder.safetensors")
    return root


def walked(text: str, section: str) -> Iterator[tuple[str, DictConfig]]:
    """What a command of a path comes to: the name of the command, and its configuration, of each job."""
    name = text.split()[0].removeprefix("medseg-")
    for number, job in enumerate(jobs(overrides_of(text))):
        more: list[str] = []
        if name == "train":
            more = [*ONE_STEP, *SHRUNK[section], "logger=csv", "callbacks={}"]
            more = [w for w in more if w != "data.n_folds=3"]
        if " -m " in text:
            job = [f"{w}/{number}" if w.startswith("run_dir=") else w for w in job]
        yield name, compose(name, [*job, *more])


@pytest.mark.parametrize("section", SECTIONS)
def test_path_ends_with_predictions_and_a_report(
    section: str, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in drawn.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEG_CACHE", str(tmp_path / "cache"))
    texts = [c.text for c in COMMANDS if c.path and c.section == section]
    assert 3 <= len(texts) <= 5
    for text in texts:
        for name, cfg in walked(text, section):
            if name == "train":
                run_dir = train(cfg)
                assert (run_dir / "report.html").stat().st_size > 1000
            elif name == "predict":
                inputs = [p.name for p in Path(cfg.input).iterdir()]
                assert [p.name for p in predict(cfg)] == sorted(inputs)
            else:
                result = evaluate(cfg)
                assert (Path(cfg.output) / "report.html").stat().st_size > 1000
                assert len(result["classes"]) == len([n for n in cfg.names if n not in ("background", "ignore")])
        if " -m " in text:
            compared = comparison.compare(comparison.read_runs(run_dir.parent))
            assert len(compared["arms"]) > 1


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


@pytest.mark.slow
@pytest.mark.parametrize("text", shown("python"))
def test_benchmark_runs(text: str) -> None:
    pytest.skip(f"takes up to an hour, most on a real data set; run it by hand: {text}")


@pytest.mark.parametrize("text", shown("bash"))
def test_shell_script_is_sound(text: str) -> None:
    path = ROOT / shlex.split(text)[1]
    subprocess.run(["bash", "-n", path], check=True)
    assert not [w for w in shlex.split(text)[2:] if w != "…" and "=" not in w]


@pytest.mark.parametrize("text", shown("make"))
def test_make_knows_the_target(text: str) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
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
    assert json.loads((tmp_path / "demo/scores/metrics.json").read_text())["summary"]["dice"]["mean"] > 0.8


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


def test_sections_of_the_paths_are_those_of_the_script() -> None:
    walks = re.findall(r'^walk "(.+)"$', (ROOT / "scripts/first_hour.sh").read_text(), re.MULTILINE)
    assert walks == SECTIONS == ["My volumes", "My scenes", "My encoder"]


def test_folders_are_drawn_as_they_are_shown(drawn: Path) -> None:
    """Every folder and file of the README's trees that is named in full lies where the tree says."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    trees = [block for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if "├──" in block]
    assert len(trees) == 3
    for tree in trees:
        top = tree.split("\n", 1)[0].strip("/. ")
        folders = [(0, top)] if top else [(0, "")]
        for line in tree.splitlines()[1:]:
            depth, name = len(re.match(r"[│ ├└─]*", line)[0]) // 4, re.sub(r"^[│ ├└─]*", "", line)
            folders = [f for f in folders if f[0] < depth]
            path = "/".join([*(f for _, f in folders if f), re.split(r"[/ ]", name)[0]])
            assert (drawn / path).exists(), path
            folders.append((depth, re.split(r"[/ ]", name)[0]))
