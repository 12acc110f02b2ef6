import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medseg.methods.val_patches import fixed_patches

LABEL = np.zeros((20, 16), np.int64)
LABEL[3, 12] = LABEL[18, 1] = 2


def test_first_patch_holds_foreground_that_counts() -> None:
    counted = np.ones_like(LABEL, dtype=bool)
    counted[3, 12] = False
    for name in "abcdef":
        first, *_ = fixed_patches(LABEL, counted, (4, 4), 3, name=name)
        assert LABEL[first][2, 1] == 2, "around the centre as near as the border allows"


def test_patches_are_a_function_of_the_name() -> None:
    counted = np.ones_like(LABEL, dtype=bool)
    first = fixed_patches(LABEL, counted, (4, 4), 4, name="a")
    assert first == fixed_patches(LABEL, counted, (4, 4), 4, name="a")
    assert first != fixed_patches(LABEL, counted, (4, 4), 4, name="b")


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3), st.integers(1, 5))
def test_patches_lie_inside_and_differ(sides: list[tuple[int, int]], n: int) -> None:
    shape, patch = zip(*sides, strict=True)
    label = np.ones(shape, np.int64)
    cuts = fixed_patches(label, label > 0, patch, n, name="a")
    assert 1 <= len(cuts) <= n
    assert len({str(cut) for cut in cuts}) == len(cuts)
    for cut in cuts:
        assert label[cut].shape == tuple(min(p, s) for p, s in zip(patch, shape, strict=True))
