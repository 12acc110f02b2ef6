"""The types of medseg are checked in the tests; the code of other packages is compiled as ever."""

import importlib.util

import jaxtyping
import lightning
import pytest
import torch

from medseg.losses import dice
from tests.typecheck import code_of


def test_another_type_or_shape_is_an_error() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        dice.soft_dice(torch.zeros(1, 2, 4), torch.zeros(1, 2, 3), torch.ones(1, 4, dtype=torch.bool))


def test_only_medseg_has_compiled_code_with_checks() -> None:
    assert code_of("a", lightning.__file__) == importlib.util.cache_from_source(lightning.__file__)
    assert code_of("a", dice.__file__) != importlib.util.cache_from_source(dice.__file__)
    assert code_of("a", dice.__file__) != code_of("b", dice.__file__)
