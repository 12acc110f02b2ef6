"""Instances: what a configuration names, built; the only place that calls Hydra for it."""

from __future__ import annotations

from typing import Any

import hydra.utils
from hydra.errors import InstantiationException

from medseg.errors import InputError


def instantiate(config: Any, *args: Any, **given: Any) -> Any:
    """Build what ``config._target_`` names; a setting that it does not take is bad input.

    Raises:
        InputError: No such class, or unknown settings.
    """
    try:
        return hydra.utils.instantiate(config, *args, **given)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        if isinstance(cause, (TypeError, ImportError, AttributeError)) or "Error locating target" in str(error):
            raise InputError(
                f"{config.get('_target_')} can't be built: {cause or error}; check its settings"
            ) from error
        raise
