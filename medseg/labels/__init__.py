"""What label values mean: raw file value -> class -> training index -> saved value -> colour."""

from medseg.labels.classes import IGNORE, LabelClass, Region
from medseg.labels.laterality import Laterality, laterality
from medseg.labels.lookup import nearly_integral
from medseg.labels.table import LabelTable

__all__ = ["IGNORE", "LabelClass", "LabelTable", "Laterality", "Region", "laterality", "nearly_integral"]
