"""Old class paths and keys are answered by today's, in whatever a file holds."""

import inspect

import pytest
from hydra._internal.utils import _locate

import medseg
from medseg.data.sampling.case_samplers import CaseSampler
from medseg.runtime import moved

OLD, NEW = "medseg.rooms.attic.Net", "medseg.models.unet.UNet"


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved, "CLASSES", {OLD: NEW})
    monkeypatch.setattr(moved, "GROUPS", {"old": "new"})


def test_classes_are_renamed_at_any_depth_and_keys_at_the_top() -> None:
    stored = {"old": [{"_target_": OLD, "inner": {"_target_": OLD, "old": 1}}], "model": {"name": OLD}}
    assert moved.updated(stored) == {
        "new": [{"_target_": NEW, "inner": {"_target_": NEW, "old": 1}}],
        "model": {"name": OLD},
    }
    assert stored["old"][0]["_target_"] == OLD, "what was given is not changed"


def test_values_that_nest_without_end_are_left_to_those_who_refuse_them() -> None:
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert len(moved.updated({"model": deep})["model"]) == 1
    doubled: list = []
    for _ in range(60):
        doubled = [doubled, doubled]
    assert len(moved.updated({"model": doubled})["model"]) == 2
    cycle: dict = {}
    cycle["self"] = [cycle, cycle]
    assert "self" in moved.updated({"model": cycle})["model"]


def test_keys_of_a_group_are_renamed_if_the_class_is_one_of_medseg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved, "KEYS", {"new.thaw": "new.gradual_unfreeze"})
    stored = {"old": {"_target_": OLD, "thaw": 0.5, "rank": 8}, "other": {"_target_": OLD, "thaw": 0.5}}
    updated = moved.updated(stored)
    assert updated["new"] == {"_target_": NEW, "gradual_unfreeze": 0.5, "rank": 8}
    assert list(updated["new"]) == ["_target_", "gradual_unfreeze", "rank"], "in their order"
    assert updated["other"] == {"_target_": NEW, "thaw": 0.5}
    own = {"new": {"_target_": "mine.Tuning", "thaw": 0.5}}
    assert moved.updated(own) == own, "a user's class has its own keys"
    assert stored["old"]["thaw"] == 0.5, "the argument is not changed"


@pytest.mark.parametrize(("option", "old"), [("mae", {"width": 96, "depth": 2, "normalise": True}), ("simmim", {})])
def test_a_stored_pretraining_has_todays_settings(option: str, old: dict) -> None:
    target = medseg.compose("train", f"method={option}").method._target_
    updated = moved.updated({"method": {"_target_": target, "share": 0.6, "block": 8, **old}})
    taken = inspect.signature(_locate(target)).parameters
    assert updated["method"].keys() - {"_target_"} <= taken.keys()
    assert (updated["method"]["mask_ratio"], updated["method"]["mask_patch_size"]) == (0.6, 8)


def test_a_target_that_is_no_word_stays() -> None:
    assert moved.updated({"model": {"_target_": 3}}) == {"model": {"_target_": 3}}


def test_every_old_class_leads_to_one_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for old, new in moved.CLASSES.items():
        assert callable(_locate(new)), f"{old} -> {new}"
        assert new not in moved.CLASSES, "one step leads to today's"
        assert new not in moved.GROUPS


SCENES = {
    "fold": 1, "n_folds": 4, "split_seed": 7, "split_file": None, "blocks": {"size": 8}, "runs": None, "gap": 2,
    "val_cases": ["a*"], "test_cases": None, "groups": None, "nonfinite": "mask", "lateral_axis": 1, "bands": [],
    "dates": {"slots": 6}, "store": False, "foreground_share": 0.2, "strategy": "class", "rarity": 0.7,
    "min_valid": 0.5, "n_labelled": 3, "steps_per_epoch": 30, "workers": 2, "steps": 500, "name": "own",
    "folder": "x", "n_dates": 6,
    "dataset": {
        "_target_": "my.Series", "_convert_": "all", "reading": {"_target_": OLD, "bands": []}, "root": "x", "dates": 6,
        "n_dates": 6, "steps": 4,
    },
}  # fmt: skip
"""``data`` of a training before format 3, whose dataset has arguments of its own and some of other names."""


def test_data_of_earlier_formats_is_split_up() -> None:
    stored = {"data": SCENES, "trainer": {"max_steps": 60, "devices": 1}, "seed": 0}
    before = repr(stored)
    assert moved.updated(stored) == {
        "data": {
            "nonfinite": "mask", "lateral_axis": 1, "bands": [], "dates": {"slots": 6}, "name": "own", "n_dates": 6,
            "_target_": "my.Series", "_convert_": "all", "root": "x", "steps": 4,
        },
        "split": {
            "fold": 1, "n_folds": 4, "seed": 7, "file": None, "val_cases": ["a*"], "test_cases": None,
            "blocks": {"size": 8}, "runs": None, "gap": 2, "n_labelled": 3,
        },
        "sampling": {
            "_target_": "medseg.data.sampling.case_samplers.ByClass", "foreground_fraction": 0.2, "min_valid": 0.5,
            "class_balance_exponent": 0.7,
        },
        "loader": {"workers": 2, "store": False},
        "trainer": {"max_steps": 60, "steps_per_epoch": 30, "devices": 1},
        "seed": 0,
    }  # fmt: skip
    assert repr(stored) == before, "what was given is not changed"


def test_what_was_split_up_stays() -> None:
    now = moved.updated({"data": SCENES, "trainer": {}})
    assert moved.updated(now) == now
    own = {"data": {"_target_": "my.Data", "fold": 3, "dataset": {"_target_": "x"}}, "split": {"fold": 0}}
    assert moved.updated(own) == own


def test_volumes_had_fewer_keys() -> None:
    data = {"fold": 0, "strategy": "case", "rarity": 0.5, "dataset": {"_target_": "my.Data", "root": "x"}}
    now = moved.updated({"data": data})
    assert now["sampling"] == {"_target_": "medseg.data.sampling.case_samplers.ByCase"}
    assert now["split"] == {"fold": 0, "blocks": None, "runs": None, "gap": 0}
    assert now["loader"] == {"store": True}


@pytest.mark.parametrize("data", [3, {"dataset": 3, "strategy": ["class"]}, {"dataset": {3: 4}, 5: 6, "steps": []}])
def test_strange_data_is_left_to_those_who_refuse_it(data: object) -> None:
    assert "data" in moved.updated({"data": data, "trainer": 3})


def test_every_sampler_of_earlier_formats_exists() -> None:
    for path in moved._SAMPLERS.values():
        assert issubclass(_locate(path), CaseSampler)
