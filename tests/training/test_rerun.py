"""A run is repeated from its folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.training import rerun


def earlier(folder: Path, **changes: Any) -> Path:
    from omegaconf import OmegaConf

    cfg = compose("train", ["seed=7", f"run_dir={folder}", "cache_dir=old", "ckpt_path=old.ckpt", "optimizer.lr=0.5"])
    stored: Any = OmegaConf.to_container(cfg, resolve=True)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(stored | changes))
    return folder


def repeated(folder: Path, *words: str) -> Any:
    words = (f"rerun={folder}", *words)
    return rerun.configuration(compose("train", ["cache_dir=new", *words]), ["cache_dir=new", *words])


def test_settings_are_those_of_the_earlier_run(tmp_path: Path) -> None:
    cfg = repeated(earlier(tmp_path / "a"))
    assert (cfg.seed, cfg.optimizer.lr, cfg.name) == (7, 0.5, "phantom_volumes")
    assert (cfg.ckpt_path, cfg.rerun, cfg.cache_dir) == (None, None, "new")
    assert Path(cfg.run_dir).parent == Path("runs/phantom_volumes")


def test_single_keys_may_differ(tmp_path: Path) -> None:
    cfg = repeated(earlier(tmp_path / "a"), "seed=9", "trainer.max_steps=3", f"run_dir={tmp_path}/b")
    assert (cfg.seed, cfg.trainer.max_steps, cfg.run_dir) == (9, 3, f"{tmp_path}/b")


@pytest.mark.parametrize("word", ["model=unet_tiny", "data=volumes", "optimizer.lrr=1"])
def test_options_and_unknown_keys_are_refused(tmp_path: Path, word: str) -> None:
    folder = earlier(tmp_path / "a")
    key = word.partition("=")[0]
    cfg = compose("train", [f"rerun={folder}"])
    with pytest.raises(InputError, match=rf"{key}: is no single key of .*config\.yaml"):
        rerun.configuration(cfg, [f"rerun={folder}", word])


def test_keys_of_a_newer_version_have_their_defaults(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a")
    stored = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    del stored["monitor"]
    (folder / "config.yaml").write_text(yaml.safe_dump(stored))
    assert repeated(folder).monitor is None


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            {"_target_": "os.system", "command": "touch MARK"},
            r"loss\._target_=os\.system: medseg's own options name no",
        ),
        ({"_target_": "torch.optim.AdamW", "a": {"_target_": "builtins.eval"}}, r"loss\.a\._target_=builtins\.eval"),
        ({"_target_": "torch.optim.AdamW", "_args_": [1]}, r"loss\._args_: is no setting"),
        ({"lr": "${oc.env:HOME}"}, r"loss\.lr=.*no interpolations"),
    ],
)
def test_a_configuration_from_elsewhere_builds_what_options_name_only(
    tmp_path: Path, part: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        repeated(earlier(tmp_path / "a", loss=part))


def test_own_classes_need_trust(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a", loss={"_target_": "mine.losses.Own"})
    with pytest.raises(InputError, match=r"add trust=\[mine\]"):
        repeated(folder)
    assert repeated(folder, "trust=[mine]").loss._target_ == "mine.losses.Own"


@pytest.mark.parametrize("group", ["metric", "loss"])
@pytest.mark.parametrize("entry", ["mine.metrics.Own", {"_target_": "mine.metrics.Own", "power": 2}])
def test_own_metrics_need_trust_wherever_they_are_listed(tmp_path: Path, group: str, entry: Any) -> None:
    """A plain text would be imported by the metrics, as a ``_target_`` is by Hydra."""
    part = {"_target_": "medseg.metrics.accumulate.CaseScores", "metrics": ["dice", entry]}
    folder = earlier(tmp_path / "a", **{group: part})
    with pytest.raises(InputError, match=rf"{group}\.metrics.*=mine\.metrics\.Own: .* add trust=\[mine\]"):
        repeated(folder)
    assert repeated(folder, "trust=[mine]")[group].metrics[0] == "dice"
    single = earlier(tmp_path / "b", **{group: part | {"metrics": "mine.metrics.Own"}})
    with pytest.raises(InputError, match=r"add trust=\[mine\]"):
        repeated(single)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "has no config.yaml"), ("a: [", "is no valid YAML"), ("a: 1", "is not the configuration of a training")],
)
def test_what_is_no_run(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=words):
        repeated(tmp_path)


def run(folder: Path, dice: float, **provenance: Any) -> Path:
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"summary": {"dice": {"mean": dice}}}))
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


def test_what_differs_is_listed(tmp_path: Path) -> None:
    one = run(tmp_path / "a", 0.5, packages={"torch": "2.1", "numpy": "2"}, data={"digest": "x"}, medseg="0.1")
    other = run(tmp_path / "b", 0.6, packages={"torch": "2.2", "numpy": "2"}, data={"digest": "y"}, medseg="0.1")
    assert rerun.differences(one, other) == [
        "libraries differ: torch 2.1 then, 2.2 now",
        "the data differ in content (digest in provenance.json)",
        "scores differ: dice 0.5 then, 0.6 now",
    ]


def test_an_equal_run(tmp_path: Path) -> None:
    one, other = (run(tmp_path / name, 0.5, medseg="0.1") for name in "ab")
    assert rerun.differences(one, other) == ["all scores are those of the earlier run"]
