"""No function is more complex than 12."""

from pathlib import Path

from tests.prepared import script

measure_code = script("measure_code")
CEILING = 12


def test_no_function_is_more_complex_than_the_ceiling() -> None:
    above = measure_code.complex_functions(measure_code.Code(Path(__file__).parents[1]), CEILING)
    assert not above, f"split these into steps, {CEILING} at most: {above}"
