"""Python and the command line evaluate by the same defaults."""

from pathlib import Path

from omegaconf import OmegaConf

from medseg.evaluation.cells import RasteriseOptions
from medseg.evaluation.options import EvaluationOptions
from medseg.evaluation.presets import metric_settings
from medseg.metrics.registry import builtin, resolve, setting_keys

CONF = OmegaConf.load(Path(__file__).parents[2] / "conf" / "evaluate.yaml")


def test_arguments_have_the_values_of_the_keys() -> None:
    options = EvaluationOptions()
    for key in ("images", "valid", "ignore", "scores", "metrics", "missing", "grid_tolerance"):
        assert getattr(options, key) == CONF[key], key
    assert options.shapes == RasteriseOptions(CONF.attribute, CONF.layer, CONF.all_touched)


def test_settings_of_metrics_have_the_values_of_the_keys() -> None:
    for key, name in setting_keys().items():
        if builtin()[name].needs_prob:
            continue  # label files have no probabilities, so the command has no such key
        assert resolve([name], {key: CONF[key]}) == (builtin()[name](),), key
        for preset in ("full", "scene"):
            assert metric_settings(preset).get(key, CONF[key]) == CONF[key], (preset, key)
