"""Export trained networks to files that other programs run without this package.

`program.py` has the program that is exported, `about.py` its description, and each
format a file that writes and reads it. `FORMATS` in `formats.py` lists the formats.
`export.py` writes one, and `check.py` compares the file with the run itself.
"""
