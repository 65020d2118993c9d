"""Measure the speed of an experiment: its throughput, and where the time goes.

It runs the programs of `engine` as a run does, and writes to no workdir.
"""
