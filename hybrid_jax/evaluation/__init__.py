"""Judge predictions of labeled images: measures, intervals, calibration, comparisons.

`evaluate` drives it for runs. The other modules compute with NumPy on `Predictions`
from any source.
"""
