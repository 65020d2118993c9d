"""Studies: many runs that answer one question about models, without a choice.

A study trains every model at every value of one field with several seeds. `KINDS` in
`study.py` has a row for each.
"""
