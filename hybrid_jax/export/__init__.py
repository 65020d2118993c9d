"""Trained networks in files that other programs run, without this package.

`program.py` is what is exported, `about.py` is what is said of it, and each format has
a file, which writes and reads it. `FORMATS` in `formats.py` lists them. `export.py`
writes one, and `check.py` compares what it reads back with the run itself.
"""
