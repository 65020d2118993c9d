"""How much a network's outputs change when images are shifted, turned or mirrored.

`shifts` moves images, `measures` compares maps and logits, `agreement` compares
predictions, `networks` opens the networks to measure, and `report` writes the results.
"""
