"""Whether a training sends scores elsewhere; imports no library of its own."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf


def online(cfg: DictConfig) -> bool:
    """Whether any logger sends scores elsewhere while the training runs."""
    return any(OmegaConf.is_dict(entry) and not entry.get("offline", True) for entry in cfg.logger.values())
