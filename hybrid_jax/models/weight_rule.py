"""The rule for which parameters are weights; the rest are scales, biases and tables.

A weight multiplies activations: matrix products, convolutions, the `qkv` of local
attention. Weights decay, and may be sharded over devices. Every array of two dimensions
or more is a weight, except the tables below; its name need not be `kernel`.
"""

# Tables are added to activations, or looked up by an offset.
TABLES = {"bias_table", "column_embedding", "position_embedding", "row_embedding"}


def is_weight(name: str, ndim: int) -> bool:
    """Return whether a parameter is a weight.

    Args:
      name: the last part of its path, such as `kernel`.
      ndim: number of dimensions; scales, biases and tokens have one.
    """
    return ndim >= 2 and name not in TABLES
