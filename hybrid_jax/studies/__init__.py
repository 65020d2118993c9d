"""Studies: many runs that answer one question about models.

A study trains every model at every value of one field with several seeds, and chooses
nothing by the results. `KINDS` in `study.py` has a row for each kind of study.
"""
