"""No function is more complex than 12, but for those of a list that only gets shorter."""

from pathlib import Path

from tests.prepared import script

measure_code = script("measure_code")
ROOT = Path(__file__).parents[1]
CEILING = 12
LISTED = dict(
    line.rsplit(" ", 1) for line in (ROOT / "tests/complex_functions.txt").read_text(encoding="utf-8").splitlines()
)
"""Complexity of the functions that may be more complex, none of which may become more so."""
FOUND = dict(line.rsplit(" ", 1) for line in measure_code.complex_functions(measure_code.Code(ROOT), CEILING))


def test_no_function_is_more_complex_than_the_ceiling_or_than_listed() -> None:
    above = [f"{key}: {n}" for key, n in FOUND.items() if int(n) > int(LISTED.get(key, CEILING))]
    assert not above, f"split these into steps, {CEILING} at most: {above}"


def test_the_list_has_no_function_that_became_simpler() -> None:
    simpler = [f"{key}: {n}, now {FOUND.get(key, 'gone')}" for key, n in LISTED.items() if FOUND.get(key) != n]
    command = f"python scripts/measure_code.py . --above {CEILING} > tests/complex_functions.txt"
    assert not simpler, f"shorten the list by {command}: {simpler}"
