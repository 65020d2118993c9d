"""Looks at a data set before a network does: counts, problems, pictures.

Imports data and config, never models or training.
"""
