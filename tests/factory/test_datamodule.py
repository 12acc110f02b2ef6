"""How patches are drawn, from the keys of ``sampling``."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.data.sampling.case_samplers import ByArea, ByCase, ByClass, ByGroup, CaseSampler
from medseg.errors import InputError
from medseg.factory.datamodule import build_sampling
from medseg.hydra_app.compose import compose
from tests.data.sampling.test_patches import Drawn


class Last(CaseSampler):
    """A sampler of the user: the last case, always."""

    def __init__(self, cases: Any, *, seed: int, labelled: bool = True, back: int = 1) -> None:
        del seed, labelled
        self.index = len(cases) - back

    def choose(self, rng: Any, position: int, *, forced: bool) -> tuple[int, str | None]:
        return self.index, None


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ([], ByCase),
        (["data=phantom_scenes"], ByClass),
        (["data=phantom_scenes", "sampling=area"], ByArea),
        (["experiment=msd03_liver", "data.root=x"], ByClass),
        (["experiment=burned_area", "data.root=x"], ByArea),
        (["experiment=burned_area", "data.root=x", "sampling=group"], ByGroup),
    ],
)
def test_the_data_chooses_the_sampler_unless_an_experiment_or_the_command_does(words: list[str], kind: type) -> None:
    made: Any = build_sampling(compose("train", words).sampling, 2, labelled=True)
    assert made.sampler.func is kind


def test_the_data_chooses_split_and_budget_unless_the_command_does() -> None:
    assert compose("train", ["data=loveda", "data.root=x"]).split.val_cases == ["val_*"]
    assert compose("train", ["data=loveda", "data.root=x", "split=folds"]).split.val_cases is None
    assert compose("train", []).trainer.max_steps == 1000
    assert compose("train", ["data=nnunet", "data.root=x"]).trainer.max_steps == 25000
    assert compose("train", ["trainer=ddp"]).trainer.max_steps == 25000


def test_settings_of_the_sampler_and_of_the_patches_are_told_apart() -> None:
    words = ["sampling=class", "sampling.class_balance_exponent=0.2", "sampling.foreground_fraction=0.4"]
    made: Any = build_sampling(compose("train", words).sampling, 2, labelled=True)
    assert made.sampler.keywords == {"class_balance_exponent": 0.2}
    assert (made.foreground_fraction, made.labelled) == (0.4, True)


@pytest.mark.parametrize(("least", "ndim", "expected"), [("auto", 2, 0.5), ("auto", 3, 0.0), ("0.3", 3, 0.3)])
def test_how_much_must_be_valid_depends_on_the_axes(least: str, ndim: int, expected: float) -> None:
    cfg = compose("train", [f"sampling.min_valid={least}"])
    assert build_sampling(cfg.sampling, ndim, labelled=True).min_valid == expected


def test_without_labels_no_foreground_is_asked_for() -> None:
    made = build_sampling(compose("train", []).sampling, 2, labelled=False)
    assert (made.foreground_fraction, made.labelled) == (0.0, False)


def test_a_sampler_of_the_user_is_built_from_its_class_path(tmp_path: Path) -> None:
    (tmp_path / "sampling").mkdir()
    (tmp_path / "sampling/last.yaml").write_text(f"_target_: {__name__}.Last\nback: 2\n")
    cfg = compose("train", ["sampling=last"], config_dir=tmp_path)
    made = build_sampling(cfg.sampling, 3, labelled=True)
    assert isinstance(made.sampler, partial)
    chosen = made.case_sampler([Drawn("a", 1)] * 5, 0).choose(np.random.default_rng(0), 0, forced=False)
    assert chosen == (3, None)
    assert (made.foreground_fraction, made.min_valid) == (0.33, 0.0)


def test_a_setting_that_the_sampler_does_not_take_is_refused() -> None:
    cfg = compose("train", ["+sampling.class_balance_exponent=1"])
    with pytest.raises(InputError, match=r"^sampling can't be built: \S+ByCase: .*'class_balance_exponent'"):
        build_sampling(cfg.sampling, 3, labelled=True)
