"""Bound the speed of an experiment on chips that this machine lacks.

XLA compiles for a TPU or an NVIDIA GPU on a machine without one. The compiled program
shows how many bytes it moves and how much it computes, which bounds its speed.
"""
