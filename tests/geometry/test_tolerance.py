import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.geometry.tolerance import checked_tolerance, way_out


@pytest.mark.parametrize("value", [0, 0.01, 1, 1.0])
def test_tolerances_up_to_a_voxel(value: float) -> None:
    assert checked_tolerance(value, "grid_tolerance") == value


@pytest.mark.parametrize("value", [61, 1.01, -0.1, math.nan, math.inf, "a", None, True])
def test_other_tolerances_are_refused(value: object) -> None:
    with pytest.raises(
        InputError, match=rf"^data\.grid_tolerance={value}: expected a displacement of 0 to 1 voxels; .*copy"
    ):
        checked_tolerance(value, "data.grid_tolerance")


@given(st.floats(1e-6, 1e6))
def test_what_is_advised_is_accepted_and_suffices(offset: float) -> None:
    advice = way_out(offset, "key")
    assert ("key=" in advice) == (offset <= 1)
    if offset <= 1:
        assert offset <= checked_tolerance(float(advice.split("key=")[1].split(";")[0]), "key") * (1 + 1e-5)
