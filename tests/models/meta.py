"""Networks in their real size, without memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch import nn


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Parameters of modules that are built have no memory; everything else is computed."""
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, None if parameter is None else nn.Parameter(parameter.to("meta")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "register_parameter", register_on_meta)
        yield
