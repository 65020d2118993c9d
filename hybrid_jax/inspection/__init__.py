"""Looks at a data set before a network does: counts, problems, pictures.

Imports data and config; `features` alone imports models and training, when asked for.
"""
