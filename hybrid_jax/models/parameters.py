"""Which parameters are weights, and which are scales, biases and tables.

A weight multiplies activations: products, convolutions, the `qkv` of local attention.
It decays, and devices may each keep a part of it. No layer has to call its weight
`kernel`: every array of two dimensions or more is one, but for the tables below.
"""

# Added to activations, or looked up by an offset.
TABLES = {"bias_table", "column_embedding", "position_embedding", "row_embedding"}


def is_weight(name: str, ndim: int) -> bool:
    """Whether a parameter is a weight.

    Args:
      name: the last part of its path, such as `kernel`.
      ndim: its dimensions; scales, biases and tokens have one.
    """
    return ndim >= 2 and name not in TABLES
