"""The data doctor: one pass over a dataset that finds what would go wrong in a training, with the fix for each."""

from medseg.doctor.examine import examine as examine
from medseg.doctor.examine import fast as fast
from medseg.doctor.finding import Finding as Finding
