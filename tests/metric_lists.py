"""Names of the metrics that the tests score with: those of the options of ``conf/metric``, and all there are."""

from medseg.errors import InputError
from medseg.evaluation.presets import metric_settings
from medseg.metrics.registry import builtin

VOLUME_METRICS = tuple(metric_settings("full")["metrics"])
SCENE_METRICS = tuple(metric_settings("scene")["metrics"])


def installed(name: str) -> bool:
    """Whether a metric can be measured here, without an optional package."""
    try:
        builtin()[name]().check()
    except InputError:
        return False
    return True


METRICS = tuple(name for name, cls in builtin().items() if not cls.needs_prob and installed(name))
