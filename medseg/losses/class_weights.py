"""Class weights from how many cells each class has, so that frequent classes do not decide alone what is learned."""

from collections.abc import Mapping
from statistics import median

POWERS: Mapping[str, float] = {"auto": 0.5, "median_frequency": 1.0}
"""Words that stand for weights from the data -> power of the frequency."""


def balanced(cells: Mapping[str, int], power: float) -> dict[str, float]:
    r"""Weight of each class, to four digits.

    .. math:: w_k = (\operatorname{median}_j f_j / f_k)^q

    with f the frequency of a class among the cells of all training cases: the class of median frequency weighs 1,
    rarer ones more. Power q = 1 lets all classes weigh the same in total; 1/2 is the inverse square root of the
    frequency, a compromise that does not let a few cells of a rare class decide. A class without cells weighs 1, and
    does not count in the median.

    Args:
        cells: Cells of each class, by name.
        power: The power q.

    References:
        Eigen and Fergus, Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale Convolutional
        Architecture, 2015 (median frequency, of the images that have the class; here of all).

    Example:
        >>> balanced({"background": 8100, "liver": 900, "tumour": 100, "cyst": 0}, 0.5)
        {'background': 0.3333, 'liver': 1.0, 'tumour': 3.0, 'cyst': 1.0}
    """
    middle = median([n for n in cells.values() if n > 0] or [1])
    return {name: float(f"{(middle / n) ** power:.4g}") if n > 0 else 1.0 for name, n in cells.items()}
