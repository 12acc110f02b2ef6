"""The tutorials end with predictions and a report, run as they stand there on small folders."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig

from medseg.cli.check import check
from medseg.evaluation.evaluate import evaluate
from medseg.hydra_app.compose import compose
from medseg.prediction.predict import predict
from medseg.sweeps import compare
from medseg.training.train import train
from tests.pages import PAGES, ROOT, commands, jobs, overrides_of
from tests.prepared import script
from tests.test_conf import ONE_STEP

TUTORIALS = [page for page in PAGES if page.startswith("docs/tutorials/")]
SHRUNK = {
    "docs/tutorials/volumes.md": ["plan.patch=[16,16,16]", "model.base_features=4"],
    "docs/tutorials/scenes.md": [
        "plan.patch=[32,32]",
        "model.encoder=tu-test_resnet",
        "model.decoder_channels=[16,16,16,16,16]",
    ],
    "docs/tutorials/encoder.md": ["plan.patch=[32,32]", "model.decoder.base_features=4"],
}
"""What makes a step of a tutorial's trainings quick; the encoder stays that of its file."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of ``scripts/draw_folders.py``, with fewer and smaller cases."""
    folders, root = script("draw_folders"), tmp_path_factory.mktemp("drawn")
    folders.draw_abdomen(root / "abdomen", n_cases=5, n_new=1, shape=(16, 19, 14))
    folders.draw_wetland(root / "wetland", n_tiles=5, n_new=1, shape=(64, 72))
    folders.draw_cities(root / "cities", n_scenes=5, n_new=1, shape=(64, 72))
    folders.write_encoder(root / "encoder.safetensors")
    return root


def walked(text: str, page: str) -> Iterator[tuple[str, DictConfig]]:
    """What a command of a path comes to: the name of the command, and its configuration, of each job."""
    name = text.split()[0].removeprefix("medseg-")
    small = [*ONE_STEP, *SHRUNK[page], "split.n_folds=5", "logger=csv", "callback={}"] if name == "train" else []
    for number, job in enumerate(jobs(overrides_of(text))):
        if " -m " in text:  # arms of one seed can be compared
            job = [f"{w}/{number}" if w.startswith("run_dir=") else w for w in [*job, "seed=0"]]
        yield name, compose(name, [*job, *small])


@pytest.mark.parametrize("page", TUTORIALS)
def test_path_ends_with_predictions_and_a_report(
    page: str, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in drawn.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEG_CACHE", str(tmp_path / "cache"))
    texts = [c.text for c in commands(PAGES[page]) if c.path]
    assert 3 <= len(texts) <= 5
    for text in texts:
        for name, cfg in walked(text, page):
            if name == "train":
                run_dir = train(cfg)
                assert (run_dir / "report.html").stat().st_size > 1000
            elif name == "check":
                assert not [finding for finding in check(cfg) if finding.severity == "error"]
                assert (Path(cfg.output) / "check.html").stat().st_size > 1000
            elif name == "predict":
                inputs = [p.name for p in Path(cfg.input).iterdir()]
                assert [p.name for p in predict(cfg)] == sorted(inputs)
            else:
                result = evaluate(cfg)
                assert (Path(cfg.output) / "report.html").stat().st_size > 1000
                assert len(result["classes"]) == len([n for n in cfg.names if n not in ("background", "ignore")])
        if " -m " in text:
            compared = compare.compare(compare.read_runs(run_dir.parent))
            assert len(compared["arms"]) > 1


def test_tutorials_are_those_of_the_script() -> None:
    walks = re.findall(r"^walk (.+)$", (ROOT / "scripts/first_hour.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(walks) == TUTORIALS == sorted(SHRUNK)


def test_folders_are_drawn_as_they_are_shown(drawn: Path) -> None:
    """Every folder and file of the trees in the tutorials that is named in full lies where the tree says."""
    pages = "\n".join(PAGES[page] for page in TUTORIALS)
    trees = [block for block in re.findall(r"```text\n(.*?)```", pages, re.DOTALL) if "├──" in block]
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
