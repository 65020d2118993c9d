"""Inspection of a data set before training: counts, problems and pictures.

Only `features` imports models and runs, when a run is given.
"""
