"""Chips that are not here: compile an experiment's programs for one, and count.

XLA compiles for a TPU or an NVIDIA GPU on a machine without one. What a program moves
through memory and computes can then be read in it, and bounds how fast it can be.
"""
