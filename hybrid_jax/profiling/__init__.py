"""Measures an experiment's speed: how fast it trains, and where the time goes.

It runs the programs of `training`, and writes to no workdir.
"""
