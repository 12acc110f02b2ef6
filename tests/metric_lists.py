"""Names of the metrics that the tests score with: those of the options of ``conf/metric``, and all there are."""

from medseg.evaluation.presets import metric_settings
from medseg.metrics.registry import builtin

VOLUME_METRICS = tuple(metric_settings("full")["metrics"])
SCENE_METRICS = tuple(metric_settings("scene")["metrics"])
METRICS = tuple(name for name, cls in builtin().items() if not cls.needs_prob)
