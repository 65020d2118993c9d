"""How much a network's answers change where images are shifted, turned or mirrored.

`shifts` moves images, `measures` compares maps and logits, `agreement` compares
predictions, `networks` has what is measured, and `report` writes what was found.
"""
