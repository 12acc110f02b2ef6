"""Which metrics label files are scored with: the options of ``conf/metric``."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from medseg.hydra_app.conf import conf_dir


def metric_settings(option: str) -> dict[str, Any]:
    """Settings of ``CaseScores`` of an option of ``conf/metric``.

    Args:
        option: Name of the option.

    Example:
        >>> metric_settings("overlap")["metrics"]
        ['dice', 'iou', 'precision', 'recall']
    """
    content: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "metric" / f"{option}.yaml"))
    return {key: value for key, value in content.items() if not key.startswith("_")}
