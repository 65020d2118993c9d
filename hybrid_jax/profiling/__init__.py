"""Measure the speed of an experiment: its throughput, and where the time goes.

It calls the programs of a run (`programs`), and writes to no workdir.
"""
