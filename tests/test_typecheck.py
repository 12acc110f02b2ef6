"""The types of medseg are checked in the tests; the code of other packages is compiled as ever."""

import importlib.util
from pathlib import Path

import jaxtyping
import lightning
import pytest
import torch

from medseg.losses import dice
from medseg.runtime import provenance
from medseg.sample import Channel
from tests.typecheck import code_of


def test_another_type_or_shape_is_an_error() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        dice.soft_dice(torch.zeros(1, 2, 4), torch.zeros(1, 2, 3), torch.ones(1, 4, dtype=torch.bool))


def test_what_has_no_array_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="_version"):
        provenance._version(3)  # type: ignore[arg-type]
    with pytest.raises(jaxtyping.TypeCheckError):
        Channel(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"git_state\(\) got an unexpected keyword argument 'colour'"):
        provenance.git_state(Path(), colour=3)  # type: ignore[call-arg]
    monkeypatch.setattr(provenance.metadata, "version", lambda name: 3)
    with pytest.raises(jaxtyping.TypeCheckError, match=r"provenance\._version returned"):
        provenance._version("of no package")


def test_only_medseg_has_compiled_code_with_checks() -> None:
    assert code_of("a", lightning.__file__) == importlib.util.cache_from_source(lightning.__file__)
    assert code_of("a", dice.__file__) != importlib.util.cache_from_source(dice.__file__)
    assert code_of("a", dice.__file__) != code_of("b", dice.__file__)
