"""Judge predictions of labeled images: measures, intervals, calibration, comparisons.

`evaluate` drives it for runs. All else computes with NumPy on `Predictions`, wherever
they come from.
"""
