"""The public names: which they are, where they lead, and that importing them costs nothing."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import medseg

PUBLIC = {
    "IGNORE", "Batch", "Case", "CaseMetric", "Channel", "ClassMetric", "CountMetric", "DataSpec", "Dataset",
    "Decoder", "EmptyPolicy", "Encoder", "FilePredictor", "Grid", "InputError", "LabelTable", "Method", "Metric",
    "Network", "Plan", "Predictor", "Run", "Sample", "__version__", "assemble", "check", "compose", "evaluate",
    "load", "plan", "predict", "select", "train",
}  # fmt: skip
VERBS = {"train", "predict", "evaluate", "plan", "check", "select"}


def test_the_public_names_are_these() -> None:
    assert set(medseg.__all__) == PUBLIC
    assert set(dir(medseg)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(medseg, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)


def test_importing_medseg_imports_no_large_library() -> None:
    large = ("torch", "lightning", "monai", "numpy", "hydra", "omegaconf")
    code = f"import sys, medseg; print([name for name in {large} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_another_name_is_told() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'trian'; its public names are in medseg\.__all__"):
        _ = medseg.trian  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_verb_takes_words_and_tells_of_misspelt_ones(verb: str) -> None:
    with pytest.raises(medseg.InputError, match=r"dta\.root is no key of the configuration"):
        getattr(medseg, verb)("dta.root=x")


def test_the_package_is_typed() -> None:
    assert (Path(medseg.__file__).parent / "py.typed").is_file()


def test_words_and_a_configuration_do_the_same(tmp_path: Path) -> None:
    words = ["data=phantom_volumes", "data.n_cases=3", "data.shape=[20,22,18]", f"cache_dir={tmp_path}/cache"]
    plans = [
        medseg.plan(*words, f"output={tmp_path}/words.yaml"),
        medseg.plan(medseg.compose("plan", *words, f"output={tmp_path}/config.yaml")),
    ]
    assert plans[0].read_text() == plans[1].read_text()
